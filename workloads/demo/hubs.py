"""Where the demo runs: on the embedded log, on a broker of its own, or on a hub that is there with workers of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from perdure.client import Client

from .processes import Command, DemoFailed, count_running, free_port, run_command, wait_until_ready

APP = "workloads.app:app"


class DemoHub(Protocol):
    """A hub that works while the demo looks on."""

    def start(self) -> Client:
        """Start its processes and return a client."""
        ...

    def look(self) -> Sequence[str]:
        """The options by which `perdure` commands find it."""
        ...

    def stop(self) -> None:
        """End its processes in order; nothing happens the second time."""
        ...

    def close(self) -> None:
        """Let go what it ran on."""
        ...


class MortalHub(DemoHub, Protocol):
    """A hub that is to be killed and to go on."""

    def activities_running(self) -> int: ...

    def kill(self) -> str:
        """Kill with SIGKILL what is to be killed, let the hub go on, and say what was done."""
        ...


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

    def close(self) -> None: ...


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
        run_command("hub", "create", "--partitions", "4", *self.look())
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

    def close(self) -> None:
        if self._broker is not None:
            self._broker.communicate(timeout=60)


class GivenHub:
    """A hub on Kafka with workers that others run, in docker-compose.yml for example; whoever runs them may kill them."""

    def __init__(self, hub: str, servers: str) -> None:
        self._hub = hub
        self._servers = servers

    def start(self) -> Client:
        return Client.kafka(self._hub, self._servers)

    def look(self) -> Sequence[str]:
        return ("--hub", self._hub, "--brokers", self._servers)

    def stop(self) -> None: ...

    def close(self) -> None: ...
