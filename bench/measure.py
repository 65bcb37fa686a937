"""A closed loop over a system, its results checked, and what it cost in time and in CPU."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from .jobs import Job

STUCK_SECONDS = 60.0


class BenchmarkFailed(Exception):
    """Something is not as it should be, so that no figure may be written."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds, user and system, of all threads; the three parts never overlap."""

    engine: float
    client: float
    broker: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.engine - earlier.engine, self.client - earlier.client, self.broker - earlier.broker)

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.engine + other.engine, self.client + other.client, self.broker + other.broker)


class Driver(Protocol):
    """The client's side of a system, kept light so that it is never the bottleneck."""

    def start(self, instance_id: str, job: Job) -> None:
        """Ask for one instance; do not wait."""

    def take_ended(self, timeout_seconds: float) -> Sequence[tuple[str, object]]:
        """Block for the first instance that ended, at most `timeout_seconds`; return all that are there, with results."""
        ...


class System(Protocol):
    """Something that runs jobs."""

    @property
    def driver(self) -> Driver: ...

    def cpu(self) -> Cpu: ...


@dataclass(frozen=True, slots=True)
class Load:
    """How many instances, and how many of them at once."""

    instances: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Run:
    """One closed loop: its wall time, each instance's milliseconds from start to answer in ascending order, and its CPU."""

    load: Load
    seconds: float
    latencies_ms: tuple[float, ...]
    cpu: Cpu

    @property
    def per_second(self) -> float:
        return self.load.instances / self.seconds

    @property
    def per_engine_cpu_second(self) -> float:
        return self.load.instances / self.cpu.engine

    def percentile_ms(self, share: float) -> float:
        return self.latencies_ms[min(int(len(self.latencies_ms) * share), len(self.latencies_ms) - 1)]


def closed_loop(system: System, job: Job, load: Load, tag: str) -> Run:
    """Keep `load.in_flight` instances running until all have ended; each must end once, with the result expected."""
    driver = system.driver
    begun: dict[str, float] = {}
    latencies: list[float] = []
    cpu, began, sent = system.cpu(), time.perf_counter(), 0
    while len(latencies) < load.instances:
        while sent < load.instances and len(begun) < load.in_flight:
            instance_id = f"{tag}-{sent}"
            begun[instance_id] = time.perf_counter()
            driver.start(instance_id, job)
            sent += 1
        ended = driver.take_ended(STUCK_SECONDS)
        if not ended:
            raise BenchmarkFailed(
                f"{job.name}: nothing ended for {STUCK_SECONDS:.0f} s, {len(begun)} instances are unfinished"
            )
        now = time.perf_counter()
        for instance_id, result in ended:
            if result != job.expected:
                raise BenchmarkFailed(f"{instance_id} ({job.name}) ended with {str(result)[:200]}")
            if instance_id not in begun:
                raise BenchmarkFailed(f"{instance_id} ({job.name}) ended twice")
            latencies.append((now - begun.pop(instance_id)) * 1000)
    return Run(load, time.perf_counter() - began, tuple(sorted(latencies)), system.cpu() - cpu)


def cpu_seconds_of(*pids: int) -> float:
    """User and system time of these processes and of their children, all threads."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of several runs."""

    median: float
    low: float
    high: float


def spread_of(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
