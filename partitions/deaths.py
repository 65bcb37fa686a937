"""What the log tells of owners that died, so that what kills its owner is found and kept from the next one (R13).

Rules of this file: an owner that stopped in order, or lived for long, has not died of anything here; who claims again lives, and what
it tried has survived. Instances that were to be tried when an owner died are suspects; one that was tried alone, three times, is poison.
A checkpoint states them, for whoever begins to read there (R15).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.schemas.events import ExecutionCompleted, ExecutionTerminated, HistoryEvent
from perdure.schemas.records import Tried, TurnBody

from .shape import Shape

CARE_MS = 120_000
"""An owner that lived for longer than this between its claim and the next one did not die of what it found there."""
SHORT_LIVES_MAX = 2
LONE_DEATHS_MAX = 3
"""Two would do for killers; but owners are killed from outside as well, and then whoever is tried just then is innocent."""


@dataclass(frozen=True, slots=True)
class Tries:
    """The owners that tried an instance, among others and alone, and were not seen since: they may have died of it."""

    among: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


@dataclass(slots=True)
class Deaths:
    """Folded from claims, attempts and turns. `short_lives` counts owners in a row that died soon after their claim."""

    owner: str = ""
    claimed_ms: int = 0
    claims_since: int = 0
    short_lives: int = 0
    tries: dict[str, Tries] = field(default_factory=dict[str, Tries])

    @classmethod
    def of_checkpoint(cls, owner: str, tried: Sequence[Tried]) -> "Deaths":
        """What a base states."""
        return cls(owner, tries={each.instance_id: Tries(each.among, each.alone) for each in tried})

    def tried(self) -> tuple[Tried, ...]:
        """As a checkpoint states it."""
        return tuple(Tried(name, tries.among, tries.alone) for name, tries in sorted(self.tries.items()))

    @property
    def careful(self) -> bool:
        """Whether the next owner has reason to expect its death."""
        return self.short_lives >= SHORT_LIVES_MAX or bool(self.suspects)

    @property
    def suspects(self) -> set[str]:
        """What may have killed its owner."""
        return {name for name in self.tries if not self.is_poison(name)}

    def is_poison(self, instance_id: str) -> bool:
        """Whether an instance did not survive, again and again, when nothing else was tried."""
        return len(self.tries[instance_id].alone) >= LONE_DEATHS_MAX

    def take_claim(self, owner: str, time_ms: int, *, released: bool) -> None:
        """`released`: the record before this claim, other claims apart, is the last one of an owner that stopped in order."""
        self._live(owner)
        if (released and not self.claims_since) or time_ms - self.claimed_ms > CARE_MS:
            self.short_lives = 0
        elif owner != self.owner:
            self.short_lives += 1
        self.owner, self.claimed_ms = owner, time_ms
        self.claims_since += 1

    def take_attempt(self, instances: Sequence[str]) -> None:
        """The owner is about to try these; those that it tried before have survived."""
        self._live(self.owner)
        for name in instances:
            before = self.tries.get(name, Tries())
            if len(instances) == 1:
                self.tries[name] = Tries(before.among, (*before.alone, self.owner))
            else:
                self.tries[name] = Tries((*before.among, self.owner), before.alone)

    def take_body(self, instance_id: str, body: TurnBody, *, forgotten: bool) -> None:
        """One TURN, PARTITION or FORGOTTEN record: the instance survived if its code ran, or will not run again."""
        self.claims_since = 0
        if self.tries and (body.decided or forgotten or any(map(_ends, body.events))):
            self.tries.pop(instance_id, None)
        if body.released:
            self._live(self.owner)

    def _live(self, owner: str) -> None:
        """It says something: what it tried has not killed it."""
        for name in [name for name, tries in self.tries.items() if owner in tries.among or owner in tries.alone]:
            del self.tries[name]

    def copy(self) -> "Deaths":
        return Deaths(self.owner, self.claimed_ms, self.claims_since, self.short_lives, dict(self.tries))


def _ends(event: HistoryEvent) -> bool:
    return isinstance(event, ExecutionTerminated) or (isinstance(event, ExecutionCompleted) and event.status.terminal)


def encode_deaths(deaths: Deaths) -> list[Any]:
    """As the store keeps it: a local format."""
    return [
        deaths.owner,
        deaths.claimed_ms,
        deaths.claims_since,
        deaths.short_lives,
        [[name, tries.among, tries.alone] for name, tries in deaths.tries.items()],
    ]


DEATHS: Shape = (str, int, int, int, [(str, [str], [str])])


def decode_deaths(fields: list[Any]) -> Deaths:
    owner, claimed_ms, claims_since, short_lives, tries = fields
    tried = {name: Tries(tuple(among), tuple(alone)) for name, among, alone in tries}
    return Deaths(owner, claimed_ms, claims_since, short_lives, tried)
