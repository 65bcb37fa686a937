"""A client that is closed keeps nobody waiting: whoever waits in another thread is told."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.errors import HubUnavailable
from tests.client.hub import listen
from tests.client.ways import InProcess, OverHttp, Way
from tests.e2e.workers import until

PLENTY_SECONDS = 20.0


@pytest.fixture(params=[InProcess, OverHttp])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    way = request.param(tmp_path)
    yield way
    way.close()


def aside(act: Callable[[], object]) -> "Future[object]":
    """Do it in a thread that keeps nobody: one of an executor would keep this process."""
    outcome: Future[object] = Future()

    def work() -> None:
        try:
            outcome.set_result(act())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome


def test_who_waits_for_an_end_is_told_that_the_client_was_closed_and_the_instance_goes_on(way: Way) -> None:
    client = way.connect()
    handle = client.start(listen, instance_id="waited-for")
    waits = [aside(handle.result) for _ in range(3)]
    until(lambda: len(client._loop._waits) == len(waits))
    client.close()

    for wait in waits:
        with pytest.raises(HubUnavailable, match="the client was closed meanwhile"):
            wait.result(PLENTY_SECONDS)
    with pytest.raises(RuntimeError, match="the client is closed"):
        handle.get()
    with way.connect() as another:
        assert "RUNNING" == another.instance("waited-for").get().status.name


def test_many_who_ask_while_it_is_closed_are_answered_or_told(way: Way) -> None:
    client: Client = way.connect()
    handle = client.start(listen, instance_id="asked")
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            handle.get()

    asking = [aside(ask) for _ in range(8)]
    closing = [aside(client.close) for _ in range(2)]
    for each in closing:
        each.result(PLENTY_SECONDS)
    told = [each.exception(PLENTY_SECONDS) for each in asking]
    over.set()

    assert {type(error) for error in told} <= {HubUnavailable, RuntimeError}
