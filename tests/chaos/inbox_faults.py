"""What strangers put on inboxes."""

import asyncio
from collections.abc import Mapping
from uuid import uuid4

import orjson
from confluent_kafka import Producer

from perdure.partitions.partitioner import partition_of
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import Inbound, TaskResult
from tests.simulation.clients import JUNK

from .stage import Fault, Stage


async def leave_transaction_open(stage: Stage) -> None:
    """A stranger writes to an inbox in a transaction, and takes its time: nobody sees what came after it until it ends."""
    ground = stage.ground
    servers, name = ground.settings.servers, f"foreign-{uuid4().hex[:6]}"
    partition = partition_of(name, ground.terms.partitions)
    start = orjson.dumps({"start": "count", "id": name, "input": [1, 1], "request_id": f"{name}/start"})

    def write() -> Producer:
        producer = Producer({"bootstrap.servers": servers, "transactional.id": name, "log_level": 0})
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce(ground.settings.topics.inbox, start, name, partition)
        producer.flush(20)
        return producer

    producer = await asyncio.to_thread(write)
    await asyncio.sleep(3 * stage.scale)
    await asyncio.to_thread(
        producer.commit_transaction if stage.dice.random() < 0.5 else producer.abort_transaction, 20
    )
    stage.count("inbox.transaction")


async def litter(stage: Stage) -> None:
    """What is no message, and what nobody may send."""
    ground = stage.ground
    number = next(stage.numbers)
    partition = number % ground.terms.partitions
    forged = Inbound("p0.0", TaskResult("1-1", 1, 1, b'"forged"'))
    for value in (*JUNK, encode_inbound(forged)):
        ground.publish(partition, "junk", value)
    stage.count("inbox.junk")


async def misplace(stage: Stage) -> None:
    """A start on a partition where it does not belong."""
    ground = stage.ground
    name = f"misplaced-{next(stage.numbers)}"
    wrong = (partition_of(name, ground.terms.partitions) + 1) % ground.terms.partitions
    start = {"start": "count", "id": name, "input": [5, 2], "request_id": f"{name}/start"}
    ground.publish(wrong, name, orjson.dumps(start))
    stage.count("inbox.misplaced")


OF_INBOXES: Mapping[str, Fault] = {
    "inbox.transaction": leave_transaction_open,
    "inbox.junk": litter,
    "inbox.misplaced": misplace,
}
