"""Who is in the group, asked through outages: in a process of its own, since what is at stake is that the process lives."""

import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from perdure.partitions.kafka import KafkaSettings, roster
from perdure.partitions.kafka.roster import KafkaRoster
from tests.broker import Broker

pytestmark = pytest.mark.kafka
PATIENCE_SECONDS = 60.0
GROUP = "a-hub"


def look_on(servers: str, told: Connection, patience_seconds: float | None) -> None:
    """Tell of every answer, and of every client that was let go of."""
    roster.ASK_SECONDS = 0.1
    if patience_seconds is not None:
        roster.PATIENCE_SECONDS = patience_seconds
    watched = KafkaRoster(KafkaSettings(servers, GROUP, request_seconds_max=0.5))
    client = watched._admin
    while True:
        if watched.look() is not None:
            told.send("answer")
        if watched._admin is not client:
            client = watched._admin
            told.send("another client")
        time.sleep(0.02)


@pytest.fixture
def begin() -> "Callable[..., tuple[Connection, Callable[[], bool]]]":
    context = get_context("spawn")

    def begin(servers: str, patience_seconds: float | None) -> tuple[Connection, Callable[[], bool]]:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=look_on, args=(servers, there, patience_seconds), daemon=True)
        process.start()
        there.close()
        return here, process.is_alive

    return begin


def hear(told: Connection, what: str) -> None:
    """Wait until it is told; what was told before does not count."""
    while told.poll():
        told.recv()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if told.poll(0.1) and told.recv() == what:
            return
    raise AssertionError(f"not told of {what}")


@pytest.mark.parametrize("patience_seconds", [None, 1.0])
def test_a_group_whose_coordinator_was_away_for_longer_than_a_request_lasts_is_seen_again(
    mortal_broker: Broker,
    begin: "Callable[..., tuple[Connection, Callable[[], bool]]]",
    patience_seconds: float | None,
) -> None:
    told, lives = begin(mortal_broker.servers, patience_seconds)
    hear(told, "answer")
    mortal_broker.kill()
    if patience_seconds is not None:
        hear(told, "another client")
    else:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert lives()
            time.sleep(0.1)
    mortal_broker.start()

    hear(told, "answer")
    hear(told, "answer")
    assert lives()
