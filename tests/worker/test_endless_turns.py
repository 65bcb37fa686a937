"""A turn that blocks or never ends is interrupted after its limit and holds its instance, while the others go on (on a real worker)."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from perdure import App, Limits, OrchestrationContext
from perdure.client import Client
from perdure.connection import find_dev
from perdure.schemas import messages as ms
from perdure.schemas.messages import Query, QueryKind
from tests.worker.engine import PLENTY_SECONDS, Engine

LIMIT_SECONDS = 0.2
Code = Callable[[OrchestrationContext], Any]


async def endless(ctx: OrchestrationContext) -> None:
    while True:
        pass


async def endless_later(ctx: OrchestrationContext) -> None:
    await ctx.call_activity("echo", 1)
    while True:
        pass


async def blocks(ctx: OrchestrationContext) -> None:
    time.sleep(4 * LIMIT_SECONDS)


async def in_except_exception(ctx: OrchestrationContext) -> None:
    while True:
        with suppress(Exception):
            time.monotonic()


async def swallows_once(ctx: OrchestrationContext) -> str:
    """It catches the interrupt, and returns as if nothing had been."""
    try:
        while True:
            pass
    except BaseException:  # noqa: BLE001
        return "nothing happened"


async def swallows_and_waits(ctx: OrchestrationContext) -> None:
    with suppress(BaseException):
        while True:
            pass
    await ctx.call_activity("echo", 1)


def generator(ctx: OrchestrationContext) -> Iterator[Any]:
    yield ctx.call_activity("echo", 1)
    while True:
        pass


def app_of(code: Code | None = None) -> App:
    app = App()

    @app.activity
    def echo(value: Any) -> Any:
        return value

    @app.orchestration
    async def fine(ctx: OrchestrationContext) -> Any:
        return [await ctx.call_activity(echo, number) for number in range(3)]

    if code is not None:
        app.orchestration(name="code")(code)
    return app


@contextmanager
def worker(directory: Path, app: App, **owner: Any) -> Iterator[Engine]:
    engine = Engine(directory, app, owner={"limits": Limits(turn_seconds_max=LIMIT_SECONDS), **owner}).start()
    try:
        yield engine
    finally:
        engine.close()
        assert engine.error is None, engine.error


def view(engine: Engine, instance_id: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(engine.answer(engine.ask(instance_id, Query(QueryKind.GET))).body)
    return found


@pytest.mark.parametrize(
    "code", [endless, endless_later, blocks, in_except_exception, swallows_once, swallows_and_waits, generator]
)
def test_a_turn_without_end_holds_its_instance_and_the_others_go_on(code: Code, tmp_path: Path) -> None:
    with worker(tmp_path, app_of(code)) as engine:
        engine.ask("bad", ms.Start("code"))
        for number in range(5):
            engine.ask(f"good-{number}", ms.Start("fine"))
        engine.until(lambda: view(engine, "bad").get("held"))
        held = view(engine, "bad")["held"]

        assert "turn-too-long" == held["kind"]
        assert f"the turn took longer than {LIMIT_SECONDS:g} s and was interrupted" in held["reason"]
        assert [[0, 1, 2]] * 5 == [engine.result(f"good-{number}")["result"] for number in range(5)]
        assert "COMPLETED" != view(engine, "bad")["status"]


def test_an_interrupted_turn_decides_nothing_and_keeps_its_facts(tmp_path: Path) -> None:
    stops = [False]

    async def code(ctx: OrchestrationContext) -> list[Any]:
        got = await ctx.wait_for_external_event("go")
        while not stops[0]:
            pass
        return [got, await ctx.wait_for_external_event("go")]

    with worker(tmp_path, app_of(code)) as engine:
        engine.begin("i", "code")
        engine.ask("i", ms.RaiseEvent("go", b"1"))
        engine.until(lambda: view(engine, "i").get("held"))
        engine.ask("i", ms.RaiseEvent("go", b"2"))
        stops[0] = True
        engine.ask("i", ms.Resume())

        assert [1, 2] == engine.result("i")["result"]
        assert view(engine, "i")["held"] is None


async def leaves_slowly(ctx: OrchestrationContext) -> str:
    try:
        await ctx.wait_for_external_event("go")
    except GeneratorExit:
        while True:
            pass
    return "went"


async def leaves_never(ctx: OrchestrationContext) -> str:
    while True:
        try:
            await ctx.wait_for_external_event("go")
        except GeneratorExit:
            time.sleep(2 * LIMIT_SECONDS)
        else:
            return "went"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("code", [leaves_slowly, leaves_never])
def test_code_that_does_not_leave_when_it_is_let_go_stops_nobody(code: Code, tmp_path: Path) -> None:
    with worker(tmp_path, app_of(code), replay_always=True) as engine:
        engine.begin("bad", "code")
        for number in range(3):
            engine.begin(f"good-{number}", "fine")
        assert [[0, 1, 2]] * 3 == [engine.result(f"good-{number}")["result"] for number in range(3)]
        engine.ask("bad", ms.RaiseEvent("go"))

        assert "went" == engine.result("bad")["result"]


def test_a_blocking_call_is_interrupted_in_a_worker_process(tmp_path: Path) -> None:
    """Where the engine has the main thread, as in every worker, the call itself is ended."""
    (tmp_path / "app.py").write_text(f"""
