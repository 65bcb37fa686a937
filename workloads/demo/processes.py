"""Processes outside the driver, started as a user would: by the command line."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import httpx
from prometheus_client.parser import text_string_to_metric_families

READY_SECONDS = 60.0
_MODELS = ("PERDURE_MODEL_", "PERDURE_EMBEDDING_MODEL", "PERDURE_CORPUS")


class DemoFailed(RuntimeError):
    """Something that the demo cannot go on without; the message says what to look at."""


class Command:
    """One `perdure` process in a process group of its own; what it says, and what runs deliver, goes beside `log`."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        environment = {**own_environment(), "PERDURE_RESULTS": str(log.with_name("results"))}
        self._log = log
        self._out: IO[bytes] = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perdure", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._out,
            env=environment,
            start_new_session=True,
        )

    def check(self) -> None:
        """Raise DemoFailed if it has ended."""
        if self._process.poll() is not None:
            raise DemoFailed(f"a process of the hub ended with code {self._process.returncode}; see {self._log}")

    def kill(self) -> None:
        """SIGKILL to the whole group: nothing in it can say goodbye."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._out.close()

    def stop(self) -> None:
        """SIGTERM, and wait; a process that does not end is killed."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        self._out.close()


def own_environment() -> dict[str, str]:
    """This environment without a person's own settings of Perdure, models apart: the driver asks the index with the same."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("PERDURE_") or name.startswith(_MODELS)
    }


def run_command(*arguments: str) -> None:
    """Run a `perdure` command to its end. Raises DemoFailed with what it said."""
    command = [sys.executable, "-m", "perdure", *arguments]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"perdure {' '.join(arguments)} exited {done.returncode}: {done.stderr.strip()}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, process: Command) -> None:
    """Wait until a process owns its partitions."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        process.check()
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise DemoFailed(f"{url}/readyz was not ready within {READY_SECONDS:g} s")


def count_running(url: str) -> int:
    """How many activities a process runs now, by its metrics; 0 if it does not answer."""
    try:
        text = httpx.get(f"{url}/metrics").text
    except httpx.HTTPError:
        return 0
    families = text_string_to_metric_families(text)
    return sum(
        int(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "perdure_activities_running"
    )
