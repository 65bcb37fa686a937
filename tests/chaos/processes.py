"""Worker processes of a run: started, killed, stopped, frozen, and what they said."""

import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import orjson

from .points import VARIABLE, Point
from .worker import run_forked

PLENTY_SECONDS = 90.0
KILLED = -signal.SIGKILL
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.chaos.worker"])
_LEVELS = ("error", "critical")
# An exit code is told once, to whoever asks first, and 255 to who asks at the same time; and each start asks for those of all.
_ASKING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cry:
    """A line at error level, or what is no line of a log at all."""

    worker: str
    event: str
    text: str


class Worker:
    """One worker with a directory of its own, through all its lives."""

    def __init__(self, name: str, log: str, variables: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.out = directory.with_suffix(".log")
        self._log = log
        self._variables = {**variables, "PERDURE_DIR": str(directory), "PERDURE_LOG_FORMAT": "json"}
        self._process: ForkServerProcess | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._exit_code() is None

    def _exit_code(self) -> int | None:
        assert self._process is not None
        with _ASKING:
            return self._process.exitcode

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def start(self, point: Point | None = None, **variables: str) -> None:
        """Begin a life, which may end at a crash point."""
        assert not self.alive, f"{self.name} lives"
        given = {**self._variables, **variables, VARIABLE: "" if point is None else str(point)}
        self._process = _CONTEXT.Process(target=run_forked, args=(self._log, given, self.out))
        with _ASKING:
            self._process.start()

    def wait(self, seconds: float = PLENTY_SECONDS) -> int | None:
        """The exit code; None if it lives on."""
        assert self._process is not None
        connection.wait([self._process.sentinel], seconds)
        return self._exit_code()

    def kill(self) -> None:
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def ask_to_stop(self) -> None:
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def resident_bytes(self) -> int:
        """The memory that it has now; 0 where it has none."""
        import psutil

        try:
            memory: int = psutil.Process(self.pid).memory_info().rss
        except psutil.NoSuchProcess:
            return 0
        return memory

    def said(self) -> str:
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def cries(self) -> Iterator[Cry]:
        """Everything that it said at error level, and every line that is none of its log's."""
        for line in self.said().splitlines():
            try:
                fields = orjson.loads(line)
            except orjson.JSONDecodeError:
                # A process that is killed may be in the midst of a line.
                if line.strip() and not line.startswith("{"):
                    yield Cry(self.name, "", line)
                continue
            if fields.get("level") in _LEVELS:
                yield Cry(self.name, str(fields.get("event", "")), line)


Expected = Mapping[str, str]
"""Patterns of events, and of what they say."""


def unexpected(cries: Iterator[Cry], expected: Iterable[Expected]) -> Iterator[str]:
    """Cries that no fault explains."""
    patterns = [each for of in expected for each in of.items()]
    for cry in cries:
        if not any(re.fullmatch(event, cry.event) and re.search(text, cry.text) for event, text in patterns):
            yield f"{cry.worker} says {cry.text[:2_000]}"
