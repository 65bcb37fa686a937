"""The client's side of the engine, over either log: it encodes and decodes as the public client does, without its conveniences."""

import time
import uuid
from collections.abc import Sequence
from typing import Protocol

import orjson

from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import Log, ReplyReader
from perdure.schemas.codec import decode_reply, encode_inbound
from perdure.schemas.messages import Inbound, ReplyCode, ReplyTo, Start

from .jobs import Job
from .measure import BenchmarkFailed


class ClientLog(Log, Protocol):
    """A log that a client can hear from."""

    def open_replies(self, client_id: str) -> ReplyReader: ...


class LogDriver:
    """Starts on the inbox, waits on the replies (`measure.Driver`)."""

    def __init__(self, log: ClientLog) -> None:
        client_id = f"bench-{uuid.uuid4().hex[:8]}"
        self._log = log
        self._replies = log.open_replies(client_id)
        self._reply_to = ReplyTo(client_id, self._replies.partition)

    def start(self, instance_id: str, job: Job) -> None:
        start = Start(job.orchestration, input=orjson.dumps(job.activities), tell_end=True)
        value = encode_inbound(Inbound(instance_id, start, request_id=instance_id, reply_to=self._reply_to))
        partition = partition_of(instance_id, self._log.identity.partition_count)
        self._log.publisher.publish_inbox(partition, instance_id, value)

    def take_ended(self, timeout_seconds: float) -> Sequence[tuple[str, object]]:
        """Replies that say that a start was taken are passed over."""
        deadline = time.monotonic() + timeout_seconds
        ended: list[tuple[str, object]] = []
        while not ended and (left := deadline - time.monotonic()) > 0:
            for record in self._replies.take(left):
                ended += ended_of(record.value or b"", self._reply_to.client_id)
        self._log.wait(0)
        return ended

    def close(self) -> None:
        self._replies.close()
        self._log.close()


def ended_of(value: bytes, client_id: str) -> list[tuple[str, object]]:
    """Return the instance and its result, if this reply says that an instance of ours ended."""
    reply = decode_reply(value)
    if reply.client_id != client_id or reply.code == ReplyCode.OK:
        return []
    view = orjson.loads(reply.body)
    if reply.code != ReplyCode.ENDED or view["status"] != "COMPLETED":
        raise BenchmarkFailed(
            f"{reply.request_id} was answered with {ReplyCode(reply.code).name}: {reply.body[:200]!r}"
        )
    return [(view["instance_id"], view["result"])]
