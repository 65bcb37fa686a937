"""The three logs behind one face, for the conformance suite."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Protocol

from confluent_kafka import TopicPartition

from perdure.partitions.embedded import EmbeddedHub, EmbeddedLog
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.partitions.memory import MemoryHub, MemoryLog
from perdure.partitions.ports import HistoryWriter, Log, LogRecord, Report

PARTITIONS = 3
PATIENCE_SECONDS = 20.0
_numbers = count(1)


class Clock:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class Rig(Protocol):
    """One hub, on one kind of log."""

    def open(self) -> Log:
        """Return a handle of another process, as far as the log can tell."""

    def restart(self) -> None:
        """End all processes in order, and what they keep in memory with them."""

    def trim_history(self, partition: int, before: int) -> None: ...


class MemoryRig:
    def __init__(self) -> None:
        self._hub = MemoryHub(PARTITIONS, Clock())
        self._logs: list[Log] = []

    def open(self) -> Log:
        self._logs.append(MemoryLog(self._hub))
        return self._logs[-1]

    def restart(self) -> None:
        for log in self._logs:
            log.close()
        self._logs.clear()

    def trim_history(self, partition: int, before: int) -> None:
        self._hub.journal("history", partition).trim(before)


class EmbeddedRig:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hub: EmbeddedHub | None = None
        self._logs: list[Log] = []

    def open(self) -> Log:
        if self._hub is None:
            self._hub = EmbeddedHub(self._directory, partition_count=PARTITIONS)
        self._logs.append(EmbeddedLog(self._hub))
        return self._logs[-1]

    def restart(self) -> None:
        for log in self._logs:
            log.close()
        self._logs.clear()
        if self._hub is not None:
            self._hub.close()
            self._hub = None

    def trim_history(self, partition: int, before: int) -> None:
        assert self._hub is not None
        self._hub.trim("history", partition, before)


class KafkaRig:
    def __init__(self, servers: str) -> None:
        self._settings = KafkaSettings(servers, f"conformance-{time.time_ns()}-{next(_numbers)}")
        create_hub(self._settings, PARTITIONS, 1)
        self._logs: list[Log] = []

    def open(self) -> Log:
        self._logs.append(KafkaLog.open(self._settings))
        return self._logs[-1]

    def restart(self) -> None:
        for log in self._logs:
            log.close()
        self._logs.clear()

    def trim_history(self, partition: int, before: int) -> None:
        admin = self._settings.admin()
        futures = admin.delete_records([TopicPartition(self._settings.topics.history, partition, before)])
        for future in futures.values():
            future.result(PATIENCE_SECONDS)


@contextmanager
def ending(rig: Rig) -> Iterator[Rig]:
    try:
        yield rig
    finally:
        rig.restart()


def until(log: Log, condition: Callable[[], bool]) -> None:
    """Drive the log until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        log.wait(0.02)


def append(log: Log, writer: HistoryWriter, values: Sequence[bytes]) -> list[Report]:
    """Append all at once, and wait for every report."""
    for value in values:
        writer.append("instance", value)
    return reports_of(log, writer, len(values))


def reports_of(log: Log, writer: HistoryWriter, number: int) -> list[Report]:
    reports: list[Report] = []

    def all_there() -> bool:
        reports.extend(writer.take_reports())
        return len(reports) >= number

    until(log, all_there)
    return reports


def publish(log: Log, partition: int, values: Sequence[bytes]) -> None:
    """Publish to the inbox, and wait for every delivery."""
    outcomes: list[str | None] = []
    for value in values:
        log.publisher.publish_inbox(partition, "instance", value, outcomes.append)
    until(log, lambda: len(outcomes) == len(values))
    assert outcomes == [None] * len(values)


def take(log: Log, number: int, records_max: int = 100) -> list[tuple[int, LogRecord]]:
    """Take exactly `number` inbox records, and see that no more come."""
    taken: list[tuple[int, LogRecord]] = []

    def all_there() -> bool:
        taken.extend(log.inbox.take(records_max))
        return len(taken) >= number

    until(log, all_there)
    log.wait(0.05)
    taken.extend(log.inbox.take(records_max))
    assert len(taken) == number
    return taken


def values_of(taken: Sequence[tuple[int, LogRecord]]) -> list[bytes | None]:
    return [record.value for _, record in taken]
