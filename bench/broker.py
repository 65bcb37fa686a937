"""The broker under test: the tests' own, started with a JVM that warms up."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.broker import NoBroker, find_broker

from .bare_system import BrokerUnderTest
from .measure import BenchmarkFailed


@contextmanager
def warm_broker() -> Iterator[BrokerUnderTest]:
    try:
        broker = find_broker(warm=True)
    except NoBroker as reason:
        raise BenchmarkFailed(f"no Kafka here: {reason}") from reason
    try:
        yield BrokerUnderTest(broker.servers, tuple(broker.pids))
    finally:
        broker.stop()
