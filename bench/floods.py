"""`make bench-floods`: what one worker process holds after flood upon flood of starts; it fails if that goes on growing.

Each flood is started at once, so that most of it waits in the inbox, and is worked off to its last instance before the next.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from .broker import warm_broker
from .jobs import Job, fan_out_job, hello_job
from .kafka_system import KafkaEngine
from .machine import machine_description
from .measure import Load, closed_loop
from .process import STATE

PARTITIONS = 4
INSTANCES = 12_000
FLOODS = 15
GROWTH_MAX = 1.1
"""How much more the last third of the floods may leave behind than the one before it; the first third fills the caches."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds after a flood, and the most that it held in it; bytes."""

    memory: int
    memory_peak: int
    threads: int
    files: int


class Peak:
    """The most memory of a process, looked at from a thread of its own until it is closed."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._over = threading.Event()
        self.bytes = 0
        self._thread = threading.Thread(target=self._run, name="peak")
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def flood(engine: KafkaEngine, job: Job, number: int) -> Held:
    process = psutil.Process(engine.pid)
    with closing(Peak(process)) as peak:
        closed_loop(engine, job, Load(INSTANCES, INSTANCES), f"flood-{number}")
    memory = process.memory_info().rss
    return Held(memory, max(memory, peak.bytes), process.num_threads(), process.num_fds())


def growth(memory: Sequence[int]) -> float:
    """The median of the last third to that of the third before it."""
    third = len(memory) // 3
    return statistics.median(memory[-third:]) / statistics.median(memory[-2 * third : -third])


def main() -> None:
    options = argparse.ArgumentParser(prog="bench.floods", description=__doc__)
    options.add_argument("--floods", type=int, default=FLOODS, help=f"how many, three at least ({FLOODS})")
    floods = options.parse_args().floods
    if floods < 3:
        options.error(f"--floods: expected at least 3, found {floods}")
    console = Console()
    STATE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="floods-", dir=STATE))
    held: list[Held] = []
    with warm_broker() as broker, closing(KafkaEngine(broker, directory, PARTITIONS)) as engine:
        for number in range(floods):
            began = time.monotonic()
            held.append(flood(engine, (hello_job(3, "plain"), fan_out_job(10, "async"))[number % 2], number))
            now = held[-1]
            console.print(
                f"flood {number + 1}, {INSTANCES:,} instances in {time.monotonic() - began:.0f} s: "
                f"{now.memory >> 20} MB after it, {now.memory_peak >> 20} MB at most, {now.threads} threads, {now.files} files"
            )
        engine.stop()
    shutil.rmtree(directory)
    grown = growth([each.memory for each in held])
    console.print(f"{machine_description()}\nThe last third holds {grown:.2f} times what the third before it held.")
    if grown > GROWTH_MAX:
        console.print(f"[red]More than {GROWTH_MAX} times: it goes on growing.[/]")
        sys.exit(1)


if __name__ == "__main__":
    main()
