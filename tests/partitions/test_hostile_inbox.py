"""Whatever stands on an inbox, its partition goes on: the next one in order is served, and the log stays whole."""

from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.audit import audit_records, read_log
from perdure.audit.report import Blame
from perdure.partitions.topics import LETTER_BYTES_MAX
from perdure.schemas import messages as ms
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import Body, Inbound, Query, QueryKind, ReplyCode, ReplyTo
from tests.fuzzing import fuzzed
from tests.partitions.cluster import Cluster, Member
from tests.partitions.hostile import RECORDS

PARTITIONS = 2


def owned() -> tuple[Cluster, Member]:
    cluster = Cluster(PARTITIONS)
    member = cluster.join()
    cluster.until(lambda: all(map(member.owns, range(PARTITIONS))))
    return cluster, member


def serves(cluster: Cluster, name: str) -> bool:
    """An ordinary order is done, and the inbox is consumed to its end."""
    cluster.send(name, ms.Start("order", b"1"))
    cluster.settle()
    (member,) = cluster.members
    ends = [cluster.hub.journal("inbox", partition).end for partition in range(PARTITIONS)]
    marks = [member.holdings(partition).intake.mark for partition in range(PARTITIONS)]
    return name in cluster.ended() and ends == marks


def check_whole(cluster: Cluster) -> None:
    """Names that no code has are for the audit to report; faults of the log are none."""
    findings = audit_records(read_log(cluster.client), cluster.app).findings
    assert [] == [finding for finding in findings if finding.blame == Blame.LOG]


@given(st.lists(RECORDS, min_size=1, max_size=8))
@fuzzed(250)
def test_no_record_stalls_or_crashes_a_partition_now_or_in_its_recovery(records: list[bytes | None]) -> None:
    cluster, member = owned()
    for number, record in enumerate(records):
        cluster.put(record, number % PARTITIONS)
        cluster.step(3)
        cluster.clock.now_ms += 1
    assert serves(cluster, "good")

    cluster.kill(member)
    again = cluster.join("worker-2")
    cluster.until(lambda: all(map(again.owns, range(PARTITIONS))), milliseconds=50)
    assert serves(cluster, "better")
    check_whole(cluster)


POISON: list[tuple[str, bytes]] = [
    ("a start before 1970", encode_inbound(Inbound("a", ms.Start("order", start_at_ms=-1)))),
    ("an input that is no text", encode_inbound(Inbound("a", ms.Start("order", b"\x80")))),
    ("a reply to a partition that is no number of Kafka's", encode_inbound(
        Inbound("a", Query(QueryKind.GET), "r", reply_to=ReplyTo("c", (1 << 31) - 1)))),
    ("a history from before its beginning", encode_inbound(
        Inbound("a", Query(QueryKind.HISTORY, b'{"from":-1}'), "r", reply_to=ReplyTo("c", 0)))),
]  # fmt: skip


@pytest.mark.parametrize("value", [value for _, value in POISON], ids=[name for name, _ in POISON])
def test_what_once_poisoned_a_partition_does_so_no_more(value: bytes) -> None:
    cluster, _ = owned()
    cluster.send("a", ms.Start("listen", b"1"))
    for partition in range(PARTITIONS):
        cluster.put(value, partition)

    assert serves(cluster, "good")
    assert "RUNNING" == cluster.view("a")["status"]


def test_an_unreadable_record_is_a_dead_letter_with_its_reason_its_place_and_its_bytes() -> None:
    cluster, member = owned()
    cluster.put(b"\xff\x00 noise", 1)
    cluster.settle()
    ((headers, value),) = cluster.dead_letters()

    assert b"\xff\x00 noise" == value
    assert ("1", "0", "") == (headers["perdure-partition"], headers["perdure-offset"], headers["perdure-instance"])
    assert "expected a JSON object" in headers["perdure-reason"]
    assert 1 == member[1].counts.dead_letters


def test_who_can_be_told_is_told_why_the_message_was_refused() -> None:
    cluster, _ = owned()
    request = cluster.send("a", ms.Start("order", b'{"half": '))
    cluster.settle()
    (reply,) = cluster.replies(request)

    assert ReplyCode.REFUSED == reply.code
    assert "the input of 'order' is not JSON" in orjson.loads(reply.body)["message"]
    assert 1 == len(cluster.dead_letters())


@pytest.mark.parametrize("kind", [QueryKind.HISTORY, QueryKind.LIST])
def test_a_read_with_absurd_arguments_is_refused_with_what_was_expected(kind: QueryKind) -> None:
    cluster, _ = owned()
    cluster.send("a", ms.Start("order", b"1"))
    cluster.settle()
    reply = cluster.ask("a", Query(kind, b"[1]"))

    assert ReplyCode.REFUSED == reply.code
    assert "arguments of a" in orjson.loads(reply.body)["message"]


def test_forged_origins_with_huge_sequences_hold_nobody_up() -> None:
    cluster, member = owned()
    home = cluster.home_of("parent")
    topic = cluster.hub.identity.history_topic_id
    forged = ms.Origin(topic, 1 - home, 1 << 40)
    for _ in range(50):
        cluster.put(encode_inbound(Inbound("parent", cast("Body", ms.RaiseEvent("go")), origin=forged)), home)
    children = [name for name in (f"child-{number}" for number in range(20)) if cluster.home_of(name) != home][:3]
    cluster.send("parent", ms.Start("family", orjson.dumps(children)))
    cluster.settle(60)

    assert {"parent", *children} == set(cluster.ended())
    assert 50 == member[home].counts.out_of_order


@pytest.mark.parametrize("head", [b"\0", b'{"start": "order", "id": "a", "input": "', b"[" * 1_000])
def test_what_a_small_batch_was_blown_up_to_is_cut_and_fills_no_log(head: bytes) -> None:
    """A megabyte of compressed zeros may be gigabytes: neither is all of it read, nor does it go into the history."""
    cluster, _ = owned()
    blown_up = head + b"0" * 30_000_000
    cluster.put(blown_up, 1)
    assert serves(cluster, "good")
    ((headers, value),) = cluster.dead_letters()

    assert (str(len(blown_up)), blown_up[: len(value)]) == (headers["perdure-cut"], value)
    assert f"at most {LETTER_BYTES_MAX} bytes" in headers["perdure-reason"]
    written = sum(len(record.value or b"") for record in cluster.hub.journal("history", 1).read(0, 1 << 40))
    assert len(value) < written < LETTER_BYTES_MAX


def test_a_message_of_ours_that_is_too_large_is_refused_and_those_behind_it_are_taken() -> None:
    """Whose workers are told of a larger limit sends larger ones; they have their place in the sequence (R7)."""
    cluster, member = owned()
    home = cluster.home_of("b")
    topic = cluster.hub.identity.history_topic_id
    large = ms.RaiseEvent("go", b'"%s"' % (b"x" * LETTER_BYTES_MAX))
    for sequence, body in ((1, large), (2, ms.Start("idle"))):
        cluster.put(encode_inbound(Inbound("b", cast("Body", body), origin=ms.Origin(topic, 1 - home, sequence))), home)
    cluster.settle()

    assert "b" in cluster.ended()
    assert [1, 0] == [member[home].counts.dead_letters, member[home].counts.out_of_order]
