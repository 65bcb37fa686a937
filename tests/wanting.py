"""A test that needs a broker, where there is none: skipped, in words by which a run's last line knows it (`conftest.py` of the root)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.broker import NoBroker


@contextmanager
def broker_wanted() -> Iterator[None]:
    try:
        yield
    except NoBroker as error:
        pytest.skip(f"no broker: {error}")
