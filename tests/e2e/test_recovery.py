"""Empty disks, trims and killers of workers, on a real broker: what a user sees of R13 to R15."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.errors import InstanceNotFound, NoAnswer
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.partitions.snapshots import read_shelf
from perdure.schemas.events import Status
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
APP = """
import os
from datetime import timedelta
from perdure import App, OrchestrationContext

app = App()

@app.activity
def double(number: int) -> int:
    return 2 * number

@app.orchestration
async def brief(ctx: OrchestrationContext, number: int) -> int:
    for _ in range(5):
        number = await ctx.call_activity(double, number)
    return number

@app.orchestration
async def long(ctx: OrchestrationContext, number: int) -> list[int]:
    first = await ctx.call_activity(double, number)
    return [first, await ctx.wait_for_external_event("go", data_type=int)]

@app.orchestration
async def killer(ctx: OrchestrationContext) -> None:
    await ctx.create_timer(timedelta(milliseconds=200))
    os._exit(9)
"""


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    log = KafkaLog.open(settings)
    yield log
    log.close()


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Variables for the workers of one test."""
    before = dict(os.environ)
    yield os.environ  # type: ignore[misc]
    os.environ.clear()
    os.environ.update(before)


def run_brief(client: Client, count: int, first: int = 0) -> None:
    handles = [client.start("brief", number, instance_id=f"brief-{number}") for number in range(first, first + count)]
    assert [32 * number for number in range(first, first + count)] == [handle.result(60) for handle in handles]


def starts(log: KafkaLog) -> list[int]:
    return [log.span_history(partition).start for partition in range(PARTITIONS)]


def kept(log: KafkaLog) -> list[int]:
    """How many snapshots there are of each partition."""
    assert log.snapshots is not None
    return [len(read_shelf(log.snapshots, partition, lambda _: True).kept) for partition in range(PARTITIONS)]


def metric(worker: WorkerProcess, name: str) -> float:
    return sum(float(line.split()[-1]) for line in worker.metrics() if line.startswith(f"{name}{{"))


def poisons(client: Client) -> list[str]:
    """Instances that are held as poison; none while nobody answers, since the workers are just dying of them."""
    with suppress(NoAnswer):
        return [each.instance_id for each in client.list(held=True) if each.held and each.held.kind == "poison"]
    return []


def check_audit(log: KafkaLog, directory: Path) -> Any:
    app: dict[str, Any] = {}
    exec(compile(APP, str(directory / "app.py"), "exec"), app)
    report = audit_records(read_log(log), app["app"])
    assert (0, ()) == (report.exit_code, report.findings)
    return report


def is_gone(client: Client, name: str) -> bool:
    try:
        client.instance(name).get()
    except InstanceNotFound:
        return True
    return False


def test_a_machine_with_an_empty_disk_takes_over_from_snapshots(
    client: Client,
    start_worker: Callable[..., WorkerProcess],
    log: KafkaLog,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    environment.update(PERDURE_SNAPSHOT_RECORDS_MIN="200", PERDURE_CHECKPOINT_TURNS_MAX="100")
    first = start_worker(APP)
    handles = [client.start("long", number, instance_id=f"long-{number}") for number in range(8)]
    run_brief(client, 250)
    until(lambda: min(kept(log)) >= 1, first.log.read_text)
    first.kill()
    second = start_worker(APP)  # in a directory of its own, which is empty
    for number, handle in enumerate(handles):
        handle.raise_event("go", number)

    assert [[2 * number, number] for number in range(8)] == [handle.result(60) for handle in handles]
    assert Status.COMPLETED == client.instance("brief-7").get().status
    read = metric(second, "perdure_records_recovered_total")
    assert 0 < read < sum(log.span_history(partition).end for partition in range(PARTITIONS)) / 2
    check_audit(log, tmp_path)


def test_with_a_retention_old_instances_leave_and_the_log_is_trimmed_and_audited(
    client: Client,
    start_worker: Callable[..., WorkerProcess],
    log: KafkaLog,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    environment.update(PERDURE_RETENTION="4s", PERDURE_CHECKPOINT_SECONDS_MAX="0.5")
    first = start_worker(APP)
    handles = [client.start("long", number, instance_id=f"long-{number}") for number in range(8)]
    run_brief(client, 40)
    until(lambda: min(starts(log)) > 0, first.log.read_text)
    until(
        lambda: is_gone(client, "brief-3"), first.log.read_text
    )  # its own time may have come later than the first trim
    first.kill()
    second = start_worker(APP)
    run_brief(client, 40, first=40)
    before = starts(log)
    until(lambda: all(now > was for now, was in zip(starts(log), before, strict=True)), second.log.read_text)
    for number, handle in enumerate(handles):
        handle.raise_event("go", number)

    assert [[2 * number, number] for number in range(8)] == [handle.result(60) for handle in handles]
    report = check_audit(log, tmp_path)
    assert set(range(PARTITIONS)) == set(report.begins_at)


def test_an_orchestration_that_kills_its_worker_is_held_and_the_others_go_on(
    client: Client, start_worker: Callable[..., WorkerProcess], log: KafkaLog, tmp_path: Path
) -> None:
    worker = start_worker(APP, "--processes", "2")
    client.start("killer", instance_id="killer")
    until(lambda: poisons(client) == ["killer"], worker.log.read_text)
    run_brief(client, 20)

    (held,) = client.list(held=True)
    assert ("killer", "poison") == (held.instance_id, held.held and held.held.kind)
    client.instance("killer").terminate("enough")
    assert Status.TERMINATED == client.instance("killer").get().status
    worker.terminate()
    assert 0 == worker.wait()
    check_audit(log, tmp_path)
