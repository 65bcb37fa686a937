"""The roles on a real broker with TLS, SASL and an authorizer: each does its work with the ACLs that `perdure hub acls` prints, and with
no others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AclBinding, AdminClient

from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.partitions.kafka.rights import Role
from tests.e2e.workers import WorkerProcess, until
from tests.secured import SecuredBroker
from tests.security.people import Person, allow, bindings_of, forbid
from tests.security.probes import is_allowed

pytestmark = pytest.mark.kafka
PARTITIONS = 2
OFTEN = ("checkpoint_seconds_max = 1", "snapshot_records_min = 4")
APP = """
import asyncio
from datetime import timedelta
from pathlib import Path
from perdure import App, OrchestrationContext

app = App()

@app.activity
async def greet(name: str) -> str:
    while name == "slow" and not Path({gate!r}).exists():
        await asyncio.sleep(0.05)
    return f"hello {{name}}"

@app.orchestration
async def welcome(ctx: OrchestrationContext, name: str) -> str:
    return await ctx.call_activity(greet, name)

@app.orchestration
async def parent(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    return [await ctx.call_sub_orchestrator(welcome, name) for name in names]
"""


class Hub:
    """A hub on the secured broker, with a person for each role; nobody has more rights than the command printed."""

    def __init__(self, broker: SecuredBroker, directory: Path) -> None:
        self.broker = broker
        self.admin: AdminClient = broker.admin
        self.name = f"sec-{uuid4().hex[:8]}"
        self.people = {
            name: Person(directory / name, broker.sasl_servers, self.name, broker.as_user(name), *OFTEN)
            for name in ("worker", "client", "auditor", "admin", "nobody")
        }
        self.printed: list[dict[str, Any]] = self.people["nobody"].get("hub", "acls")
        self.bindings = bindings_of(self.printed)
        allow(self.admin, self.bindings)
        self.created = self.people["admin"].get("hub", "create", "--partitions", str(PARTITIONS))

    def settings(self, role: Role, **others: str) -> KafkaSettings:
        return KafkaSettings(self.broker.sasl_servers, self.name, self.broker.as_user(role.value, **others))

    def bindings_for(self, role: Role) -> list[AclBinding]:
        return [each for each in self.bindings if each.principal == f"User:{role.value}"]


@pytest.fixture(scope="module")
def hub(secured_broker: SecuredBroker, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    return Hub(secured_broker, tmp_path_factory.mktemp("people"))


@pytest.fixture
def start_worker(hub: Hub, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    workers: list[WorkerProcess] = []
    place = hub.people["worker"].directory
    (place / "app.py").write_text(APP.format(gate=str(tmp_path / "gate")))

    def start(*options: str) -> WorkerProcess:
        workers.append(WorkerProcess(place, hub.broker.sasl_servers, hub.name, *options))
        workers[-1].wait_until_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def test_every_role_does_its_work_with_the_printed_acls(
    hub: Hub, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    client, auditor = hub.people["client"], hub.people["auditor"]
    first = start_worker("--standby", "1")

    names = [f"n{number}" for number in range(6)]
    started = client.run("start", "parent", "--input", str(names).replace("'", '"'), "--id", "family", "--wait")
    assert (0, True) == (started.code, "hello n5" in started.out), started.err
    assert ["family"] == [each["instance_id"] for each in client.get("list", "--name", "parent")["instances"]]
    assert len(client.get("history", "family")["turns"]) >= len(names)
    with client.serving() as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        assert httpx.codes.OK == http.get("/readyz").status_code
        assert "COMPLETED" == http.get("/v1/instances/family").json()["status"]
        assert httpx.codes.CREATED == http.post("/v1/instances", json={"name": "welcome", "input": "you"}).status_code

    # A hand-over trims the inbox: the second worker takes over what the first one gives away.
    assert 0 == client.run("start", "welcome", "--input", '"slow"', "--id", "slow").code
    second = start_worker("--retention", "6s", "--standby", "1")
    until(lambda: any(start > 0 for start in inbox_starts(hub)), first.log.read_text)

    # A worker that dies is taken over from, with what it had begun, by one that kept a warm store of it.
    until(lambda: "standby.begun" in second.log.read_text(), second.log.read_text)
    until(lambda: all(end > 0 for _, end in ends(hub, f"{hub.name}.snapshots", PARTITIONS)), first.log.read_text)
    first.kill()
    (tmp_path / "gate").touch()
    waited = client.run("wait", "slow", "--timeout", "40")
    assert (0, '"hello slow"') == (waited.code, waited.out.strip()), waited.err + second.log.read_text()

    # What was forgotten leaves the log (R15).
    until(lambda: any(start > 0 for start, _ in ends(hub, f"{hub.name}.history", PARTITIONS)), second.log.read_text)

    # What nobody can read becomes a dead letter.
    log = KafkaLog.open_client(hub.settings(Role.CLIENT))
    log.publisher.publish_inbox(0, "", b"not for anybody")
    log.publisher.flush(10)
    log.close()
    until(lambda: dead_letters(hub) > 0, second.log.read_text)
    second.terminate()
    assert 0 == second.wait()

    audit = auditor.get("audit")
    assert ([], True) == (audit["findings"], audit["counts"]["records"] > 0)
    described = hub.people["admin"].get("hub", "describe")
    assert PARTITIONS == described["partitions"]


def ends(hub: Hub, topic: str, partitions: int) -> list[tuple[int, int]]:
    """First offset and next one of each partition, asked by the test itself."""
    consumer = Consumer({"bootstrap.servers": hub.broker.servers, "group.id": "test"})
    try:
        return [consumer.get_watermark_offsets(TopicPartition(topic, number), 10) for number in range(partitions)]
    finally:
        consumer.close()


def inbox_starts(hub: Hub) -> list[int]:
    return [start for start, _ in ends(hub, f"{hub.name}.inbox", PARTITIONS)]


def dead_letters(hub: Hub) -> int:
    return sum(end for _, end in ends(hub, f"{hub.name}.dead-letter", 1))


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_no_printed_acl_can_be_left_out(hub: Hub, role: Role) -> None:
    """Each right is used by the very client that the product would use it with, with it and without it."""
    settings = hub.settings(role)

    def wait_for(binding: AclBinding, *, works: bool) -> None:
        until(lambda: is_allowed(settings, binding) == works, lambda: f"{binding}: not so: {works=}")

    for binding in hub.bindings_for(role):
        wait_for(binding, works=True)
        forbid(hub.admin, [binding])
        try:
            wait_for(binding, works=False)
        finally:
            allow(hub.admin, [binding])


def test_a_client_has_no_right_on_the_history(hub: Hub) -> None:
    """R7: who may describe it knows its topic id, and with that id could speak for the engine."""
    assert {f"{hub.name}.inbox", f"{hub.name}.replies"} == {each.name for each in hub.bindings_for(Role.CLIENT)}
    log = KafkaLog.open_client(hub.settings(Role.CLIENT))
    try:
        assert ("", PARTITIONS) == (log.identity.history_topic_id, log.identity.partition_count)
    finally:
        log.close()
