"""The "broker" in memory: topics that several logs (owners, processes) share, and the way of every record to them.

Rules of this file: no thread, no clock of its own, no randomness of its own. Records travel in lanes, one for each sender and
partition and in order; `step` moves every lane on, and every call that waits or takes makes a step (unless somebody else sets
the pace).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from ..ports import Clock, HubIdentity, LogRecord, LogSpan, LogUnavailable
from .faults import INBOX, Fate, Faults, Reporting

_offset = attrgetter("offset")
NOT_SENT = "the record was lost on its way"
NOT_KNOWN = "it is not known whether the record landed"

Landed = Callable[[int | None, str | None], None]
Advance = Callable[[float], None]


class Journal:
    """One partition of one topic."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.transaction_at: int | None = None
        """Where somebody's open transaction begins: readers of committed records see nothing from there on (R9)."""
        self._records: list[LogRecord] = []

    @property
    def stable_end(self) -> int:
        return self.end if self.transaction_at is None else self.transaction_at

    def append(self, record: LogRecord) -> None:
        assert record.offset == self.end
        self._records.append(record)
        self.end += 1

    def skip(self, count: int) -> None:
        self.end += count

    @property
    def last(self) -> LogRecord:
        return self._records[-1]

    def read(self, start: int, end: int) -> Sequence[LogRecord]:
        """What there is of [start, end)."""
        first = bisect_left(self._records, max(start, self.start), key=_offset)
        return self._records[first : bisect_left(self._records, end, lo=first, key=_offset)]

    def read_some(self, start: int, count: int) -> Sequence[LogRecord]:
        """At most `count` records from `start` on, up to the first one of an open transaction."""
        first = bisect_left(self._records, max(start, self.start), key=_offset)
        records = self._records[first : first + count]
        return records if self.transaction_at is None else [each for each in records if each.offset < self.stable_end]

    def trim(self, before: int) -> None:
        """Begin at `before`. What is older is still there: a broker's crash may show it again (R15)."""
        self.start = max(self.start, min(before, self.end))

    def move_start_back(self, start: int) -> None:
        """Forget the newest trims, as a broker that crashes before it has written them down."""
        self.start = min(self.start, start)

    def compact(self) -> None:
        """Keep of each key the latest record only, and nothing of what was deleted."""
        latest = {record.key: record for record in self._records}
        self._records = [record for record in latest.values() if record.value is not None]
        self._records.sort(key=_offset)

    def cut(self, end: int) -> None:
        """Take back what stands at `end` and after it, as an unclean election of a leader does."""
        del self._records[bisect_left(self._records, end, key=_offset) :]
        self.end = min(self.end, end)


@dataclass(slots=True)
class Sent:
    """One record on its way."""

    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    landed: Landed | None
    fate: Fate
    delay: int


class Sender(Protocol):
    """The process whose records travel in a lane. While it is `stalled` none of them moves, as on a network that hangs."""

    stalled: bool


