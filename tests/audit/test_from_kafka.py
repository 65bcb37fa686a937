"""The same on an export from a real Kafka, of a history with two take-overs after SIGKILLs in the middle."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.audit import audit_records, read_export
from perdure.cli.apps import load_app
from perdure.client import Client
from perdure.partitions.kafka import KafkaSettings, create_hub
from perdure.partitions.ports import LogRecord
from perdure.schemas.events import Status
from tests.audit.tampering import EDITS, accepted_in, forge_result
from tests.cli.conftest import perdure
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
APP = """
import asyncio
from datetime import timedelta
from pathlib import Path

from perdure import App, OrchestrationContext

app = App()

@app.activity
async def step(name: str) -> str:
    while not Path("gate").exists() and name.endswith("slow"):
        await asyncio.sleep(0.02)
    return f"done {name}"

@app.orchestration
async def work(ctx: OrchestrationContext, name: str) -> int:
    for part in ("first", "second", "slow"):
        await ctx.call_activity(step, f"{name} {part}")  # what it comes to is of no interest
    await ctx.create_timer(timedelta(milliseconds=10))
    return 3
"""


class Exported:
    """An export of a hub of one partition, and the app that wrote it."""

    def __init__(self, directory: Path, servers: str) -> None:
        self.directory = directory
        (directory / "app.py").write_text(APP)
        settings = KafkaSettings(servers, f"audit-{uuid4().hex[:8]}")
        create_hub(settings, 1, 1)
        self.where = ("--brokers", servers, "--hub", settings.hub)
        with Client.kafka(settings.hub, servers, timeout=60) as client:
            for number in range(2):
                worker = self._begin(client, servers, settings.hub, number)
                worker.kill()
            (directory / "gate").touch()
            last = self._begin(client, servers, settings.hub, 2)
            for instance in client.list():
                assert client.instance(instance.instance_id).wait(60).status == Status.COMPLETED
            last.terminate()
            assert 0 == last.wait()
        self.file = directory / "export.jsonl"
        assert 0 == perdure("audit", "--export", str(self.file), *self.where, cwd=directory).code
        self.records: list[LogRecord] = read_export(self.file)[0]

    def _begin(self, client: Client, servers: str, hub: str, number: int) -> WorkerProcess:
        """A worker with three more instances; none of them can end before the gate opens."""
        worker = WorkerProcess(self.directory, servers, hub)
        worker.wait_until_ready()
        for each in range(3):
            client.start("work", f"{number}-{each}", instance_id=f"order-{number}-{each}")
        until(lambda: all(at_the_slow_step(client, f"order-{number}-{each}") for each in range(3)))
        return worker


def at_the_slow_step(client: Client, instance_id: str) -> bool:
    return client.instance(instance_id).get().history_events >= 6


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, kafka_servers: str) -> Exported:
    return Exported(tmp_path_factory.mktemp("audit"), kafka_servers)


@pytest.fixture
def code(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    import sys

    monkeypatch.chdir(exported.directory)
    monkeypatch.setattr(sys, "path", [str(exported.directory), *sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    yield load_app("app:app")
    sys.modules.pop("app", None)


def test_the_export_is_clean_and_has_two_take_overs_in_the_middle_of_work(exported: Exported) -> None:
    done = perdure("audit", "--from", str(exported.file), "--app", "app:app", "--json", cwd=exported.directory)
    counts = done.json["counts"]

    assert (0, []) == (done.code, done.json["findings"])
    assert counts["claims"] >= 3
    assert (9, {"COMPLETED": 9}, 0) == (counts["started"], counts["finished"], counts["unfinished"])
    assert counts["activities_redispatched"] >= 6
    assert counts["spanning_instances"] >= 6
    assert list(range(len(exported.records))) == [record.offset for record in exported.records]


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_of_every_accepted_record_is_reported(
    exported: Exported, edit: Callable[[list[LogRecord], int], Iterator[list[LogRecord]]]
) -> None:
    records = exported.records
    heads = audit_records({0: records}).heads
    unreported = [
        (at, number)
        for at in accepted_in(records)
        for number, edited in enumerate(edit(records, at))
        if audit_records({0: edited}, heads=heads).exit_code != 2
    ]

    assert [] == unreported


def test_a_forged_result_that_alters_no_decision_is_seen_by_the_log_and_not_by_the_code(
    exported: Exported, code: object
) -> None:
    records = exported.records
    forged = [edited for at in accepted_in(records) for edited in forge_result(records, at)]

    assert len(forged) >= 20
    for edited in forged:
        report = audit_records({0: edited}, code)  # type: ignore[arg-type]
        assert {"R1", "R3", "R4", "R2"} >= {finding.rule for finding in report.findings} != set()


def test_a_cut_tail_shows_against_a_head_and_only_there(exported: Exported) -> None:
    lines = exported.file.read_text().splitlines(keepends=True)
    cut = exported.directory / "cut.jsonl"
    cut.write_text("".join(lines[:-2]))
    whole = perdure("audit", "--from", str(exported.file), "--json", cwd=exported.directory).json
    (head,) = whole["heads"]

    assert 0 == perdure("audit", "--from", str(cut), cwd=exported.directory).code
    done = perdure("audit", "--from", str(cut), "--head", head, cwd=exported.directory)
    assert 2 == done.code
    assert f"0:{len(lines) - 1} head: the log ends before this head" in done.out


def test_code_that_decides_otherwise_is_3_and_code_that_is_not_there_4(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(APP.replace('"second"', '"another"'))
    (tmp_path / "none.py").write_text("from perdure import App\napp = App()\n")
    other = perdure("audit", "--from", str(exported.file), "--app", "other:app", cwd=tmp_path)
    none = perdure("audit", "--from", str(exported.file), "--app", "none:app", cwd=tmp_path)

    assert (3, 4) == (other.code, none.code)
    assert "another" in other.out
    assert "has no orchestration 'work'" in none.out
