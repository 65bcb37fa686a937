"""The hub of the demo as processes outside the driver, started as a user would: by the command line."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

import httpx
from prometheus_client.parser import text_string_to_metric_families

from perdure.client import Client

APP = "workloads.app:app"
READY_SECONDS = 60.0


class DemoFailed(RuntimeError):
    """Something that the demo cannot go on without; the message says what to look at."""


class Command:
    """One `perdure` process in a process group of its own; what it says goes to a file."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
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


class DemoHub(Protocol):
    """A hub that is to be killed and to go on."""

    def start(self) -> Client:
        """Start its processes and return a client."""
        ...

    def activities_running(self) -> int: ...

    def kill(self) -> str:
        """Kill with SIGKILL what is to be killed, let the hub go on, and say what was done."""
        ...

    def look(self) -> Sequence[str]:
        """The options by which `perdure` commands find it while it runs."""
        ...

    def stop(self) -> None: ...


class EmbeddedDemo:
    """`perdure dev`: hub, worker and API in one process on the embedded log."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / "hub"
        self._dev: Command | None = None
        self._port = free_port()

    def start(self) -> Client:
        self._start_dev()
        return Client.http(self._url)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _start_dev(self) -> None:
        options = ["--dir", str(self._directory), "--hub", "demo", "--port", str(self._port), "--no-replay"]
        self._dev = Command(["dev", APP, *options], self._root / "hub.log")
        wait_until_ready(self._url, self._dev)

    def activities_running(self) -> int:
        return count_running(self._url)

    def kill(self) -> str:
        assert self._dev is not None
        self._dev.kill()
        self._start_dev()
        return "the hub's process group was killed with SIGKILL, and started again"

    def look(self) -> Sequence[str]:
        return ("--dir", str(self._directory))

    def stop(self) -> None:
        if self._dev is not None:
            self._dev.stop()


class KafkaDemo:
    """Two workers on a real broker; one of them is killed for good."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hub = f"demo-{uuid4().hex[:8]}"
        self._broker: subprocess.Popen[str] | None = None
        self._servers = ""
        self._workers: dict[str, Command] = {}

    def start(self) -> Client:
        self._servers = self._start_broker()
        create = ["hub", "create", "--partitions", "4", *self.look()]
        subprocess.run([sys.executable, "-m", "perdure", *create], check=True, stdout=subprocess.DEVNULL)
        for number in range(2):
            port = free_port()
            place = ["--dir", str(self._root / f"worker-{number}"), "--port", str(port)]
            worker = Command(["worker", APP, *self.look(), *place], self._root / f"worker-{number}.log")
            self._workers[f"http://127.0.0.1:{port}"] = worker
        for url, worker in self._workers.items():
            wait_until_ready(url, worker)
        return Client.kafka(self._hub, self._servers)

    def _start_broker(self) -> str:
        """`python -m tests.broker` finds or starts one, and ends it when its own stdin is closed."""
        self._broker = subprocess.Popen(
            [sys.executable, "-m", "tests.broker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._broker.stdout is not None
        line = self._broker.stdout.readline().split()
        if not line:
            raise DemoFailed("there is no broker: set KAFKA_BOOTSTRAP_SERVERS, or install Docker, or Java 17 and Maven")
        return line[0]

    def activities_running(self) -> int:
        return min(count_running(url) for url in self._workers)

    def kill(self) -> str:
        url = max(self._workers, key=count_running)
        self._workers.pop(url).kill()
        return "one of two workers was killed with SIGKILL, and is not started again"

    def look(self) -> Sequence[str]:
        return ("--hub", self._hub, "--brokers", self._servers)

    def stop(self) -> None:
        for worker in self._workers.values():
            worker.stop()

    def stop_broker(self) -> None:
        """Let the broker go, if it is ours."""
        if self._broker is not None:
            self._broker.communicate(timeout=60)


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
