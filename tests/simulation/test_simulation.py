"""Some runs of the simulator find nothing; every run replays; and the runs are worth something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .batch import run_chunk
from .faults import Fault
from .generate import make_scenario
from .verdict import try_scenario

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(100, 160)
DIGEST_OF = """
from tests.simulation.generate import make_scenario
from tests.simulation.verdict import try_scenario
print(try_scenario(make_scenario({seed})).digest)
"""


def test_runs_under_every_kind_of_fault_find_nothing() -> None:
    """C1 to C24, as tests/checkers/judge.py numbers them."""
    tally = run_chunk(SEEDS)

    assert [] == tally.failures
    assert [] == list(tally.shortcomings())
    assert set(Fault) == set(+tally.faults)
    assert tally.figures["instances"] > 2_000


def test_a_run_replays_exactly_whatever_the_order_of_its_sets() -> None:
    """One seed is one run: the same trace twice, and in processes that hash strings otherwise."""
    seed = 13
    here = [try_scenario(make_scenario(seed)).digest for _ in range(2)]
    there = [
        subprocess.run(
            [sys.executable, "-c", DIGEST_OF.format(seed=seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for salt in ("1", "2")
    ]

    assert {here[0]} == {*here, *there}


@pytest.mark.parametrize("seed", range(3))
def test_a_run_without_faults_needs_no_second_try(seed: int) -> None:
    """What a calm hub does is the floor of what is asked: every call is answered, every instance ends."""
    from dataclasses import replace

    from .faults import Rates

    calm = replace(make_scenario(seed), strikes=(), turmoil=(), rates=Rates())
    verdict = try_scenario(calm)

    assert () == verdict.violations
    assert verdict.figures["answered"] == verdict.figures["calls"]
    assert 0 == verdict.figures["void"]
