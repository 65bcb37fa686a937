"""The log in memory is itself checked: any list of operations gives the same records on it, on the embedded log and on a broker.

What is compared is everything that a caller can see: reports, records read and taken, spans, refusals. Each operation is awaited,
so that none of the logs has a choice.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from perdure.partitions.ports import HistoryWriter, Log, LogSpan, LogTruncated, Report

from .logs import PARTITIONS, EmbeddedRig, KafkaRig, MemoryRig, Rig, append, ending, publish, until

PROCESSES = 2
TOO_LARGE = bytes(3_000_000)


@dataclass(frozen=True, slots=True)
class Operation:
    """What one process does to one partition; `count` and `share` mean what the operation makes of them."""

    name: str
    process: int
    partition: int
    count: int
    share: float


OPERATIONS = st.builds(
    Operation,
    st.sampled_from(
        ["append"] * 4
        + ["publish"] * 3
        + ["take"] * 3
        + ["read"] * 2
        + [
            "open",
            "open",
            "close",
            "pause",
            "resume",
            "reopen",
            "trim_inbox",
            "trim_history",
            "too_large",
            "restart",
            "clock",
        ]
    ),
    st.integers(0, PROCESSES - 1),
    st.integers(0, PARTITIONS - 1),
    st.integers(1, 4),
    st.floats(0, 1),
)


class Run:
    """One rig under a list of operations, and what was seen."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.seen: list[Any] = []
        self._written = 0
        self._begin()

    def _begin(self) -> None:
        self.logs: list[Log] = [self.rig.open() for _ in range(PROCESSES)]
        self.writers: dict[tuple[int, int], HistoryWriter] = {}
        self.positions: dict[tuple[int, int], int] = {}
        self.paused: set[tuple[int, int]] = set()

    def do(self, operation: Operation) -> None:
        place = (operation.process, operation.partition)
        getattr(self, f"_{operation.name}")(operation, place, self.logs[operation.process])
        log = self.logs[0]
        self.seen.append((operation.name, log.span_history(operation.partition), log.span_inbox(operation.partition)))

    def _values(self, count: int) -> list[bytes]:
        self._written += count
        return [b"record %d" % number for number in range(self._written - count, self._written)]

    def _writer(self, place: tuple[int, int], log: Log) -> HistoryWriter:
        if place not in self.writers:
            self.writers[place] = log.open_history(place[1])
        return self.writers[place]

    def _append(self, operation: Operation, place: tuple[int, int], log: Log) -> None:
        self.seen.append(append(log, self._writer(place, log), self._values(operation.count)))

    def _too_large(self, operation: Operation, place: tuple[int, int], log: Log) -> None:
        refused, landed = append(log, self._writer(place, log), [TOO_LARGE, *self._values(1)])
        assert refused.error
        self.seen.append((refused.offset, landed))

    def _publish(self, operation: Operation, _place: tuple[int, int], log: Log) -> None:
        publish(log, operation.partition, self._values(operation.count))

    def _read(self, operation: Operation, _place: tuple[int, int], log: Log) -> None:
        """A stretch that is there, or one that begins or ends beyond it."""
        span = log.span_history(operation.partition)
        start = round(span.start - 1 + operation.share * (span.end + 1 - span.start))
        end = min(max(start, 0) + operation.count, span.end + (operation.count == 4))
        try:
            records = list(log.read_history(operation.partition, max(start, 0), end))
        except LogTruncated:
            self.seen.append("refused")
        else:
            self.seen.append([(record.offset, record.key, record.value) for record in records])

    def _open(self, operation: Operation, place: tuple[int, int], log: Log) -> None:
        span = log.span_inbox(operation.partition)
        self.positions[place] = span.start + round(operation.share * (span.end - span.start))
        self.paused.discard(place)
        log.inbox.open(operation.partition, self.positions[place])

    def _close(self, operation: Operation, place: tuple[int, int], log: Log) -> None:
        log.inbox.close(operation.partition)
        self.positions.pop(place, None)
        self.paused.discard(place)

    def _pause(self, operation: Operation, place: tuple[int, int], log: Log) -> None:
        if place in self.positions:
            log.inbox.pause(operation.partition)
            self.paused.add(place)

    def _resume(self, operation: Operation, place: tuple[int, int], log: Log) -> None:
        log.inbox.resume(operation.partition)
        self.paused.discard(place)

    def _take(self, operation: Operation, _place: tuple[int, int], log: Log) -> None:
        """All that there is for this process, in a few gulps."""
        mine = {
            partition: position
            for (process, partition), position in self.positions.items()
            if process == operation.process and (process, partition) not in self.paused
        }
        spans = {partition: log.span_inbox(partition) for partition in mine}
        wanted = sum(max(0, spans[each].end - max(position, spans[each].start)) for each, position in mine.items())
        taken: list[tuple[int, Any]] = []

        def all_there() -> bool:
            taken.extend(log.inbox.take(operation.count))
            return len(taken) >= wanted

        until(log, all_there)
        assert not log.inbox.take_faults()
        for partition in sorted(mine):
            own = [record for owner, record in taken if owner == partition]
            self.seen.append([(record.offset, record.key, record.value) for record in own])
            if own:
                self.positions[operation.process, partition] = own[-1].offset + 1

    def _reopen(self, _operation: Operation, place: tuple[int, int], log: Log) -> None:
        if place in self.writers:
            self.writers.pop(place).close()

    def _trim_inbox(self, operation: Operation, _place: tuple[int, int], log: Log) -> None:
        """Only what all who read it have taken, as owners do: a client may have fetched the rest already."""
        partition, span = operation.partition, log.span_inbox(operation.partition)
        before = min(
            [
                self._part_of(span, operation),
                *(position for (_, read), position in self.positions.items() if read == partition),
            ]
        )
        log.trim_inbox(partition, before)
        self._await_start(lambda each: each.span_inbox(partition), max(before, span.start))

    def _trim_history(self, operation: Operation, _place: tuple[int, int], log: Log) -> None:
        partition, before = operation.partition, self._part_of(log.span_history(operation.partition), operation)
        self.rig.trim_history(partition, before)
        self._await_start(lambda each: each.span_history(partition), before)

    def _part_of(self, span: LogSpan, operation: Operation) -> int:
        return span.start + round(operation.share * (span.end - span.start))

    def _await_start(self, span_of: Callable[[Log], LogSpan], start: int) -> None:
        for log in self.logs:
            until(log, lambda log=log: span_of(log).start == start)  # type: ignore[misc]

    def _restart(self, _operation: Operation, _place: tuple[int, int], _log: Log) -> None:
        self.rig.restart()
        self._begin()

    def _clock(self, _operation: Operation, _place: tuple[int, int], log: Log) -> None:
        log.check_identity()
        assert log.read_clock_ms() > 0


