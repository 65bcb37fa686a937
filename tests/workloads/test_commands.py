"""A scheduled task on a hub that runs, through a client: its whole life as its owner sees it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.errors import InstanceAlreadyExists
from perdure.partitions.embedded import EmbeddedLog
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.membership import SoleMembership
from perdure.partitions.rocksdb import RocksStores
from perdure.worker import Worker, WorkerSettings
from workloads.scheduled_tasks import commands
from workloads.scheduled_tasks.orchestrations import app
from workloads.scheduled_tasks.schedule import Schedule
from workloads.scheduled_tasks.task import InvalidTask, ScheduledTask

NEWS = ScheduledTask("news", "ada", "What is new in asyncio?", "0 7 * * *", "Europe/Berlin")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.chdir(tmp_path)
    log = EmbeddedLog.open(tmp_path / "hub", hub="tasks", partition_count=2)
    stores = RocksStores(tmp_path / "stores")
    worker = Worker(app, log, SoleMembership(2), stores, WorkerSettings(OwnerSettings("worker")))
    thread = threading.Thread(target=worker.run)
    thread.start()
    with Client.over(log.share()) as client:
        yield client
    worker.stop()
    thread.join()
    stores.close()
    log.close()


def until(client: Client, key: str, value: object) -> None:
    deadline = time.monotonic() + 20
    while (commands.status(client, "news") or {}).get(key) != value:
        assert time.monotonic() < deadline, commands.status(client, "news")
        time.sleep(0.02)


def test_a_task_lives_as_its_owner_wants(client: Client) -> None:
    handle = commands.create(client, NEWS)
    with pytest.raises(InstanceAlreadyExists):
        commands.create(client, NEWS)
    until(client, "doing", "waiting")

    commands.run_now(client, "news")
    until(client, "completed", 1)
    assert ["COMPLETED"] == [run.status.name for run in commands.runs(client, "news")]
    commands.pause(client, "news")
    until(client, "doing", "paused")
    commands.resume(client, "news")
    until(client, "doing", "waiting")
    commands.delete(client, "news")

    ended = handle.result(20)
    assert isinstance(ended, Schedule)
    assert 1 == ended.completed


def test_a_task_that_cannot_run_is_refused_before_it_begins(client: Client) -> None:
    with pytest.raises(InvalidTask, match="expected five"):
        commands.create(client, ScheduledTask("news", "ada", "What?", "nonsense"))
    assert [] == list(client.list_all())
