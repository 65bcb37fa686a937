"""Everything that may go wrong in a run, and how often it did.

Rules of this file: every fault of the network has a number, in the order of the dice, so that a run can be made again with some of
them left out; all others are listed in the scenario.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from perdure.partitions.memory import Fate, Faults, Reporting
from perdure.partitions.memory.faults import HISTORY, REPLIES


class Fault(Enum):
    """The kinds of fault. In a batch of runs each must have happened."""

    APPEND_DELAYED = "an append is delayed"
    APPEND_STUCK = "an append is under way for seconds"
    APPEND_LOST = "an append is lost, and its sender told"
    APPEND_SWALLOWED = "an append is lost, and its sender told nothing"
    APPEND_DENIED = "an append lands, and its sender is told that it failed"
    APPEND_UNREPORTED = "an append lands, and its sender is told nothing"
    APPEND_DOUBLED = "an append lands twice"
    REPORT_TWICE = "a report comes twice"
    QUEUE_FULL = "the local queue is full"
    MESSAGE_DELAYED = "a message is delayed"
    MESSAGE_STUCK = "a message is under way for seconds"
    MESSAGE_LOST = "a message is lost"
    MESSAGE_DENIED = "a message lands, and its sender is told that it failed"
    MESSAGE_DOUBLED = "a message lands twice"
    REPLY_LOST = "a reply is lost"
    REPLY_DELAYED = "a reply is delayed"
    LATE_LANDING = "what a dead process sent lands late"
    OFFSET_GAP = "inbox offsets are left out"
    SHORT_READ = "a read of the inbox gives less than there is"
    CRASH = "a process dies in the midst of a call"
    KILL = "a process dies between two rounds"
    PAUSE = "a process stands still in the midst of a call"
    FREEZE = "a process stands still for longer than its session"
    STOP = "a process stops in order"
    DEPLOY = "a process is replaced by the other build"
    CLOCK_FORWARD = "a clock jumps forward"
    CLOCK_BACKWARD = "a clock jumps back"
    CLOCK_WRONG = "a clock is so far off that its owner refuses"
    PEER_CUT = "a standby loses the connection to an owner that lives"
    MOVE = "partitions move in order"
    STEAL = "a partition is given to another process, and its owner not told for a while"
    STORM = "partitions move again and again"
    OUTAGE = "nobody reaches the hub for a while"
    DISK_LOST = "a store is gone"
    DISK_STALE = "a store is put back to an older state"
    DISK_SWAPPED = "a store is another partition's"
    DISK_CORRUPT = "a store cannot be read"
    DISK_FULL = "a store cannot be written"
    ACTIVITIES_SLOW = "activities take seconds"
    RESULT_DOUBLED = "the result of an activity comes a second time, perhaps when its attempt is long over"
    RESULT_FORGED = "somebody puts the result of an activity into an inbox"
    SNAPSHOT_BROKEN = "a piece of a snapshot is not what it was"
    SNAPSHOT_LOST = "snapshots lose some of their pieces"
    COMPACTION = "the topic of the snapshots is compacted"
    TRIM_FORGOTTEN = "a log begins where it began before it was trimmed"
    SATURATED = "no new work is to be begun"
    HASTE = "a client sends a request again before it could be answered"
    LETHAL = "the code of an instance kills its process"
    JUNK = "somebody puts junk into an inbox"
    MISPLACED = "a message is on the wrong partition"


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault of one machine's process at its n-th call to the log, the store or the group, in whichever life.

    `amount`: of a crash, how many writes since the last flush the store keeps; of a pause, milliseconds.
    """

    machine: int
    call: int
    kind: Fault
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Turmoil:
    """A fault at a time. `amount` is in milliseconds where it lasts."""

    at_ms: int
    kind: Fault
    machine: int = 0
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """How likely each fault of the network is, for one record (LATE_LANDING: for one sender that dies)."""

    of: dict[Fault, float] = field(default_factory=dict)

    def __getitem__(self, kind: Fault) -> float:
        return self.of.get(kind, 0.0)