def seen_by(rig: Rig, operations: Sequence[Operation]) -> list[Any]:
    with ending(rig):
        run = Run(rig)
        for operation in operations:
            run.do(operation)
        return run.seen


@given(st.lists(OPERATIONS, min_size=1, max_size=30))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_the_embedded_log_and_the_one_in_memory_cannot_be_told_apart(operations: list[Operation]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert seen_by(MemoryRig(), operations) == seen_by(EmbeddedRig(Path(directory)), operations)


@pytest.mark.kafka
def test_a_broker_and_the_log_in_memory_cannot_be_told_apart(kafka_servers: str) -> None:
    @given(st.lists(OPERATIONS, min_size=10, max_size=40))
    # What fails may take as long as the patience of `until`, each time: it is told as it is, and not made shorter.
    @settings(max_examples=25, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
    def compare(operations: list[Operation]) -> None:
        assert seen_by(MemoryRig(), operations) == seen_by(KafkaRig(kafka_servers), operations)

    compare()


def test_a_difference_is_seen() -> None:
    """A log that doubles a record, to see that the comparison can fail."""

    class Doubling(MemoryRig):
        def open(self) -> Log:
            log = super().open()
            real = log.open_history

            def open_history(partition: int) -> HistoryWriter:
                writer = real(partition)
                once = writer.append

                def twice(key: str, value: bytes) -> None:
                    once(key, value)
                    if value == b"record 1":
                        once(key, value)

                writer.append = twice  # type: ignore[method-assign]
                return writer

            log.open_history = open_history  # type: ignore[method-assign]
            return log

    operations = [
        Operation("append", 0, 0, 1, 0.0),
        Operation("append", 0, 0, 1, 0.0),
        Operation("append", 0, 0, 1, 0.0),
    ]

    assert [Report(0)] == seen_by(MemoryRig(), operations)[0]
    assert seen_by(MemoryRig(), operations) != seen_by(Doubling(), operations)
