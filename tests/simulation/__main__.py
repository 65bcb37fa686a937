"""`make simulate RUNS=… SEED=…`: as many runs as RUNS, the first from SEED, the next from the seed after it. A run is a whole hub: some
processes, some twenty-five programs (about fifty instances), and its own faults. Exit 1 on a finding, or if the runs prove nothing.

With BATCHES=… so many times as many, one batch after another until one fails; with RECORD=… a line for each batch in that file, which
says how to run it again.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import orjson

from .batch import Tally, run_all
from .faults import Fault
from .generate import make_scenario
from .shrink import shrink
from .story import tell
from .verdict import try_scenario

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    given = _options().parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() // 1_000_000 % 10**9 * 1_000
    print(f"simulating {given.batches * given.runs} runs from seed {seed}", flush=True)
    began, total = time.monotonic(), Tally()
    for first in range(seed, seed + given.batches * given.runs, given.runs):
        tally = run_all(first, given.runs, given.workers)
        total.add(tally)
        shortcomings = list(tally.shortcomings())
        if given.record is not None:
            write_line(given.record, first, given.runs, tally, shortcomings)
        if given.batches > 1:
            print(
                f"from seed {first}: {verdict_of(tally, shortcomings)}; {total.figures['instances']:,} instances",
                flush=True,
            )
        if tally.failures or shortcomings:
            break
    print_figures(total, time.monotonic() - began)
    print_failures(total, given.tries)
    print(*shortcomings, sep="\n")
    return 1 if total.failures or shortcomings else 0


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    options.add_argument("--runs", type=int, default=1_000)
    options.add_argument("--batches", type=int, default=1, help="so many times as many runs, until some fail")
    options.add_argument("--seed", type=int, help="of the first run; a fresh one by default")
    options.add_argument("--workers", type=int, help="processes; one for each core by default")
    options.add_argument("--tries", type=int, default=400, help="runs to spend on a shorter story of a failure")
    options.add_argument("--record", type=Path, help="append a line of JSON for each batch to this file")
    return options


def write_line(path: Path, seed: int, runs: int, tally: Tally, shortcomings: list[str]) -> None:
    """What a stranger needs to run a batch again, and what it came to."""
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": f"make simulate RUNS={runs} SEED={seed}",
        "commit": commit(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "verdict": verdict_of(tally, shortcomings),
        "cpu_seconds": round(tally.cpu_seconds, 1),
        "figures": dict(sorted(tally.figures.items())),
        "faults": {kind.name: tally.faults[kind] for kind in Fault},
    }
    with path.open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")


def verdict_of(tally: Tally, shortcomings: list[str]) -> str:
    failed = [f"seed {seed}: {'; '.join(found)}" for seed, found in tally.failures]
    return "; ".join([*failed, *shortcomings]) or "nothing found"


def commit() -> str:
    """Of the code that runs; `-dirty` if it is not quite that."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


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


def print_failures(tally: Tally, tries: int) -> None:
    for failed, found in tally.failures:
        print(f"\nseed {failed}:", *found, f"replay: make simulate RUNS=1 SEED={failed}", sep="\n  ")
    if tally.failures:
        print_story(tally.failures[0][0], tries)


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
