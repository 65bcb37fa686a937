"""The brokers of a run: the log in memory, paced by virtual time, that remembers every record and tells who waits for it."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from perdure.partitions.memory import MemoryHub
from perdure.partitions.memory.faults import REPLIES, Faults
from perdure.partitions.memory.hub import Journal, Sent
from perdure.partitions.ports import LogRecord

from .clock import START_MS, WorldClock


class SimulatedJournal(Journal):
    """A partition whose records may come to harm."""

    def damage(self, number: int, *, lose: bool) -> bool:
        """Change one byte in one record, or lose that record; false if there is none."""
        if not self._records:
            return False
        at = number % len(self._records)
        record = self._records[at]
        if lose:
            del self._records[at]
        elif record.value:
            place = number % len(record.value)
            value = record.value[:place] + bytes([record.value[place] ^ 1]) + record.value[place + 1 :]
            self._records[at] = replace(record, value=value)
        return True


class SimulatedHub(MemoryHub):
    """`records` has all that ever landed, trimmed or not. `landed` is called with topic and partition for each."""

    def __init__(
        self, partition_count: int, clock: WorldClock, faults: Faults, landed: Callable[[str, int, LogRecord], None]
    ) -> None:
        super().__init__(partition_count, clock, hub="simulated", faults=faults)
        self.paced = True
        self.records: defaultdict[tuple[str, int], list[LogRecord]] = defaultdict(list)
        self._landed = landed
        self._moved_to = clock.now

    def append(self, topic: str, partition: int, sent: Sent) -> int:
        if topic == REPLIES:
            # Nobody reads them from the journal: they are handed over as they land.
            record = LogRecord(0, sent.key.encode(), sent.value, START_MS + self.clock.now, ())  # type: ignore[attr-defined]
            offset = 0
        else:
            offset = super().append(topic, partition, sent)
            record = self.journal(topic, partition).last
        self.records[topic, partition].append(record)
        self._landed(topic, partition, record)
        return offset

    def journal(self, topic: str, partition: int) -> SimulatedJournal:
        journal = self._journals.get((topic, partition))
        if journal is None:
            journal = self._journals[topic, partition] = SimulatedJournal()
        assert isinstance(journal, SimulatedJournal)
        return journal

    def next_landing(self) -> int | None:
        """When the next record lands."""
        steps = self.steps_to_landing
        return None if steps is None else self._moved_to + steps

    def move(self, to: int) -> None:
        """Let records land as time goes on; the clock must be there already, and nothing may be due before."""
        steps = to - self._moved_to
        self._moved_to = to
        if steps > 1:
            self.skip(steps - 1)
        if steps > 0:
            self.step()
