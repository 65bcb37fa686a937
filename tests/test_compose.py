"""docker-compose.yml without Docker: what its services run, run as it says, on a real broker. Only places are put elsewhere."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from perdure.cli.apps import load_app
from tests.e2e.workers import until
from tests.ports import free_ports
from tests.test_packaging import dockerfile

ROOT = Path(__file__).resolve().parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]


def test_the_worker_names_an_app_that_is_there() -> None:
    (name,) = [word for word in SERVICES["worker"]["command"] if ":" in word]

    assert "workloads" == load_app(name).name


def test_what_the_demo_and_the_workers_share_is_a_volume_of_both() -> None:
    directory = SERVICES["demo"]["command"][-1]
    volumes = [volume.partition(":")[2] for name in ("demo", "worker") for volume in SERVICES[name]["volumes"]]

    assert [True, True] == [directory.startswith(f"{volume}/") for volume in volumes]


def test_everything_that_the_process_writes_is_its_own() -> None:
    """The image's process is not root: it owns what its state and the volumes are mounted on."""
    made = [word for words in dockerfile() if words[0] == "RUN" for word in words if word.startswith("/")]
    settings = dict(word.split("=", 1) for words in dockerfile() if words[0] == "ENV" for word in words[1:])

    assert {"/data", "/shared"} <= set(made)
    assert ("/data", "/shared/results") == (settings["PERDURE_DIR"], settings["PERDURE_RESULTS"])


@dataclass(frozen=True, slots=True)
class Service:
    """A service's process, and where it answers."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    def answers(self, path: str) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}{path}").status_code == httpx.codes.OK
        return False

    def said(self) -> str:
        return self.log.read_text()


class Project:
    """The services as processes: kafka:9092 is the broker of the tests, /data and /shared are folders of this test."""

    def __init__(self, folder: Path, servers: str) -> None:
        self.folder = folder
        self._servers = servers
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, service: str, number: int = 0) -> Service:
        port, data = free_ports(1)[0], self.folder / f"{service}-{number}"
        data.mkdir()
        named = {name: self._put(value) for name, value in SERVICES[service]["environment"].items()}
        ports = {"PERDURE_PORT": str(port), "PERDURE_HEALTH_PORT": str(port)}
        own = {"PERDURE_DIR": str(data), "PERDURE_RESULTS": self._put("/shared/results"), **ports}
        words = [self._put(word) for word in SERVICES[service]["command"]]
        command = [sys.executable, *(["-m"] if words[0] == "perdure" else []), *words[words[0] != "perdure" :]]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
        file = self.folder / f"{service}-{number}.log"
        with file.open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=kept | own | named, stdout=log, stderr=log)
        self._processes.append(process)
        return Service(process, f"http://127.0.0.1:{port}", file)

    def _put(self, word: str) -> str:
        word = word.replace("kafka:9092", self._servers).replace("/shared", str(self.folder / "shared"))
        return word.replace("0.0.0.0", "127.0.0.1").replace("${PERDURE_TOKEN:-for-this-machine-only}", "secret")

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def project(kafka_servers: str, tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, kafka_servers)
    yield project
    project.end()


@pytest.mark.kafka
def test_its_services_do_what_they_are_for(project: Project) -> None:
    # `docker compose up` twice: the hub that is there will do.
    for hub in (project.run("hub"), project.run("hub", 1)):
        assert 0 == hub.process.wait(60), hub.said()
    workers, api = [project.run("worker", number) for number in range(2)], project.run("api")
    for service in (*workers, api):
        until(lambda service=service: service.answers("/healthz"), service.said)

    demo = project.run("demo")
    until(lambda: "Indexing" in demo.said(), demo.said)
    workers[0].process.kill()

    assert 0 == demo.process.wait(120), demo.said()
    assert 5 == demo.said().count("✓")
    url = f"{api.url}/v1/instances"
    assert httpx.codes.UNAUTHORIZED == httpx.get(url).status_code
    assert httpx.codes.OK == httpx.get(url, headers={"Authorization": "Bearer secret"}).status_code
