"""Many runs over all cores, their figures together, and whether they were worth anything."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from .faults import Fault
from .generate import make_scenario
from .verdict import try_scenario

CHUNK = 20
FAILURES_SHOWN = 5
# From so many runs on each fault must have happened; fewer are too few for the rare ones.
RUNS_FOR_EVERY_FAULT = 300
ANSWERED_MIN = 0.9
COMPLETED_MIN = 0.5


@dataclass(slots=True)
class Tally:
    """What some runs came to together. `failures` are seeds with what was found."""

    figures: Counter[str] = field(default_factory=Counter)
    faults: Counter[Fault] = field(default_factory=Counter)
    failures: list[tuple[int, list[str]]] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def add(self, other: "Tally") -> None:
        self.figures += other.figures
        self.faults += other.faults
        self.failures += other.failures
        self.cpu_seconds += other.cpu_seconds

    @property
    def instances_per_minute(self) -> float:
        """For each core."""
        return 60 * self.figures["instances"] / self.cpu_seconds if self.cpu_seconds else 0.0

    def shortcomings(self) -> Iterator[str]:
        """Why these runs prove nothing, if they do not."""
        figures = self.figures
        if figures["runs"] >= RUNS_FOR_EVERY_FAULT:
            never = [kind.name for kind in Fault if not self.faults[kind]]
            if never:
                yield f"these faults never happened: {', '.join(never)}"
        if figures["answered"] < ANSWERED_MIN * figures["calls"]:
            yield f"of {figures['calls']} calls only {figures['answered']} were answered"
        if figures["ended as COMPLETED"] < COMPLETED_MIN * figures["instances"]:
            yield f"of {figures['instances']} instances only {figures['ended as COMPLETED']} completed"


def run_chunk(seeds: range) -> Tally:
    """Some runs, one after another, in this process."""
    tally, began = Tally(), time.process_time()
    for seed in seeds:
        verdict = try_scenario(make_scenario(seed))
        tally.figures += verdict.figures
        tally.faults += verdict.faults
        if verdict.violations:
            tally.failures.append((seed, [str(each) for each in verdict.violations[:FAILURES_SHOWN]]))
    tally.cpu_seconds = time.process_time() - began
    return tally


def run_all(first: int, runs: int, workers: int | None = None) -> Tally:
    """All runs from seed `first` on, over `workers` processes; stops early when enough have failed."""
    chunks = [range(at, min(at + CHUNK, first + runs)) for at in range(first, first + runs, CHUNK)]
    total, shown_at = Tally(), time.monotonic()
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(run_chunk, chunk) for chunk in chunks]
        for future in pending:
            total.add(future.result())
            if time.monotonic() - shown_at > 30:
                shown_at = time.monotonic()
                print(
                    f"{total.figures['runs']} of {runs} runs, {total.figures['instances']} instances", file=sys.stderr
                )
            if len(total.failures) >= FAILURES_SHOWN:
                for other in pending:
                    other.cancel()
                break
    return total
