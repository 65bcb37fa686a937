"""Workers die at named places, one after the other, and nothing is lost, doubled or stuck. `make chaos` does more of it."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.chaos.crashes import Case, all_cases, embedded_ground, kafka_ground, try_cases
from tests.chaos.points import POINTS, Point
from tests.chaos.processes import Cry, unexpected
from tests.chaos.verdict import Verdict

AT_ONCE = 8
ON_KAFKA = (
    "claim.appended",
    "recovery.written",
    "turn.appended",
    "turn.landed",
    "activity.done",
    "send.published",
    "snapshot.manifest",
    "snapshot.load",
    "carry.landed",
    "history.trimmed",
    "release.landed",
    "revoked.acknowledge",
)
"""Those at which the two kinds of log differ most; `make chaos` comes to all of them."""


def wrong(verdicts: Sequence[Verdict]) -> list[str]:
    return [line for verdict in verdicts if not verdict.good for line in verdict.lines()]


def test_a_worker_may_die_at_every_named_place_of_the_embedded_log() -> None:
    cases = list(all_cases(["embedded"], 1, seed=1, instances=0))

    assert [] == wrong(asyncio.run(try_cases(cases, {"embedded": embedded_ground}, AT_ONCE)))


@pytest.mark.kafka
def test_a_worker_may_die_at_named_places_on_kafka(kafka_servers: str) -> None:
    cases = [Case(Point(name), "kafka", instances=2) for name in ON_KAFKA]

    assert [] == wrong(asyncio.run(try_cases(cases, {"kafka": kafka_ground(kafka_servers)}, AT_ONCE)))


def test_every_place_is_met_on_kafka_and_all_but_the_groups_and_the_snapshots_on_the_embedded_log() -> None:
    met = {log: {case.point.name for case in all_cases([log], 1, seed=1)} for log in ("kafka", "embedded")}

    assert met["kafka"] == set(POINTS)
    assert {name.partition(".")[0] for name in met["kafka"] - met["embedded"]} == {"snapshot", "revoked"}


def test_a_place_that_nobody_comes_to_is_a_failure() -> None:
    case = Case(Point("turn.append", 100_000), "embedded", instances=0, patience_seconds=3)

    (verdict,) = asyncio.run(try_cases([case], {"embedded": embedded_ground}, 1))
    assert not verdict.good
    assert any("never happened" in line for line in verdict.lines())


@pytest.mark.parametrize(
    ("bug", "checker"),
    [
        ("activities begin before their turn is confirmed", "C9"),
        ("what was dispatched by an owner that died is not dispatched again", "C17"),
    ],
)
def test_a_bug_in_a_real_process_is_seen(bug: str, checker: str) -> None:
    # It may die when nothing is dispatched yet, and then there is nothing to be seen.
    deaths = [Point("turn.written", hit) for hit in (1, 2, 3)]
    cases = [Case(death, "embedded", instances=0, patience_seconds=6, bug=bug) for death in deaths]

    verdicts = asyncio.run(try_cases(cases, {"embedded": embedded_ground}, len(cases)))
    assert checker in {violation.checker for verdict in verdicts for violation in verdict.violations}


def test_what_no_fault_explains_is_a_failure() -> None:
    cries = [Cry("worker", "partition.crashed", "no space left"), Cry("worker", "partition.crashed", "a bug of ours")]

    assert ["worker says a bug of ours"] == list(unexpected(iter(cries), [{"partition\\..*": "no space"}]))
    assert 2 == len(list(unexpected(iter(cries), [{"standby.crashed": "no space"}])))
