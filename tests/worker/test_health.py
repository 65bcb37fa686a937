"""Health, readiness and metrics of a worker that runs, over HTTP."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure import health
from perdure.health import HealthServer
from perdure.partitions.owner import Phase
from perdure.partitions.ports import Assigned
from tests.worker.engine import PLENTY_SECONDS, Engine, OneActivityApp, ScriptedMembership

FAMILIES = {
    "perdure_turn_seconds", "perdure_append_seconds", "perdure_inbox_lag_records", "perdure_outbox_depth",
    "perdure_activities_running", "perdure_activities_failed", "perdure_activities_retried",
    "perdure_timer_lateness_seconds", "perdure_checkpoint_age_seconds", "perdure_instances_held",
    "perdure_dead_letters", "perdure_epochs_lost",
}  # fmt: skip


class Probe:
    """A worker and its server."""

    def __init__(self, directory: Path) -> None:
        self.gate = threading.Event()
        self.membership = ScriptedMembership()
        self.engine = Engine(directory, OneActivityApp(wait=self._wait, fail=self._fail), self.membership)
        self.server = HealthServer(self.engine.worker)

    def _wait(self, value: Any) -> Any:
        assert self.gate.wait(PLENTY_SECONDS)
        return value

    def _fail(self, value: Any) -> Any:
        raise ValueError(value)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.server.port}{path}")

    def metrics(self) -> dict[tuple[str, str], float]:
        """Samples of partition 0 and of the process, by name and partition."""
        families = list(text_string_to_metric_families(self.get("/metrics").text))
        self.families = {family.name for family in families}
        samples = [sample for family in families for sample in family.samples]
        assert {"shop"} == {sample.labels["hub"] for sample in samples if sample.name.startswith("perdure_")}
        return {(sample.name, sample.labels.get("partition", "")): sample.value for sample in samples}


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Probe]:
    probe = Probe(tmp_path)
    yield probe
    probe.gate.set()
    probe.server.close()
    probe.engine.close()


def test_a_worker_is_ready_once_its_share_is_recovered(probe: Probe) -> None:
    probe.engine.start()

    assert (503, {"ready": False, "joined": False, "partitions": {}, "crashed": [], "standing_by": []}) == (
        probe.get("/readyz").status_code,
        probe.get("/readyz").json(),
    )
    probe.membership.changes.append(Assigned((0, 1)))
    probe.engine.until(lambda: probe.get("/readyz").status_code == 200)
    assert {"0": "owning", "1": "owning"} == probe.get("/readyz").json()["partitions"]
    probe.engine.worker.owners[1].phase = Phase.CLOSED
    assert 503 == probe.get("/readyz").status_code


def test_a_process_that_waits_for_its_brokers_is_alive_and_not_ready(probe: Probe) -> None:
    waiting = HealthServer()

    def get(path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{waiting.port}{path}")

    alive, ready, metrics = get("/healthz"), get("/readyz"), get("/metrics")
    assert (200, {"status": "waiting for the brokers"}) == (alive.status_code, alive.json())
    assert (503, {"ready": False, "waiting_for": "the brokers"}) == (ready.status_code, ready.json())
    assert 200 == metrics.status_code
    assert "perdure_" not in metrics.text

    probe.engine.start()
    waiting.tell_of(probe.engine.worker)
    assert {"status": "ok"} == get("/healthz").json()
    assert False is get("/readyz").json()["joined"]
    assert "perdure_" in get("/metrics").text
    waiting.close()


def test_a_worker_is_healthy_while_its_engine_makes_rounds(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.engine.start()
    fine = probe.get("/healthz")
    monkeypatch.setattr(health, "ROUND_SECONDS_MAX", -1.0)
    stuck = probe.get("/healthz")

    assert (200, {"status": "ok"}) == (fine.status_code, fine.json())
    assert (503, "stuck") == (stuck.status_code, stuck.json()["status"])


def test_every_promised_metric_is_there_with_hub_and_partition(probe: Probe) -> None:
    engine = probe.engine.start()
    probe.membership.changes.append(Assigned((0, 1)))
    engine.begin("order-7", "wait")
    engine.begin("order-7b", "fail")
    engine.result("order-7b")
    engine.begin("order-7c", "unheard-of")
    engine.until(
        lambda: sum(value for (name, _), value in probe.metrics().items() if name == "perdure_instances_held") == 1
    )
    samples = probe.metrics()

    def total(name: str) -> float:
        return sum(samples[name, str(partition)] for partition in (0, 1))

    assert set() == FAMILIES - probe.families
    assert (3, 0) == (total("perdure_instances_started_total"), total("perdure_outbox_depth"))
    assert (1, 1, 2) == (
        total("perdure_activities_running"), total("perdure_activities_failed_total"), total("perdure_partition_owned"),
    )  # fmt: skip
    assert total("perdure_turn_seconds_count") >= 4
    assert 0 < total("perdure_turn_seconds_sum") < 10
    assert 0 < total("perdure_append_seconds_sum") < 100
    assert ("perdure_activities_abandoned", "") in samples


def test_another_path_is_not_found(probe: Probe) -> None:
    answer = probe.get("/nowhere")

    assert (404, ["/healthz", "/readyz", "/metrics"]) == (answer.status_code, answer.json()["paths"])
    assert "`perdure serve`" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "MADE-UP"])
def test_who_takes_it_for_the_api_is_told_where_that_is(probe: Probe, method: str) -> None:
    answer = httpx.request(method, f"{probe.server.url}/v1/instances", content=b'{"name": "welcome"}')

    assert (405, "GET", "application/json") == (
        answer.status_code, answer.headers["allow"], answer.headers["content-type"],
    )  # fmt: skip
    assert "health port of a perdure worker; the API is served by `perdure serve`" in answer.json()["detail"]
    assert "" == httpx.head(f"{probe.server.url}/v1/instances").text
