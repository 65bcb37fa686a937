"""`make simulate RUNS=… SEED=…`: as many runs as RUNS, the first from SEED, the next from the seed after it. A run is a whole hub: some
processes, some twenty-five programs (about fifty instances), and its own faults. Exit 1 on a finding, or if the runs prove nothing."""

import argparse
import sys
import time

from .batch import Tally, run_all
from .faults import Fault
from .generate import make_scenario
from .shrink import shrink
from .story import tell
from .verdict import try_scenario


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    options.add_argument("--runs", type=int, default=1_000)
    options.add_argument("--seed", type=int, help="of the first run; a fresh one by default")
    options.add_argument("--workers", type=int, help="processes; one for each core by default")
    options.add_argument("--tries", type=int, default=400, help="runs to spend on a shorter story of a failure")
    given = options.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() // 1_000_000 % 10**9 * 1_000
    print(f"simulating {given.runs} runs from seed {seed}", flush=True)
    began = time.monotonic()
    tally = run_all(seed, given.runs, given.workers)
    print_figures(tally, time.monotonic() - began)
    for failed, found in tally.failures:
        print(f"\nseed {failed}:", *found, f"replay: make simulate RUNS=1 SEED={failed}", sep="\n  ")
    if tally.failures:
        print_story(tally.failures[0][0], given.tries)
    shortcomings = list(tally.shortcomings())
    print(*shortcomings, sep="\n")
    return 1 if tally.failures or shortcomings else 0


def print_figures(tally: Tally, seconds: float) -> None:
    figures = tally.figures
    names = [
        "runs",
        "programs",
        "instances",
        "executions",
        "turns",
        "records",
        "void",
        "claims",
        "checkpoints",
        "attempts",
        "calls",
        "answered",
        "replies",
    ]
    print("  ".join(f"{name} {figures[name]:,}" for name in names))
    print("  ".join(f"{name} {number:,}" for name, number in sorted(figures.items()) if name.startswith("ended")))
    print("faults: " + "  ".join(f"{kind.name} {tally.faults[kind]:,}" for kind in Fault))
    print(
        f"{figures['virtual_ms'] / 3_600_000:.1f} virtual hours in {seconds:.0f} s, {tally.cpu_seconds:.0f} s of CPU: "
        f"{tally.instances_per_minute:,.0f} instances a minute and core"
    )


def print_story(seed: int, tries: int) -> None:
    verdict = try_scenario(make_scenario(seed))
    again = try_scenario(make_scenario(seed))
    if verdict.digest != again.digest:
        print(f"seed {seed} does not replay: traces {verdict.digest} and {again.digest}")
        return
    print(f"\nseed {seed} replays, trace {verdict.digest}; looking for a shorter story", flush=True)
    shortest = shrink(verdict, tries)
    print("\n".join(map(str, shortest.violations)), tell(shortest.scenario), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
