"""What the log tells of owners that died, so that what kills its owner is found and kept from the next one (R13).

Rules of this file: an owner that stopped in order, or lived for long, has not died of anything here; two claims of one process
are no death. Instances that were to be tried when an owner died are suspects; one that was tried alone, three times, is poison.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .shape import Shape

CARE_MS = 120_000
"""An owner that lived for longer than this between its claim and the next one did not die of what it found there."""
SHORT_LIVES_MAX = 2
LONE_DEATHS_MAX = 3
"""Two would do for killers; but owners are killed from outside as well, and then whoever is tried just then is innocent."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often an owner died while it tried an instance: among others, and alone."""

    among: int = 0
    alone: int = 0


@dataclass(slots=True)
class Deaths:
    """Folded from claims, attempts and turns. `short_lives` counts owners in a row that died soon after their claim."""

    owner: str = ""
    claimed_ms: int = 0
    claims_since: int = 0
    short_lives: int = 0
    tries: dict[str, Tries] = field(default_factory=dict[str, Tries])
    trying: tuple[str, ...] = ()
    trying_epoch: int = -1

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
        return self.tries[instance_id].alone >= LONE_DEATHS_MAX

    def take_claim(self, owner: str, time_ms: int, *, released: bool) -> None:
        """`released`: the record before this claim, other claims apart, is the last one of an owner that stopped in order."""
        if (released and not self.claims_since) or time_ms - self.claimed_ms > CARE_MS:
            self.short_lives = 0
        elif owner != self.owner:
            self.short_lives += 1
        else:
            self._survive(self.trying_epoch)  # its epoch ended, and it lives
        self.owner, self.claimed_ms = owner, time_ms
        self.claims_since += 1

    def take_attempt(self, epoch: int, instances: Sequence[str]) -> None:
        """The owner is about to try these; those that it tried before have survived."""
        self._survive(epoch)
        alone = len(instances) == 1
        for name in instances:
            before = self.tries.get(name, Tries())
            self.tries[name] = Tries(before.among + (not alone), before.alone + alone)
        self.trying, self.trying_epoch = tuple(instances), epoch

    def take_body(self, epoch: int, instance_id: str, *, decided: bool, released: bool) -> None:
        """One TURN, PARTITION or FORGOTTEN record. `decided`: the instance's code ran, or there will be no more of it."""
        self.claims_since = 0
        if decided:
            self.tries.pop(instance_id, None)
        if released:
            self._survive(epoch)

    def _survive(self, epoch: int) -> None:
        if epoch == self.trying_epoch:
            for name in self.trying:
                self.tries.pop(name, None)
        self.trying = ()

    def copy(self) -> "Deaths":
        return Deaths(
            self.owner,
            self.claimed_ms,
            self.claims_since,
            self.short_lives,
            dict(self.tries),
            self.trying,
            self.trying_epoch,
        )


def encode_deaths(deaths: Deaths) -> list[Any]:
    """As the store keeps it: a local format."""
    return [
        deaths.owner,
        deaths.claimed_ms,
        deaths.claims_since,
        deaths.short_lives,
        [[name, tries.among, tries.alone] for name, tries in deaths.tries.items()],
        list(deaths.trying),
        deaths.trying_epoch,
    ]


DEATHS: Shape = (str, int, int, int, [(str, int, int)], [str], int)


def decode_deaths(fields: list[Any]) -> Deaths:
    owner, claimed_ms, claims_since, short_lives, tries, trying, epoch = fields
    tried = {name: Tries(among, alone) for name, among, alone in tries}
    return Deaths(owner, claimed_ms, claims_since, short_lives, tried, tuple(trying), epoch)
