"""Requests that cannot be done: who asked is told, and what somebody may miss is kept among the dead letters (I12)."""

import json
from typing import Any

import orjson
import pytest

from perdure import App, OrchestrationContext
from perdure.partitions.catch_up import PartitionRefused
from perdure.schemas.avro import UnknownFormat
from perdure.schemas.codec import decode_envelope, decode_inbound, encode_claim, encode_envelope, extend_digest
from perdure.schemas.messages import Body, Cancel, RaiseEvent, ReplyCode, Start, Suspend, Terminate
from perdure.schemas.records import NO_DIGEST, Claim, Envelope, Opening, RecordKind
from tests.partitions.cluster import Cluster, Member

app = App()


@app.orchestration
async def tell(ctx: OrchestrationContext, whom: str) -> str:
    ctx.send_event(whom, "news", data={"of": ctx.instance_id})
    return "told"


@app.orchestration
async def idle(ctx: OrchestrationContext, value: Any) -> Any:
    return value


@app.orchestration
async def listen(ctx: OrchestrationContext) -> Any:
    return await ctx.wait_for_external_event("news")


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(code=app)
    member = cluster.join()
    cluster.until(member.owns)
    cluster.send("over", Start("idle", b"1"))
    cluster.send("here", Start("listen"))
    cluster.settle()
    return cluster


def told(cluster: Cluster, request: str) -> tuple[ReplyCode, str]:
    cluster.settle()
    (reply,) = cluster.replies(request)
    return ReplyCode(reply.code), orjson.loads(reply.body)["message"]


REQUESTS: list[tuple[str, Body, ReplyCode, str]] = [
    ("nobody", RaiseEvent("news"), ReplyCode.NOT_FOUND, "no instance 'nobody'"),
    ("nobody", Cancel(), ReplyCode.NOT_FOUND, "no instance 'nobody'"),
    ("nobody", Terminate(), ReplyCode.NOT_FOUND, "no instance 'nobody'"),
    ("over", RaiseEvent("news"), ReplyCode.ALREADY_FINISHED, "'over' is COMPLETED"),
    ("over", Suspend(), ReplyCode.ALREADY_FINISHED, "'over' is COMPLETED"),
    ("over", Start("idle"), ReplyCode.ALREADY_EXISTS, "'over' exists and is COMPLETED"),
    ("here", Start("idle"), ReplyCode.ALREADY_EXISTS, "'here' exists and is RUNNING"),
]


@pytest.mark.parametrize(
    ("name", "body", "code", "says"), REQUESTS, ids=[f"{type(body).__name__} {name}" for name, body, _, _ in REQUESTS]
)
def test_who_asks_for_what_cannot_be_done_is_told(
    cluster: Cluster, name: str, body: Body, code: ReplyCode, says: str
) -> None:
    found, message = told(cluster, cluster.send(name, body))

    assert (code, True) == (found, says in message)
    # An event for nobody may be one that came too early: it is kept as well.
    kept = isinstance(body, RaiseEvent) and name == "nobody"
    assert [RaiseEvent("news")] * kept == [decode_inbound(value).body for _, value in cluster.dead_letters()]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"raise": "news", "id": "nobody", "input": 1}, "does not exist"),
        ({"raise": "news", "id": "over", "input": 1}, "'over' is COMPLETED"),
        ({"cancel": "nobody"}, "no instance 'nobody'"),
        ({"start": "idle", "id": "here", "input": 7}, "'here' exists and is RUNNING"),
    ],
    ids=lambda each: json.dumps(each) if isinstance(each, dict) else "",
)
def test_what_nobody_can_be_told_is_a_dead_letter_with_its_bytes(
    cluster: Cluster, fields: dict[str, Any], says: str
) -> None:
    """A foreign producer wants no reply: without a dead letter nobody would ever know."""
    value = json.dumps(fields).encode()
    cluster.put(value)
    cluster.settle()
    ((headers, kept),) = cluster.dead_letters()

    assert value == kept
    assert says in headers["perdure-reason"]
    cluster.check()