class Lane:
    """The way of one sender's records to one partition: in order, each with its fate."""

    def __init__(self, hub: "MemoryHub", topic: str, partition: int, sender: Sender) -> None:
        self._hub = hub
        self._topic = topic
        self._partition = partition
        self._sender = sender
        self._sent: deque[Sent] = deque()
        self._silent = False

    def __len__(self) -> int:
        return len(self._sent)

    def send(
        self, key: str, value: bytes | None, landed: Landed | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        fate = self._hub.faults.take_fate(self._topic, self._partition)
        self._sent.append(Sent(key, value, tuple(headers), landed, fate, fate.delay))
        self._hub.note_busy(self)

    @property
    def moves(self) -> bool:
        """What is on its way gets through."""
        return not self._sender.stalled

    @property
    def steps_to_landing(self) -> int:
        """How many steps until the first record on its way lands."""
        return self._sent[0].delay + 1

    def skip(self, steps: int) -> None:
        """Move on by fewer steps than it takes to land."""
        self._sent[0].delay -= steps

    def step(self) -> None:
        """Let land what is due."""
        if not self.moves:
            return
        while self._sent and self._sent[0].delay <= 0:
            self._land(self._sent.popleft())
        if self._sent:
            self._sent[0].delay -= 1

    def drop(self) -> None:
        """Purge what is on its way; nothing more is reported."""
        self._silent = True
        self._sent.clear()

    def detach(self, delay: int) -> None:
        """Go on as a dead sender's lane: what is on its way lands after `delay` steps, and nobody hears of it."""
        self._silent = True
        if self._sent:
            self._sent[0].delay += delay

    def _land(self, sent: Sent) -> None:
        offsets = [self._hub.append(self._topic, self._partition, sent) for _ in range(sent.fate.copies)]
        report = sent.fate.report
        if report == Reporting.NONE:
            self._silent = True
        if self._silent or sent.landed is None:
            return
        lied = report == Reporting.ERROR
        offset, error = (None, NOT_KNOWN if lied else NOT_SENT) if lied or not offsets else (offsets[0], None)
        for _ in range(2 if report == Reporting.TWICE else 1):
            sent.landed(offset, error)


class MemoryHub:
    """One hub's topics in memory. Without faults everything sent is delivered at the next call that waits or takes.

    `advance` is called by a `wait` that finds nothing, with the seconds that it may let pass: where time is virtual, here it
    goes on. `unavailable` makes every read fail and holds back every record. `paced`: records move only by `step` and `skip`,
    which a simulation calls as time goes on.
    """

    def __init__(
        self,
        partition_count: int,
        clock: Clock,
        *,
        hub: str = "memory",
        faults: Faults | None = None,
        advance: Advance | None = None,
    ) -> None:
        self.clock = clock
        self.faults = faults or Faults()
        self.advance = advance
        self.unavailable = False
        self.paced = False
        self.record_bytes_max = 1_048_576
        self.in_flight_max = 100_000
        self._hub = hub
        self._partition_count = partition_count
        self._created = 0
        self._busy: dict[Lane, None] = {}
        self._journals: dict[tuple[str, int], Journal] = {}
        self.recreate()

    @property
    def identity(self) -> HubIdentity:
        return HubIdentity(self._hub, "memory-cluster", f"memory-topic-{self._created}", self._partition_count)

    def recreate(self) -> None:
        """Delete all topics and create them again under the same names: another hub (R14)."""
        self._created += 1
        self._journals.clear()

    def journal(self, topic: str, partition: int) -> Journal:
        """One partition's records, for a test to look at, trim or cut."""
        return self._journals.setdefault((topic, partition), Journal())

    def append(self, topic: str, partition: int, sent: Sent) -> int:
        """Put a record at the end of a partition, as any writer could."""
        journal = self.journal(topic, partition)
        if topic == INBOX:
            journal.skip(self.faults.take_gap(partition))
        offset = journal.end
        journal.append(LogRecord(offset, sent.key.encode(), sent.value, self.clock.wall_ms(), sent.headers))
        return offset

    def open_lane(self, topic: str, partition: int, sender: Sender) -> Lane:
        return Lane(self, topic, partition, sender)

    def note_busy(self, lane: Lane) -> None:
        """It has records on their way."""
        self._busy[lane] = None

    def close_lane(self, lane: Lane, topic: str, partition: int) -> None:
        """The sender is gone; what it sent may land all the same (R4)."""
        delay = self.faults.take_late_landing(topic, partition) if len(lane) else None
        if delay is None:
            lane.drop()
            self._busy.pop(lane, None)
        else:
            lane.detach(delay)

    def poll(self) -> None:
        """Called by whoever waits or takes: a step, unless somebody else sets the pace."""
        if not self.paced:
            self.step()

    def step(self) -> None:
        """Move every record on its way one step on."""
        if self.unavailable:
            return
        for lane in list(self._busy):
            lane.step()
            if not len(lane):
                self._busy.pop(lane, None)

    @property
    def steps_to_landing(self) -> int | None:
        """How many steps until a record lands; None while none is on its way, or none gets through."""
        moving = () if self.unavailable else (lane for lane in self._busy if lane.moves)
        return min((lane.steps_to_landing for lane in moving), default=None)

    def skip(self, steps: int) -> None:
        """Make `steps` steps at once, fewer than it takes any record to land."""
        for lane in () if self.unavailable else self._busy:
            if lane.moves:
                lane.skip(steps)

    def check(self) -> None:
        if self.unavailable:
            raise LogUnavailable(f"hub {self._hub!r} in memory is switched off")

    def span(self, topic: str, partition: int) -> LogSpan:
        self.check()
        journal = self.journal(topic, partition)
        return LogSpan(journal.start, journal.end)
