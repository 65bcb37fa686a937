"""Every metric that is promised moves when what it counts happens, over /metrics as Prometheus reads it."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure import App, OrchestrationContext, RetryPolicy, lookout
from perdure.client import Client
from perdure.errors import InstanceNotFound
from perdure.health import HealthServer, worker_registry
from perdure.partitions.embedded.log import EmbeddedLog
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import Inbound, Query, QueryKind
from tests.client.hub import PARTITIONS, RunningHub

app = App()
gate = threading.Event()
calls: list[str] = []


@app.activity
def shaky(name: str) -> str:
    calls.append(name)
    if calls.count(name) == 1:
        raise ValueError("not yet")
    return name


@app.activity
def gated(name: str) -> str:
    assert gate.wait(60)
    return name


@app.orchestration
async def try_again(ctx: OrchestrationContext, name: str) -> str:
    policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=10), max_number_of_attempts=3)
    return await ctx.call_activity(shaky, name, retry_policy=policy)


@app.orchestration
async def wait_gate(ctx: OrchestrationContext, name: str) -> str:
    return await ctx.call_activity(gated, name)


@app.orchestration
async def nap(ctx: OrchestrationContext) -> None:
    await ctx.create_timer(timedelta(milliseconds=20))


@app.orchestration
async def tell(ctx: OrchestrationContext, to: str) -> None:
    ctx.send_event(to, "go")


class Scraped:
    """A hub, a client, and its worker's metrics."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = RunningHub(directory, app)
        self.client = Client.over(self.hub.log.share(), timeout=20)
        self.server = HealthServer(self.hub.worker)

    def value(self, name: str) -> float:
        """The sum over all partitions."""
        text = httpx.get(f"http://127.0.0.1:{self.server.port}/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = [sample.value for sample in samples if sample.name == name]
        assert found or not samples, f"there is no {name}"
        return sum(found)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        gate.set()
        self.client.close()
        self.server.close()
        self.hub.close()


@pytest.fixture
def scraped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scraped]:
    monkeypatch.setattr(lookout, "LOOK_EVERY_SECONDS", 0.0)
    gate.clear()
    scraped = Scraped(tmp_path)
    scraped.until(lambda: len(scraped.hub.worker.lookout.inbox_lag) == PARTITIONS)
    yield scraped
    scraped.close()


def test_turns_and_appends_are_timed_in_buckets(scraped: Scraped) -> None:
    scraped.client.start(nap).wait(20)

    for name in ("perdure_turn_seconds", "perdure_append_seconds"):
        count, total = scraped.value(f"{name}_count"), scraped.value(f"{name}_sum")
        assert count >= 2
        assert 0 < total < 20
        text = httpx.get(f"http://127.0.0.1:{scraped.server.port}/metrics").text
        buckets = [line for line in text.splitlines() if line.startswith(f"{name}_bucket")]
        assert any('le="0.001"' in line for line in buckets)
        assert count == sum(float(line.rpartition(" ")[2]) for line in buckets if 'le="+Inf"' in line)


def test_activities_that_run_fail_and_are_tried_again_are_counted(scraped: Scraped) -> None:
    handle = scraped.client.start(wait_gate, "a")
    scraped.until(lambda: scraped.value("perdure_activities_running") == 1)
    gate.set()
    handle.wait(20)
    scraped.until(lambda: scraped.value("perdure_activities_running") == 0)
    scraped.client.start(try_again, "b").wait(20)

    assert (1, 1) == (
        scraped.value("perdure_activities_failed_total"),
        scraped.value("perdure_activities_retried_total"),
    )
    assert 3 == scraped.value("perdure_activities_dispatched_total")


def test_timers_are_late_by_something(scraped: Scraped) -> None:
    scraped.client.start(nap).wait(20)

    assert 1 == scraped.value("perdure_timer_lateness_seconds_count")
    assert 0 <= scraped.value("perdure_timer_lateness_seconds_sum") < 20


def test_held_instances_and_dead_letters_are_counted(scraped: Scraped) -> None:
    scraped.client.start("unheard-of")
    with pytest.raises(InstanceNotFound):
        scraped.client.instance("nobody").raise_event("go")

    scraped.until(lambda: scraped.value("perdure_instances_held") == 1)
    assert 1 == scraped.value("perdure_dead_letters_total")


def test_what_waits_in_the_outbox_is_shown_until_it_is_sent(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {partition_of(f"i-{number}", PARTITIONS): f"i-{number}" for number in range(50)}
    publisher = scraped.hub.log.publisher

    def refuse(*_: object) -> None:
        raise BufferFull

    with monkeypatch.context() as patch:
        patch.setattr(publisher, "publish_inbox", refuse)
        scraped.client.start(tell, homes[1], instance_id=homes[0]).wait(20)
        scraped.until(lambda: scraped.value("perdure_outbox_depth") == 1)
    scraped.until(lambda: scraped.value("perdure_outbox_depth") == 0)


def test_the_inbox_lags_behind_a_flood_and_catches_up(scraped: Scraped) -> None:
    other = scraped.hub.log.share()
    value = encode_inbound(Inbound("i-0", Query(QueryKind.GET)))
    partition = partition_of("i-0", PARTITIONS)
    seen: list[float] = []

    def lagged() -> bool:
        for _ in range(2_000):
            other.publisher.publish_inbox(partition, "i-0", value)
        seen.append(scraped.value("perdure_inbox_lag_records"))
        return seen[-1] > 0

    scraped.until(lagged)
    scraped.client.start(nap, instance_id="i-0").wait(20)  # reads alone write no mark
    scraped.until(lambda: scraped.value("perdure_inbox_lag_records") == 0)


def test_the_age_of_a_checkpoint_grows_until_there_is_one(scraped: Scraped) -> None:
    assert 0 == scraped.value("perdure_checkpoint_age_seconds")
    scraped.client.start(nap).wait(20)
    first = scraped.value("perdure_checkpoint_age_seconds")
    scraped.until(lambda: scraped.value("perdure_checkpoint_age_seconds") > first > 0)


def test_an_epoch_that_a_stray_record_ended_is_counted(scraped: Scraped) -> None:
    scraped.client.start(nap, instance_id="i-0").wait(20)
    partition = partition_of("i-0", PARTITIONS)
    stray = next(iter(EmbeddedLog.open_reader(scraped.directory).read_history(partition, 1, 2)))
    writer = scraped.hub.log.share().open_history(partition)
    writer.append("i-0", stray.value or b"")
    scraped.client.start(nap, instance_id="i-0", if_exists="replace").wait(20)

    scraped.until(lambda: scraped.value("perdure_epochs_lost_total") == 1)


def test_every_metric_is_documented_as_it_is(scraped: Scraped) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "METRICS.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(perdure_\w+)` \| (\w+) \| (.*) \|$", page, re.MULTILINE)
    families = [each for each in worker_registry(scraped.hub.worker).collect() if each.name.startswith("perdure_")]
    suffix = {"counter": "_total"}

    assert documented == sorted(
        (f"{each.name}{suffix.get(each.type, '')}", each.type, each.documentation) for each in families
    )
