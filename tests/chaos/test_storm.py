"""A small storm over real workers on a real broker, and what its verdict is worth. `make chaos` lets the great ones rage."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.brokers import ProxiedBroker, proxied_broker
from tests.chaos.storm import Site, bad_way, rage, small_storm
from tests.chaos.tally import Tally
from tests.chaos.verdict import Verdict
from tests.checkers.evidence import Violation
from tests.wanting import broker_wanted


def tally_of(*verdicts: Verdict) -> Tally:
    tally = Tally(0.0)
    tally.take("points", verdicts)
    return tally


def verdict_of(*found: tuple[str, str], **faults: int) -> Verdict:
    violations = [Violation(*each) for each in found]
    return Verdict("a run", violations, Counter(instances=5, stores=1), Counter(faults))


@pytest.mark.kafka
def test_nothing_is_lost_doubled_or_stuck_in_a_small_storm(kafka_servers: str) -> None:
    verdict = asyncio.run(rage(small_storm(seed=1), Site(kafka_servers)))

    assert verdict.good, "\n".join(verdict.lines())
    assert tally_of(verdict).verdict().startswith("0 lost, 0 twice, 0 stuck, 0 otherwise wrong; ")


@pytest.fixture
def proxied() -> Iterator[ProxiedBroker]:
    with broker_wanted():
        broker = proxied_broker()
    yield broker
    broker.stop()


@pytest.mark.kafka
def test_nothing_is_lost_doubled_or_stuck_on_a_bad_way_to_the_broker(proxied: ProxiedBroker) -> None:
    site = Site(proxied.servers, proxy=proxied.proxy, through=proxied.through)
    verdict = asyncio.run(rage(bad_way(seed=1), site))

    assert verdict.good, "\n".join(verdict.lines())


@pytest.mark.kafka
def test_effects_before_confirmation_are_seen_in_a_small_storm(kafka_servers: str) -> None:
    bug = "activities begin before their turn is confirmed"
    verdict = asyncio.run(rage(small_storm(seed=1, bug=bug), Site(kafka_servers)))

    assert {"C8", "C9"} & {violation.checker for violation in verdict.violations}
    assert not tally_of(verdict).good
    assert ", 0 twice, " not in tally_of(verdict).verdict()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (("C1", "start r of i was acknowledged, and is not in the log"), "1 lost, 0 twice, 0 stuck, 0 otherwise wrong"),
        (("C6", "event r of i came 2 times"), "0 lost, 1 twice, 0 stuck, 0 otherwise wrong"),
        (("C6", "event r for i, decided by 0:1, came 0 times"), "1 lost, 0 twice, 0 stuck, 0 otherwise wrong"),
        (("C9", "attempt 1 of k ran 2 times"), "0 lost, 1 twice, 0 stuck, 0 otherwise wrong"),
        (("C17", "i has not ended"), "0 lost, 0 twice, 1 stuck, 0 otherwise wrong"),
        (("C18", "3 clients got no answer"), "0 lost, 0 twice, 1 stuck, 0 otherwise wrong"),
        (("C13", "a read tells of what never was"), "0 lost, 0 twice, 0 stuck, 1 otherwise wrong"),
    ],
)
def test_what_was_found_is_told_by_what_it_means(found: tuple[str, str], told: str) -> None:
    tally = tally_of(verdict_of(), verdict_of(found, killed=1))

    assert tally.verdict().startswith(told)
    assert not tally.good
    assert any(found[1] in line for line in tally.lines())


def test_a_fault_that_was_planned_and_never_happened_fails_the_whole() -> None:
    tally = tally_of(verdict_of(killed=2, frozen=0))

    assert not tally.good
    assert "2 faults of 1 kinds fired, 1 planned ones never did" in tally.verdict()
    assert "a run: fault frozen never happened" in list(tally.lines())


def test_no_run_is_no_success() -> None:
    assert not tally_of().good
    for judged in (Counter(), Counter(instances=5), Counter(stores=1)):
        assert not tally_of(Verdict("a run", [], judged)).good
