"""`perdure dev` replays every turn from cold, so that code which is not deterministic shows there; a switch turns it off."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.client import Client
from perdure.connection import find_dev

PLENTY_SECONDS = 60.0
APP = """
from itertools import count
from perdure import App

app = App()
runs = count()


@app.activity
def heads():
    return "heads"


@app.activity
def tails():
    return "tails"


@app.orchestration
async def flips(ctx):
    coin = heads if next(runs) % 2 else tails
    first = await ctx.call_activity(coin)
    return [first, await ctx.call_activity(coin)]
"""


@pytest.mark.parametrize(("options", "held"), [([], True), (["--no-replay"], False)])
def test_a_dev_shows_code_that_is_not_deterministic(tmp_path: Path, options: list[str], held: bool) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "perdure", "dev", "app:app", "--dir", "hub", "--port", "0", *options]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        dev = until(lambda: find_dev(tmp_path / "hub"), tmp_path / "log")
        with Client.http(dev.url) as client:
            handle = client.start("flips", instance_id="i")
            if held:
                found = until(lambda: handle.get().held, tmp_path / "log")
                assert "nondeterminism" == found.kind
                assert "history has TaskScheduled #1 'tails', the code decided TaskScheduled #1 'heads'" in found.reason
            else:
                assert ["tails", "tails"] == handle.result(PLENTY_SECONDS)
    finally:
        process.terminate()
        process.wait(PLENTY_SECONDS)


def until(done: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + PLENTY_SECONDS
    while not (found := done()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return found
