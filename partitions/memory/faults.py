"""What may go wrong with records on their way to the log in memory (R4): by dice, or by a script.

Rules of this file: the log asks once for each record, in the order of the sends, so one seed is one run.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from random import Random

HISTORY = "history"
INBOX = "inbox"
DEAD_LETTER = "dead-letter"
REPLIES = "replies"
SNAPSHOTS = "snapshots"


class Reporting(Enum):
    """What the sender hears of its record."""

    TRUE = "where it landed, or an error if it did not"
    ERROR = "an error, though it may have landed"
    NONE = "nothing, and nothing of what it sent after it"
    TWICE = "the truth, twice"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one record: after `delay` steps of the hub `copies` of it land. What its sender sent after it waits too."""

    delay: int = 0
    copies: int = 1
    report: Reporting = Reporting.TRUE


FINE = Fate()


class Faults:
    """No faults; subclasses override what they need."""

    def take_fate(self, topic: str, partition: int) -> Fate:
        """What becomes of the next record sent to `partition` of `topic`."""
        return FINE

    def take_refusal(self, topic: str, partition: int) -> bool:
        """Whether the next send finds the local queue full."""
        return False

    def take_late_landing(self, topic: str, partition: int) -> int | None:
        """After how many steps what a closed sender had on its way lands all the same; None: it is gone."""
        return None

    def take_gap(self, partition: int) -> int:
        """How many inbox offsets stay unused before the next record (transaction markers, R8)."""
        return 0

    def take_short_read(self, records_max: int) -> int:
        """How many of `records_max` inbox records are there now."""
        return records_max


class FaultScript(Faults):
    """Fates in the order of the sends to each topic; when its script is over, a topic is fine."""

    def __init__(self, fates: Mapping[str, Iterable[Fate]], *, late_landing: int | None = None) -> None:
        self._fates: dict[str, Iterator[Fate]] = {topic: iter(line) for topic, line in fates.items()}
        self._late_landing = late_landing

    def take_fate(self, topic: str, partition: int) -> Fate:
        return next(self._fates.get(topic, iter(())), FINE)

    def take_late_landing(self, topic: str, partition: int) -> int | None:
        return self._late_landing if topic == HISTORY else None


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Probabilities for each record, but `late`: for each writer that closes."""

    delayed: float = 0.2
    lost: float = 0.02
    doubled: float = 0.02
    misreported: float = 0.02
    unreported: float = 0.01
    reported_twice: float = 0.01
    refused: float = 0.02
    late: float = 0.5
    gap: float = 0.05
    short_read: float = 0.1
    delay_steps_max: int = 8


class RandomFaults(Faults):
    """Faults by seeded dice; `calm` ends them, so that a run can be seen to come to its end."""

    def __init__(self, dice: Random, rates: FaultRates | None = None) -> None:
        self._dice = dice
        self._rates = rates or FaultRates()
        self.calm = False

    def _happens(self, rate: float) -> bool:
        return not self.calm and self._dice.random() < rate

    def take_fate(self, topic: str, partition: int) -> Fate:
        rates = self._rates
        delay = self._dice.randint(1, rates.delay_steps_max) if self._happens(rates.delayed) else 0
        copies = 0 if self._happens(rates.lost) else 2 if self._happens(rates.doubled) else 1
        report = Reporting.TRUE
        if self._happens(rates.misreported):
            report = Reporting.ERROR
        elif self._happens(rates.unreported):
            report = Reporting.NONE
        elif self._happens(rates.reported_twice):
            report = Reporting.TWICE
        return Fate(delay, copies, report)

    def take_refusal(self, topic: str, partition: int) -> bool:
        return self._happens(self._rates.refused)

    def take_late_landing(self, topic: str, partition: int) -> int | None:
        return self._dice.randint(0, self._rates.delay_steps_max) if self._happens(self._rates.late) else None

    def take_gap(self, partition: int) -> int:
        return self._dice.randint(1, 3) if self._happens(self._rates.gap) else 0

    def take_short_read(self, records_max: int) -> int:
        return self._dice.randint(0, records_max) if self._happens(self._rates.short_read) else records_max
