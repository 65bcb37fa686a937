"""A watch is in its owner's memory only; what a client waits for comes all the same when the owner is another by then."""

import asyncio
from pathlib import Path

import pytest

from perdure.client import log_transport
from tests.client.hub import listen
from tests.client.ways import InProcess


def test_who_waits_late_asks_at_once_and_not_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many handles are waited for one after the other; a pause for each would add up to minutes."""
    way = InProcess(tmp_path)

    async def wait_late() -> str:
        async with way.connect_async() as client:
            handle = await client.start(listen)
            await asyncio.to_thread(way.stop_worker)
            way.restart_worker()
            monkeypatch.setattr(log_transport, "RESEND_SECONDS", 3600.0)
            assert isinstance(handle._ticket, log_transport.Ticket)
            handle._ticket.asked_at -= 7200
            await handle.raise_event("go", "late")
            return str(await handle.result(20))

    try:
        assert "late" == asyncio.run(wait_late())
    finally:
        way.close()
