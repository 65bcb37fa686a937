"""Fixtures for everybody: a real Kafka, one for the whole run (tests/broker.py)."""

import faulthandler
import logging
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import pytest_timeout
import structlog
from hypothesis import HealthCheck, settings

from tests import ports
from tests.broker import Broker, find_broker, own_broker
from tests.wanting import broker_wanted

CLEANUP_SECONDS = 120
# Who is started in the background ignores SIGINT, and so does all that it starts; some tests interrupt what they started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A machine that others use too is slow at times, and that is no finding.
settings.register_profile("perdure", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perdure")


class TooLong(BaseException):
    """A test's time is over. Not pytest's `Failed`, which Hypothesis takes for what a test found: it would go on and make that shorter,
    for as long as it takes, with nobody left to end it."""


def _end_test(item: pytest.Item, settings: pytest_timeout.Settings) -> None:
    try:
        _fail_test(item, settings)
    except pytest.fail.Exception as failure:
        raise TooLong(str(failure)) from None


_fail_test = pytest_timeout.timeout_sigalrm
pytest_timeout.timeout_sigalrm = _end_test


@pytest.hookimpl(trylast=True)
def pytest_exception_interact() -> None:
    """A test that failed has this long to clean up; pytest itself stops watching here (`faulthandler_timeout`)."""
    faulthandler.dump_traceback_later(CLEANUP_SECONDS, exit=True, file=sys.__stderr__)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A test that runs a command in this process configures its logs; the next test finds none of that."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """A broker for tests that use topics of their own and leave it alone. Skips, with the reason, where there is none."""
    with broker_wanted():
        broker = find_broker()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def kafka_servers(kafka_broker: Broker) -> str:
    return kafka_broker.servers


@pytest.fixture
def closed_port() -> Iterator[int]:
    with ports.closed_port() as port:
        yield port


@pytest.fixture
def mortal_broker() -> Iterator[Broker]:
    """A broker of this test alone, to be killed and started again."""
    with broker_wanted():
        broker = own_broker()
    yield broker
    broker.stop()
