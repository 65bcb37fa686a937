"""The app that suffers: the interpreter of the simulator's programs, with activities that really happen.

Rules of this file: an attempt leaves its mark in a synced file before it does anything else, as an HTTP call would reach its
server; nobody but the file's reader knows of it.
"""

import asyncio
import fcntl
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import orjson

from perdure import ActivityContext, App, NonRetriableError, OrchestrationContext, TaskFailedError
from tests.checkers.evidence import Attempt
from tests.simulation.interpreter import make_app

from .points import strike

EFFECTS_VARIABLE = "CHAOS_EFFECTS"
SLOW_VARIABLE = "CHAOS_SLOW_MS"


class Flaky(Exception):
    """Not this time."""


class Fatal(NonRetriableError):
    """It never works."""


class Effects:
    """The file in which attempts leave their mark. Any process may append."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, ctx: ActivityContext, given: Any) -> None:
        """One line, durable before the activity goes on."""
        strike("activity.begun")
        mark = {
            "time_ms": time.time_ns() // 1_000_000,
            "process": str(os.getpid()),
            "key": ctx.idempotency_key,
            "attempt": ctx.attempt,
            "name": ctx.name,
            "input": orjson.dumps(given).decode(),
        }
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, orjson.dumps(mark) + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        strike("activity.done")

    def read(self) -> list[Attempt]:
        """Every attempt that left its mark."""
        marks = [orjson.loads(line) for line in self._path.read_bytes().splitlines()] if self._path.exists() else []
        return [Attempt(**{**mark, "input": mark["input"].encode()}) for mark in marks]

    def turn_of(self, name: str, execution_id: str) -> int:
        """How many executions of an instance asked before this one. They may ask from different processes."""
        directory = self._path.with_suffix(".asked")
        directory.mkdir(exist_ok=True)
        with (directory / hashlib.sha256(name.encode()).hexdigest()[:16]).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            asked = file.read().split()
            if execution_id not in asked:
                file.write(f"{execution_id}\n")
                asked.append(execution_id)
            return asked.index(execution_id)


def make_real_app() -> App:
    """The app of a worker process; where its marks go is in the environment."""
    app = make_app(1)
    effects = Effects(Path(os.environ[EFFECTS_VARIABLE]))
    pause = float(os.environ.get(SLOW_VARIABLE, "0")) / 1000

    @app.activity
    def plain(ctx: ActivityContext, given: Any) -> Any:
        effects.append(ctx, given)
        time.sleep(pause)
        return given

    @app.activity
    async def waiting(ctx: ActivityContext, given: Any) -> Any:
        effects.append(ctx, given)
        await asyncio.sleep(0.02 + pause)
        return given

    @app.activity
    def flaky(ctx: ActivityContext, given: list[int]) -> int:
        effects.append(ctx, given)
        token, fails = given
        if ctx.attempt <= fails:
            raise Flaky("not this time")
        return token

    @app.activity
    async def fatal(ctx: ActivityContext, given: int) -> None:
        effects.append(ctx, given)
        raise Fatal("it never works")

    @app.activity
    async def slow(ctx: ActivityContext, given: list[int]) -> int:
        effects.append(ctx, given)
        token, takes_ms = given
        await asyncio.sleep(takes_ms / 1000)
        return token

    @app.activity
    def nth(ctx: ActivityContext, given: list[Any]) -> int:
        effects.append(ctx, given)
        name, fails = given
        if effects.turn_of(name, ctx.execution_id) < fails:
            raise Flaky("not this execution")
        return 0

    _add_killers(app)
    return app


def _add_killers(app: App) -> None:
    """Code that ends its process, as one that runs out of memory would."""

    @app.activity
    def deadly() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @app.orchestration
    async def killer(ctx: OrchestrationContext, _given: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @app.orchestration
    async def victim(ctx: OrchestrationContext, _given: Any) -> str:
        try:
            await ctx.call_activity(deadly)
        except TaskFailedError as error:
            return error.failure.type
        return "it lives"
