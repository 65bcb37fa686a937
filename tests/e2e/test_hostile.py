"""A hostile inbox on a real broker: noise, damaged and forged records from a producer of its own never crash or stall a partition."""

from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.schemas import messages as ms
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import Inbound, Query, QueryKind, ReplyTo
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import WorkerProcess
from tests.partitions.hostile import RECORDS

pytestmark = pytest.mark.kafka
APP = """
from perdure import App, OrchestrationContext

app = App()

@app.activity
def double(number: int) -> int:
    return 2 * number

@app.orchestration
async def order(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(double, number)
"""
WORST = [
    encode_inbound(Inbound("a", Query(QueryKind.GET), "r", reply_to=ReplyTo("c", (1 << 31) - 1))),
    encode_inbound(Inbound("a", Query(QueryKind.WAIT), "r", reply_to=ReplyTo("c", -1))),
    encode_inbound(Inbound("a", ms.Start("order", start_at_ms=-1))),
    encode_inbound(Inbound("a", ms.Start("order", b"\x80"))),
    b"\xd1" * 500_000,
    b"{" * 500_000,
]


def test_noise_forgeries_and_damage_never_crash_or_stall_a_partition(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker(APP)
    producer = Producer({"bootstrap.servers": settings.servers})
    sent = 0

    def send(records: list[bytes | None]) -> None:
        nonlocal sent
        for record in records:
            producer.produce(settings.topics.inbox, record, partition=sent % PARTITIONS)
            sent += 1
        producer.flush(30)

    for record in WORST:
        send([record] * PARTITIONS)
    fuzz(send)
    answers = [client.start("order", number).result(60) for number in range(2 * PARTITIONS)]

    assert [2 * number for number in range(2 * PARTITIONS)] == answers
    assert sent > 100
    log = worker.log.read_text()
    assert "partition.crashed" not in log
    assert "partition.closed" not in log
    assert "epoch_lost" not in log
    worker.terminate()
    assert 0 == worker.wait()


def test_a_strangers_transaction_on_the_history_costs_epochs_and_nothing_else(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess]
) -> None:
    """It is open while the owner goes on, and its markers take offsets; a machine with an empty disk reads over all of it."""
    worker = start_worker(APP)
    assert [2] * 8 == [client.start("order", 1).result(60) for _ in range(8)]
    producer = Producer({"bootstrap.servers": settings.servers, "transactional.id": f"{settings.hub}-stranger"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in range(PARTITIONS):
        producer.produce(settings.topics.history, b"of a stranger", partition=partition)
    producer.flush(30)

    assert [4] * 8 == [client.start("order", 2).result(60) for _ in range(8)]
    producer.commit_transaction(30)
    producer.close()
    assert [6] * 8 == [client.start("order", 3).result(60) for _ in range(8)]
    worker.terminate()
    assert 0 == worker.wait()
    assert "partition.crashed" not in worker.log.read_text()
    start_worker(APP)
    assert [8] * 8 == [client.start("order", 4).result(60) for _ in range(8)]
    log = KafkaLog.open_reader(settings)
    audit = audit_records(read_log(log))
    log.close()
    assert {"COMPLETED": 32} == audit.counts.finished
    # The audit names what is not ours, a record and a marker in each partition, and nothing else.
    assert {"R3": PARTITIONS, "R4": PARTITIONS} == Counter(finding.rule for finding in audit.findings)


def fuzz(send: Callable[[list[bytes | None]], None]) -> None:
    @limits(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.lists(RECORDS, min_size=5, max_size=20))
    def try_records(records: list[bytes | None]) -> None:
        send(records)

    try_records()
