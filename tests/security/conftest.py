"""One broker with TLS, SASL and ACLs for all tests of this folder that ask for it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import ROOT, fetch_jars, find_java
from tests.secured import SecuredBroker
from tests.wanting import broker_wanted


@pytest.fixture(scope="package")
def secured_broker() -> Iterator[SecuredBroker]:
    """Skips, with the reason, where there is no Java to run one."""
    with broker_wanted():
        java = find_java()
        fetch_jars()
    (ROOT / "build").mkdir(exist_ok=True)
    broker = SecuredBroker(java, Path(tempfile.mkdtemp(prefix="secured-", dir=ROOT / "build")))
    broker.start()
    yield broker
    broker.stop()
