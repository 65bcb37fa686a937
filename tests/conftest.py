"""Fixtures for everybody: a real Kafka, one for the whole run (tests/broker.py)."""

from collections.abc import Iterator

import pytest

from tests.broker import Broker, NoBroker, find_broker, own_broker


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """A broker for tests that use topics of their own and leave it alone. Skips, with the reason, where there is none."""
    try:
        broker = find_broker()
    except NoBroker as error:
        pytest.skip(str(error))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def kafka_servers(kafka_broker: Broker) -> str:
    return kafka_broker.servers


@pytest.fixture
def mortal_broker() -> Iterator[Broker]:
    """A broker of this test alone, to be killed and started again."""
    try:
        broker = own_broker()
    except NoBroker as error:
        pytest.skip(str(error))
    yield broker
    broker.stop()