import time
from perdure import App, Limits

app = App(limits=Limits(turn_seconds_max={LIMIT_SECONDS}))

@app.orchestration
async def blocks(ctx):
    time.sleep(3600)

@app.orchestration
async def fine(ctx):
    await ctx.create_timer(__import__("datetime").timedelta(milliseconds=1))
    return "fine"
""")
    command = [sys.executable, "-m", "perdure", "dev", "app:app", "--dir", "hub", "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ}, stdout=log, stderr=log)
    try:
        dev = _until(lambda: find_dev(tmp_path / "hub"), tmp_path / "log")
        with Client.http(dev.url) as client:
            bad = client.start("blocks", instance_id="bad")
            assert "fine" == client.start("fine").result(PLENTY_SECONDS)
            held = _until(lambda: bad.get().held, tmp_path / "log")
        assert "turn-too-long" == held.kind
    finally:
        process.terminate()
        assert 0 == process.wait(PLENTY_SECONDS)


def test_what_cannot_be_interrupted_is_named_by_a_worker_process(tmp_path: Path) -> None:
    """A call in C that keeps the whole interpreter, in a turn; and an async activity that blocks all turns."""
    (tmp_path / "app.py").write_text(f"""
import re, time
from perdure import App, Limits

app = App(limits=Limits(turn_seconds_max={LIMIT_SECONDS}))

@app.activity
async def blocking():
    time.sleep({10 * LIMIT_SECONDS})

@app.orchestration
async def catastrophe(ctx):
    re.match(r"(a+)+$", "a" * 26 + "b")

@app.orchestration
async def waits(ctx):
    await ctx.call_activity(blocking)
""")
    command = [sys.executable, "-m", "perdure", "dev", "app:app", "--dir", "hub", "--port", "0", "--log-format", "json"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ}, stdout=log, stderr=log)
    try:
        dev = _until(lambda: find_dev(tmp_path / "hub"), tmp_path / "log")
        with Client.http(dev.url) as client:
            client.start("waits").wait(PLENTY_SECONDS)
            client.start("catastrophe")
            # As faulthandler writes it, while nothing else runs; the alarm of the log comes when it is over, if at all.
            _until(lambda: re.search(r"line \d+ in catastrophe", (tmp_path / "log").read_text()), tmp_path / "log")
    finally:
        process.terminate()
        assert 0 == process.wait(PLENTY_SECONDS)
    written = (tmp_path / "log").read_text().splitlines()
    alarms = [orjson.loads(line) for line in written if "activity.blocks_the_engine" in line]

    assert any("in blocking" in alarm["stack"] for alarm in alarms), written


def _until(done: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + PLENTY_SECONDS
    while not (found := done()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return found
