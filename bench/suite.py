"""The runs: which jobs under which load, in an order that treats engine and bare loop alike."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from perdure.partitions.ports import HubIdentity, LogRecord, LogSpan

from .jobs import Job, fan_out_job, hello_job, sequence_job
from .measure import Load, Run, System, closed_loop
from .report import Row, Subject, row_of

KINDS = ("plain", "async")
WARM_UP_INSTANCES_MAX = 500
DEFAULT_PARTITIONS = 12


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    runs: int
    latency_instances: int
    throughput_instances: int
    wide_instances: int


FULL = Effort(runs=5, latency_instances=500, throughput_instances=10_000, wide_instances=100)
SHORT = Effort(runs=2, latency_instances=200, throughput_instances=1_000, wide_instances=10)


@dataclass(frozen=True, slots=True)
class Group:
    """One job in both kinds under one load. `bare`: the bare loop, which has one partition, races along."""

    job: Callable[[str], Job]
    load: Load
    partitions: int = 1
    bare: bool = True

    @property
    def warm_up(self) -> Load:
        return Load(min(WARM_UP_INSTANCES_MAX, self.load.instances), self.load.in_flight)


def groups_of(effort: Effort, only: str = "") -> list[Group]:
    """All of them, or those of the job of this name."""
    return [group for group in _all_groups(effort) if only in ("", group.job(KINDS[0]).name)]


def _all_groups(effort: Effort) -> Iterator[Group]:
    for activities in (3, 5):
        yield Group(partial(hello_job, activities), Load(effort.latency_instances, 1))
        for in_flight in (100, 400):
            yield Group(partial(hello_job, activities), Load(effort.throughput_instances, in_flight))
    for in_flight in (100, 400):
        yield Group(partial(hello_job, 5), Load(effort.throughput_instances, in_flight), DEFAULT_PARTITIONS)
    yield Group(partial(sequence_job, 100), Load(effort.wide_instances, 10))
    yield Group(partial(fan_out_job, 100), Load(effort.wide_instances, 10), bare=False)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a hub's history holds."""

    records: int
    bytes: int


class HistoryReader(Protocol):
    @property
    def identity(self) -> HubIdentity: ...

    def span_history(self, partition: int, /) -> LogSpan: ...

    def read_history(self, partition: int, start: int, end: int, /) -> Iterator[LogRecord]: ...


def footprint_of(reader: HistoryReader) -> Footprint:
    """Count the records of a hub's history and the bytes of their values."""
    records = size = 0
    for partition in range(reader.identity.partition_count):
        span = reader.span_history(partition)
        for record in reader.read_history(partition, span.start, span.end):
            records, size = records + 1, size + len(record.value or b"")
    return Footprint(records, size)


class Engine(System, Protocol):
    """The engine under test, on a hub of its own."""

    @property
    def log(self) -> str: ...

    @property
    def durable(self) -> str:
        """What an acknowledged append has survived, in this set-up."""
        ...

    def stop(self) -> None:
        """Stop the engine in order, so that the hub can be audited."""

    def audit(self) -> Footprint:
        """Check the hub's whole history, decisions included. Raises BenchmarkFailed unless it is clean."""
        ...


Engines = Callable[[int], AbstractContextManager[Engine]]
"""An engine on a hub of so many partitions."""


def measure_group(group: Group, effort: Effort, engines: Engines, bare: System | None) -> Sequence[Row]:
    """Race the kinds of one job, and the bare loop where there is one, in turns; rows come only from a hub that audits clean."""
    runs: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    floor: list[Run] = []
    with engines(group.partitions) as engine:
        for kind in KINDS:
            closed_loop(engine, group.job(kind), group.warm_up, f"warm-{kind}")
        for number in range(effort.runs):
            if bare is not None and group.bare:
                floor.append(
                    closed_loop(
                        bare,
                        group.job("plain"),
                        group.load,
                        f"{group.job('plain').name}-{group.load.in_flight}-{number}",
                    )
                )
            for kind in KINDS:
                runs[kind].append(closed_loop(engine, group.job(kind), group.load, f"{kind}-{number}"))
        engine.stop()
        held = engine.audit()
        instances = len(KINDS) * (group.warm_up.instances + effort.runs * group.load.instances)
        rows = [row_of(subject_of(group, kind, engine, held, instances), runs[kind], floor) for kind in KINDS]
    if bare is not None and floor:
        rows.append(row_of(bare_subject_of(group.job("plain")), floor, ()))
    return rows


def subject_of(group: Group, kind: str, engine: Engine, held: Footprint, instances: int) -> Subject:
    job = group.job(kind)
    records, size = round(held.records / instances, 2), round(held.bytes / instances, 1)
    return Subject(job.name, engine.log, job.kind, engine.durable, job.activities, group.partitions, records, size)


def bare_subject_of(job: Job) -> Subject:
    return Subject(
        job.name, "bare loop", job.kind, "acknowledged by the one broker, in its page cache", job.activities, 1
    )
