"""Workers as processes of the command line, for end-to-end tests: an app from a file of the test's own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_ports

PLENTY_SECONDS = 60.0
SESSION_VARIABLE = "TEST_SESSION_TIMEOUT_MS"


class WorkerProcess:
    """`perdure worker app:app` in a directory that has app.py; of this build, or of that in the folder `build`."""

    def __init__(self, directory: Path, servers: str, hub: str, *options: str, build: Path | None = None) -> None:
        self.port = free_ports(2)[0]  # a second process answers at the next one
        self.log = directory / f"worker-{self.port}.log"
        session_ms = os.environ.get(SESSION_VARIABLE, "2000")
        environment = {**os.environ, "PERDURE_KAFKA_SESSION_TIMEOUT_MS": session_ms}
        if build is not None:
            environment["PYTHONPATH"] = str(build)
        place = ["--dir", str(directory / f"state-{self.port}"), "--port", str(self.port)]
        connection = ["--brokers", servers, "--hub", hub, "--log-format", "json"]
        command = [sys.executable, "-m", "perdure", "worker", "app:app", *connection, *place, *options]
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(command, cwd=directory, env=environment, stdout=out, stderr=out)

    @property
    def code(self) -> int | None:
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        until(self._is_ready, self.log.read_text)

    def _is_ready(self) -> bool:
        assert self.code is None, self.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def ask(self, path: str) -> tuple[int, Any]:
        """Its health: code and JSON."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=PLENTY_SECONDS)
        return answer.status_code, answer.json()

    def metrics(self) -> list[str]:
        """What it tells Prometheus, line by line."""
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=PLENTY_SECONDS).text.splitlines()

    def terminate(self) -> None:
        """Ask it to stop in order."""
        self._process.terminate()

    def wait(self) -> int:
        return self._process.wait(PLENTY_SECONDS)

    def pause(self) -> None:
        """Stop it where it stands, as a machine that hangs; `go_on` lets it wake up as if nothing had been."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def until(done: Callable[[], bool], story: Callable[[], str] = lambda: "it did not happen") -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PLENTY_SECONDS
    while not done():
        assert time.monotonic() < deadline, story()
        time.sleep(0.05)
