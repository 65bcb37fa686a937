"""A worker that starts before its brokers waits for them, says so, and can be told to stop meanwhile."""

from collections.abc import Callable

import pytest
import structlog

from perdure import worker_process
from perdure.partitions.ports import HubMissing, LogRefused, LogUnavailable
from perdure.worker_process import Stop, wait_for_log


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "OPEN_PAUSE_SECONDS", 0.0)


def after(*faults: Exception) -> Callable[[], str]:
    waiting = list(faults)

    def open_log() -> str:
        if waiting:
            raise waiting.pop(0)
        return "the log"

    return open_log


def test_brokers_that_are_away_are_waited_for_and_named() -> None:
    with structlog.testing.capture_logs() as logs:
        found = wait_for_log(after(*[LogUnavailable("no Kafka broker answered at 127.0.0.1:1")] * 3), Stop())

    assert "the log" == found
    assert [("error", "no Kafka broker answered at 127.0.0.1:1")] * 3 == [
        (entry["log_level"], entry["reason"]) for entry in logs
    ]


@pytest.mark.parametrize("fault", [HubMissing("create it"), LogRefused("wrong password")])
def test_what_waiting_does_not_mend_ends_the_process_at_once(fault: Exception) -> None:
    with pytest.raises(type(fault), match=str(fault)):
        wait_for_log(after(fault), Stop())


def test_a_stop_ends_the_wait() -> None:
    stop = Stop()

    def open_log() -> str:
        stop.ask()
        raise LogUnavailable("away")

    assert wait_for_log(open_log, stop) is None


def test_a_stop_that_was_asked_for_early_reaches_the_worker() -> None:
    stop, asked = Stop(), list[str]()
    stop.ask()
    stop.pass_on(lambda: asked.append("worker"))

    assert ["worker"] == asked
