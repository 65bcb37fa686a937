"""`perdure serve` looks for its hub by itself, and its log says what it finds."""

import asyncio
from typing import cast

import pytest
import structlog

from perdure import serve_process
from perdure.client.transport import Transport
from perdure.config import Settings
from perdure.errors import HubMissing, HubUnavailable, PerdureError
from perdure.serve_process import look_for_hub


class Brokers:
    """What they answer, one time after the other; then the hub is there."""

    def __init__(self, *faults: PerdureError) -> None:
        self._faults = list(faults)

    async def open(self, seconds: float) -> None:
        assert seconds > 0
        if self._faults:
            raise self._faults.pop(0)


def test_each_new_reason_is_said_once_and_that_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_process, "LOOK_PAUSE_SECONDS", 0.0)
    away, missing = HubUnavailable("nobody answers"), HubMissing("create it")
    with structlog.testing.capture_logs() as logs:
        asyncio.run(look_for_hub(cast("Transport", Brokers(away, away, missing)), 1.0))

    assert [("hub.unavailable", "nobody answers"), ("hub.missing", "create it"), ("hub.found", None)] == [
        (line["event"], line.get("reason")) for line in logs
    ]


def test_api_and_worker_have_ports_of_their_own() -> None:
    """Both on one machine is what the README's first steps on Kafka come to."""
    assert (8080, 8081) == (Settings().port, Settings().health_port)