def test_what_was_forwarded_first_is_kept_in_the_encoding_of_the_forward() -> None:
    """Its own bytes stay in the inbox that it was put on (R9)."""
    cluster = Cluster(partitions=2, code=app)
    member = cluster.join()
    cluster.until(member.owns)
    value = json.dumps({"raise": "news", "id": "nobody", "input": 1}).encode()
    cluster.put(value, 1 - cluster.home_of("nobody"))
    cluster.settle()
    ((headers, kept),) = cluster.dead_letters()

    assert "does not exist" in headers["perdure-reason"]
    assert ("nobody", RaiseEvent("news", b"1")) == ((message := decode_inbound(kept)).instance_id, message.body)
    cluster.check()


@pytest.mark.parametrize(("whom", "says"), [("nobody", "does not exist"), ("over", "'over' is COMPLETED")])
def test_an_event_that_an_orchestration_sent_to_nobody_is_kept(cluster: Cluster, whom: str, says: str) -> None:
    cluster.send("sender", Start("tell", orjson.dumps(whom)))
    cluster.settle()
    ((headers, value),) = cluster.dead_letters()

    assert "sender" in cluster.ended()
    assert says in headers["perdure-reason"]
    assert b'{"of":"sender"}' == decode_inbound(value).body.input  # type: ignore[union-attr]
    cluster.check()


def test_a_start_that_comes_again_is_answered_again_and_done_once(cluster: Cluster) -> None:
    first = cluster.send("twice", Start("idle", b"1"))
    cluster.settle()
    cluster.send("twice", Start("idle", b"1"), request_id=first)
    cluster.settle()

    assert [True, True] == [orjson.loads(reply.body)["created"] for reply in cluster.replies(first)]
    assert {"over": 1, "twice": 1} == cluster.ended()
    assert [] == cluster.dead_letters()


def forge(cluster: Cluster, kind: int, format: int, body: bytes) -> None:  # noqa: A002 - the envelope's own word
    """Append a record that fits, as an owner with a newer build would, and let another member recover over it."""
    (member,) = cluster.members
    cluster.kill(member)
    claim = encode_claim(Claim("forger", cluster.clock.now_ms, "", 1))
    put_history(cluster, encode_envelope(Envelope(RecordKind.CLAIM, 1, -1, -1, NO_DIGEST, "", claim)))
    last = cluster.histories[0].accepted()[-1]
    before = cluster.histories[0].accepted()[-2]
    opening = Opening(before.offset, before.digest)
    envelope = Envelope(kind, format, last.offset, last.offset + 1, last.digest, "", body, opening=opening)
    put_history(cluster, encode_envelope(envelope))


def put_history(cluster: Cluster, value: bytes) -> None:
    cluster.client.open_history(0).append("", value)
    cluster.client.wait(0)
    assert decode_envelope(value)
    assert extend_digest(NO_DIGEST, value)


def recover(cluster: Cluster) -> Member:
    member = cluster.join("worker-2")
    cluster.until(member.owns, milliseconds=50)
    return member


def test_a_record_of_a_newer_build_refuses_the_partition_loudly(cluster: Cluster) -> None:
    """R12: at the level of the partition there is nothing to hold and nothing to skip."""
    forge(cluster, 99, 1, b"of the future")

    with pytest.raises((PartitionRefused, UnknownFormat), match=r"kind 99.*not know"):
        recover(cluster)


def test_a_turn_in_a_format_of_a_newer_build_refuses_the_partition_loudly(cluster: Cluster) -> None:
    forge(cluster, RecordKind.TURN, 99, b"of the future")

    with pytest.raises((PartitionRefused, UnknownFormat), match=r"format 99.*not know"):
        recover(cluster)


def test_a_claim_for_another_partition_count_refuses_the_partition_with_both_counts(cluster: Cluster) -> None:
    (member,) = cluster.members
    cluster.kill(member)
    claim = encode_claim(Claim("forger", cluster.clock.now_ms, "", 16))
    put_history(cluster, encode_envelope(Envelope(RecordKind.CLAIM, 1, -1, -1, NO_DIGEST, "", claim)))

    with pytest.raises(PartitionRefused, match=r"claim of forger is for 16 partitions by murmur2, this hub has 1"):
        recover(cluster)
