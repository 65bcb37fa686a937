"""A recorder that has ended is told of as such, and not as a worker that never came to own anything."""

import asyncio
from pathlib import Path

import pytest

from perdure.partitions.embedded import EmbeddedLog
from tests.chaos.ground import EmbeddedGround, Terms, standing, until


def test_who_waits_for_owners_hears_that_the_recorder_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(directory: Path) -> EmbeddedLog:
        raise RuntimeError("a bug")

    async def wait() -> None:
        async with standing(EmbeddedGround(Terms(), tmp_path)) as ground:
            (tmp_path / "hub").mkdir()
            (tmp_path / "hub" / "hub.json").touch()
            await until(ground.is_owned, 60, "turns on every partition")

    monkeypatch.setattr(EmbeddedLog, "open_reader", fail)
    with pytest.raises(AssertionError, match=r"the recorder ended: RuntimeError\('a bug'\)"):
        asyncio.run(wait())