_APPENDS = (
    Fault.APPEND_DELAYED,
    Fault.APPEND_STUCK,
    Fault.APPEND_LOST,
    Fault.APPEND_SWALLOWED,
    Fault.APPEND_DENIED,
    Fault.APPEND_UNREPORTED,
    Fault.APPEND_DOUBLED,
    Fault.REPORT_TWICE,
)
_MESSAGES = (
    Fault.MESSAGE_DELAYED,
    Fault.MESSAGE_STUCK,
    Fault.MESSAGE_LOST,
    Fault.MESSAGE_DENIED,
    Fault.MESSAGE_DOUBLED,
)
_REPLIES = (Fault.REPLY_LOST, Fault.REPLY_DELAYED)
NETWORK = frozenset(
    (*_APPENDS, *_MESSAGES, *_REPLIES, Fault.QUEUE_FULL, Fault.LATE_LANDING, Fault.OFFSET_GAP, Fault.SHORT_READ)
)
_STUCK_MS_MAX = 6_000


class NetworkFaults(Faults):
    """The faults of one run's network, by seeded dice; `calm` ends them. `happened` has the numbers of those that happened, `only`
    those that may (None: all)."""

    def __init__(self, dice: Random, rates: Rates, counts: Counter[Fault], only: frozenset[int] | None) -> None:
        self._dice = dice
        self._rates = rates
        self._counts = counts
        self._only = only
        self._number = 0
        self._lines = {HISTORY: self._line(_APPENDS), REPLIES: self._line(_REPLIES)}
        self._messages = self._line(_MESSAGES)
        self.calm = False
        self.happened: list[int] = []

    def _line(self, kinds: tuple[Fault, ...]) -> list[tuple[float, Fault]]:
        """Thresholds for one throw of the dice."""
        line, total = [], 0.0
        for kind in kinds:
            if self._rates[kind]:
                total += self._rates[kind]
                line.append((total, kind))
        return line

    def _may(self, kind: Fault) -> bool:
        """Count a fault that the dice have chosen, unless it is left out."""
        self._number += 1
        if self._only is not None and self._number not in self._only:
            return False
        self.happened.append(self._number)
        self._counts[kind] += 1
        return True

    def take_fate(self, topic: str, partition: int) -> Fate:
        if self.calm:
            return _FINE
        throw = self._dice.random()
        for threshold, kind in self._lines.get(topic, self._messages):
            if throw < threshold:
                amount = self._dice.random()
                return _FATES[kind](amount) if self._may(kind) else _FINE
        return _FINE if throw < 0.6 else _SOON

    def _happens(self, kind: Fault) -> bool:
        rate = self._rates[kind]
        return bool(rate) and not self.calm and self._dice.random() < rate and self._may(kind)

    def take_refusal(self, topic: str, partition: int) -> bool:
        return self._happens(Fault.QUEUE_FULL)

    def take_late_landing(self, topic: str, partition: int) -> int | None:
        return self._dice.randint(0, 3_000) if self._happens(Fault.LATE_LANDING) else None

    def take_gap(self, partition: int) -> int:
        return self._dice.randint(1, 3) if self._happens(Fault.OFFSET_GAP) else 0

    def take_short_read(self, records_max: int) -> int:
        return self._dice.randint(0, 2) if self._happens(Fault.SHORT_READ) else records_max


_FINE = Fate()
_SOON = Fate(delay=1)


def _short(amount: float) -> int:
    return 1 + int(amount * 40)


def _long(amount: float) -> int:
    return 200 + int(amount * _STUCK_MS_MAX)


_FATES = {
    Fault.APPEND_DELAYED: lambda amount: Fate(_short(amount)),
    Fault.APPEND_STUCK: lambda amount: Fate(_long(amount)),
    Fault.APPEND_LOST: lambda amount: Fate(_short(amount), copies=0),
    Fault.APPEND_SWALLOWED: lambda _: Fate(copies=0, report=Reporting.NONE),
    Fault.APPEND_DENIED: lambda amount: Fate(_short(amount), report=Reporting.ERROR),
    Fault.APPEND_UNREPORTED: lambda amount: Fate(_short(amount), report=Reporting.NONE),
    Fault.APPEND_DOUBLED: lambda _: Fate(copies=2),
    Fault.REPORT_TWICE: lambda _: Fate(report=Reporting.TWICE),
    Fault.MESSAGE_DELAYED: lambda amount: Fate(_short(amount)),
    Fault.MESSAGE_STUCK: lambda amount: Fate(_long(amount)),
    Fault.MESSAGE_LOST: lambda amount: Fate(_short(amount), copies=0),
    Fault.MESSAGE_DENIED: lambda amount: Fate(_short(amount), report=Reporting.ERROR),
    Fault.MESSAGE_DOUBLED: lambda _: Fate(copies=2),
    Fault.REPLY_LOST: lambda _: Fate(copies=0),
    Fault.REPLY_DELAYED: lambda amount: Fate(_long(amount)),
}
