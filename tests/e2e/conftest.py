"""A hub of its own for each end-to-end test, and workers that end with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.client import Client
from perdure.partitions.kafka import KafkaSettings, create_hub
from tests.e2e.workers import WorkerProcess

PARTITIONS = 4


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_servers, f"e2e-{uuid4().hex[:8]}")
    create_hub(settings, PARTITIONS, 1)
    return settings


@pytest.fixture
def client(settings: KafkaSettings) -> Iterator[Client]:
    with Client.kafka(settings.hub, settings.servers, timeout=60) as client:
        yield client


@pytest.fixture
def start_worker(settings: KafkaSettings, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start a worker whose app.py has this text."""
    workers: list[WorkerProcess] = []

    def start(app: str, *options: str, build: Path | None = None) -> WorkerProcess:
        directory = tmp_path / f"app-{len(workers)}"
        directory.mkdir()
        (directory / "app.py").write_text(app)
        workers.append(WorkerProcess(directory, settings.servers, settings.hub, *options, build=build))
        workers[-1].wait_until_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
