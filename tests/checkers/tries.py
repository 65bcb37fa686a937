"""C22: what the claims, attempts and turns of a partition hold against its instances, counted from its records a second time (R13)."""

from dataclasses import dataclass, field

from perdure.schemas.events import ExecutionCompleted, ExecutionTerminated
from perdure.schemas.records import RecordKind, Tried, TurnBody

from .reading import Entry

_Try = tuple[str, str, bool]
"""An instance, who tried it, and whether alone."""


@dataclass(slots=True)
class Tries:
    """One partition's: tries of which it is not known that somebody survived them."""

    owner: str = ""
    address: str = ""
    open: list[_Try] = field(default_factory=list[_Try])

    def take(self, entry: Entry) -> None:
        """The next record of the partition."""
        if entry.claim is not None:
            self.owner, self.address = entry.claim.owner, entry.claim.address
        if entry.claim is not None or entry.tried is not None or (entry.turn is not None and entry.turn.released):
            self._forgive({name for name, by, _ in self.open if by == self.owner})
        for name in entry.tried or ():
            self.open.append((name, self.owner, entry.tried == (name,)))
        if entry.turn is not None and (
            entry.turn.decided or entry.kind == RecordKind.FORGOTTEN or _has_ended(entry.turn)
        ):
            self._forgive({entry.instance_id})

    def _forgive(self, names: set[str]) -> None:
        self.open = [each for each in self.open if each[0] not in names]

    def stated(self) -> tuple[Tried, ...]:
        """As a checkpoint has to state them."""
        return tuple(
            Tried(
                name,
                tuple(by for each, by, alone in self.open if each == name and not alone),
                tuple(by for each, by, alone in self.open if each == name and alone),
            )
            for name in sorted({each[0] for each in self.open})
        )


def _has_ended(turn: TurnBody) -> bool:
    return any(
        isinstance(event, ExecutionTerminated) or (isinstance(event, ExecutionCompleted) and event.status.terminal)
        for event in turn.events
    )
