"""`perdure worker` and `perdure serve` whose brokers are away: each says where it listens, and that."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from tests.cli.conftest import PLENTY_SECONDS, clean_environment
from tests.e2e.workers import until
from tests.ports import free_ports


class Process:
    """One of the two, with its log as JSON."""

    def __init__(self, directory: Path, port: int, *words: str) -> None:
        self.log = directory / f"{words[0]}.log"
        # Nobody listens there, and one may hope for as long as a test lasts.
        address = f"127.0.0.1:{port}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure", *words, "--brokers", address, "--log-format", "json"],
                cwd=directory, env=clean_environment(), stderr=log,
            )  # fmt: skip

    def lines(self, event: str) -> list[dict[str, object]]:
        said = [line for line in self.log.read_bytes().splitlines(keepends=True) if line.startswith(b"{")]
        found = [orjson.loads(line) for line in said if line.endswith(b"\n")]
        return [line for line in found if line["event"] == event]

    def wait_for(self, event: str) -> dict[str, object]:
        until(lambda: self.lines(event), self.log.read_text)
        return self.lines(event)[0]


@contextmanager
def running(directory: Path, port: int, *words: str) -> Iterator[Process]:
    started = Process(directory, port, *words)
    try:
        yield started
        started.process.send_signal(signal.SIGTERM)
        assert 0 == started.process.wait(PLENTY_SECONDS), started.log.read_text()
    finally:
        started.process.kill()
        started.process.wait()


def test_serve_says_that_it_does_not_find_the_hub(project: Path, closed_port: int) -> None:
    with running(project, closed_port, "serve", "--port", "0") as serve:
        missing = serve.wait_for("hub.unavailable")

    assert "error" == missing["level"]
    assert f"no Kafka broker answered at 127.0.0.1:{closed_port}" in str(missing["reason"])


@pytest.mark.parametrize("taken", [False, True])
def test_a_worker_says_where_its_health_is_and_leaves_the_apis_port_alone(
    project: Path, closed_port: int, taken: bool
) -> None:
    (port,) = free_ports(1)
    (project / "perdure.toml").write_text(f'app = "app:app"\nhealth_port = {port}\n')
    with ExitStack() as stack:
        if taken:
            other = stack.enter_context(socket.create_server(("127.0.0.1", port)))
            assert port == other.getsockname()[1]
        with running(project, closed_port, "worker") as worker:
            url = str(worker.wait_for("health.listening")["url"])
            answer = httpx.get(f"{url}/readyz")

    assert (503, "the brokers") == (answer.status_code, answer.json()["waiting_for"])
    assert taken == (url != f"http://127.0.0.1:{port}")
