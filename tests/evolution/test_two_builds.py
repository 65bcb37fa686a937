"""One build writes level n+1 events, one that knows only n takes over, and the first comes back (R12): two real builds, in processes
of their own, on one log."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.client import Client
from perdure.connection import find_dev
from perdure.partitions.embedded import EmbeddedLog
from perdure.partitions.reader import Accepted, RunState, read_record
from perdure.schemas.codec import decode_level, decode_turn
from perdure.schemas.events import UnknownEvent
from perdure.schemas.records import LEVEL, RecordKind
from tests.evolution.next_build import ROOT, make_next_build

PATIENCE_SECONDS = 60.0
THIS = ROOT / "src"
APP = """
from perdure import App

app = App()


@app.activity
def echo(value):
    return value


@app.orchestration
async def order(ctx, praised):
    if praised:
        ctx.praise("the next build")
    begun = await ctx.call_activity(echo, "begun")
    return [begun, await ctx.wait_for_external_event("go"), await ctx.call_activity(echo, "done")]
"""


class Deployed:
    """One hub's directory, and the build that runs on it now."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = directory / "hub"
        (directory / "app.py").write_text(APP)
        self._running: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    def deploy(self, build: Path) -> None:
        """Kill what runs, and run another build on what it left."""
        self.kill()
        command = [
            sys.executable,
            "-m",
            "perdure",
            "dev",
            "app:app",
            "--dir",
            str(self.hub),
            "--port",
            "0",
            "--partitions",
            "1",
        ]
        with (self.directory / "dev.log").open("ab") as log:
            self._running = subprocess.Popen(
                command, cwd=self.directory, env=environment(build), stdout=log, stderr=subprocess.STDOUT
            )
        dev = self.until(lambda: find_dev(self.hub))
        self._client = Client.http(dev.url)
        self.until(self.answers)

    def answers(self) -> bool:
        try:
            self.client.list()
        except Exception:  # noqa: BLE001 - it is not ready yet
            return False
        return True

    def until(self, done: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := done()):
            assert self._running is not None
            assert self._running.poll() is None, (self.directory / "dev.log").read_text()
            assert time.monotonic() < deadline, (self.directory / "dev.log").read_text()[-4_000:]
            time.sleep(0.02)
        return found

    def kill(self) -> None:
        """SIGKILL, and no hand-over."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            (self.hub / "dev.json").unlink(missing_ok=True)
            self._running = None

    def held(self) -> dict[str, str]:
        return {each.instance_id: each.held.kind for each in self.client.list(held=True) if each.held is not None}

    def audit(self, build: Path) -> subprocess.CompletedProcess[str]:
        self.kill()
        command = [sys.executable, "-m", "perdure", "audit", "--dir", str(self.hub), "--app", "app:app"]
        return subprocess.run(
            command,
            cwd=self.directory,
            env=environment(build),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def records(self) -> list[Accepted]:
        """All accepted records of the log, read by this build."""
        self.kill()
        log = EmbeddedLog.open(self.hub, hub="perdure")
        try:
            state, accepted = RunState(), []
            for record in log.read_history(0, 0, log.span_history(0).end):
                state, verdict = read_record(state, record.offset, record.value)
                if isinstance(verdict, Accepted):
                    accepted.append(verdict)
        finally:
            log.close()
        return accepted


def environment(build: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(build), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    deployed = Deployed(tmp_path)
    yield deployed
    deployed.kill()


def test_a_build_that_knows_only_level_n_takes_over_from_one_that_wrote_level_n_plus_one_and_gives_back(
    deployed: Deployed, tmp_path: Path
) -> None:
    following = make_next_build(tmp_path / "next")

    # 1. This build, at level n.
    deployed.deploy(THIS)
    deployed.client.start("order", False, instance_id="older")
    # 2. The next build takes over. No other worker can be there, so it raises the level, and writes what only it knows.
    deployed.deploy(following)
    for name in ("newer", "newest"):
        deployed.client.start("order", True, instance_id=name)
    deployed.client.start("order", False, instance_id="plain")
    deployed.until(lambda: all(each.history_events >= 3 for each in deployed.client.list()))
    assert {} == deployed.held()
    # 3. This build takes over what the next one wrote: only what it cannot read is held, and said so at once.
    deployed.deploy(THIS)
    assert {"newer": "unknown-event", "newest": "unknown-event"} == deployed.held()
    reason = deployed.client.instance("newer").get().held
    assert reason is not None
    assert "an event of kind 99, written by a newer build" in reason.reason
    for name in ("older", "newer", "plain"):
        deployed.client.instance(name).raise_event("go", name)
    assert ["begun", "older", "done"] == deployed.client.instance("older").result(PATIENCE_SECONDS)
    assert ["begun", "plain", "done"] == deployed.client.instance("plain").result(PATIENCE_SECONDS)
    fresh = deployed.client.start("order", False, instance_id="fresh")
    fresh.raise_event("go", "fresh")
    assert ["begun", "fresh", "done"] == fresh.result(PATIENCE_SECONDS)
    assert {"newer": "unknown-event", "newest": "unknown-event"} == deployed.held()
    # 4. The next build comes back: nothing is held any more, and what came meanwhile is there.
    deployed.deploy(following)
    deployed.until(lambda: not deployed.held())
    assert ["begun", "newer", "done"] == deployed.client.instance("newer").result(PATIENCE_SECONDS)
    deployed.client.instance("newest").raise_event("go", "newest")
    assert ["begun", "newest", "done"] == deployed.client.instance("newest").result(PATIENCE_SECONDS)

    audited = deployed.audit(following)
    assert 0 == audited.returncode, audited.stdout + audited.stderr
    # To this build the log is whole as well; it lacks the code for what it cannot read.
    audited = deployed.audit(THIS)
    assert 4 == audited.returncode, audited.stdout + audited.stderr
    check_levels(deployed.records())


def check_levels(records: list[Accepted]) -> None:
    """The level was raised once, by a record; unknown events stand only after it; every body has a format of level n."""
    raised = [
        (at, decode_level(each.body, each.format)) for at, each in enumerate(records) if each.kind == RecordKind.LEVEL
    ]
    assert [LEVEL + 1] == [each.level for _, each in raised]
    turns = [
        (at, decode_turn(each.body, each.format)) for at, each in enumerate(records) if each.kind == RecordKind.TURN
    ]
    unknown = [at for at, body in turns for event in body.events if isinstance(event, UnknownEvent)]
    assert 2 == len(unknown)
    assert raised[0][0] < min(unknown)
    assert {LEVEL} == {each.format for each in records}
