"""Reads of confirmed state, and those who wait for an end (R16)."""

from typing import Any

import orjson
import pytest

from perdure import App, OrchestrationContext
from perdure.partitions.queries import HISTORY_REPLY_BYTES_MAX
from perdure.partitions.watchers import WATCH_SECONDS, Watchers
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import (
    Inbound,
    Purge,
    Query,
    QueryKind,
    RaiseEvent,
    Reply,
    ReplyCode,
    ReplyTo,
    Start,
    Terminate,
)
from tests.partitions.cluster import Clock, Cluster, Member
from tests.partitions.test_held import owned

WAIT = Query(QueryKind.WAIT)
BARRIER = Query(QueryKind.BARRIER)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def member(cluster: Cluster) -> Member:
    member = cluster.join()
    cluster.until(member.owns)
    return member


def send_query(cluster: Cluster, query: Query, instance_id: str = "", request: str = "wait") -> None:
    cluster.put(encode_inbound(Inbound(instance_id, query, request, reply_to=ReplyTo("client", 0))))


def body(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(reply.body)
    return found


talking = App()


@talking.orchestration
async def talk(ctx: OrchestrationContext, _: Any) -> None:
    for number in range(9):
        await ctx.wait_for_external_event("go")
        if number == 2:
            ctx.set_custom_status("second")


def test_a_turn_that_only_counts_on_leaves_what_a_reader_sees_as_the_last_change_left_it() -> None:
    cluster = Cluster()
    owned(cluster, "w", talking)
    cluster.send("a", Start("talk"))
    cluster.settle()
    for _ in range(5):
        cluster.send("a", RaiseEvent("go", b"1"))
        cluster.settle()

    assert "second" == cluster.view("a")["custom_status"]


def test_a_read_shows_what_is_confirmed_and_not_what_is_on_its_way(cluster: Cluster, member: Member) -> None:
    cluster.send("a", Start("listen", b"1"))
    cluster.settle(5)
    member.log.stalled = True
    cluster.send("a", RaiseEvent("go", b"1"))
    cluster.settle(5)
    before = member.holdings().queries.read("a", Query(QueryKind.GET), 7)
    member.log.stalled = False
    cluster.settle(5)
    after = cluster.ask("a")

    assert "RUNNING" == orjson.loads(before[1])["status"]
    assert "COMPLETED" == body(after)["status"]
    assert after.offset > 1


def test_an_answer_says_as_of_which_offset(cluster: Cluster, member: Member) -> None:
    cluster.send("a", Start("order", b"1"))
    cluster.settle()
    reply = cluster.ask("a")

    assert cluster.hub.journal("history", 0).end - 1 == reply.offset == body(reply)["as_of"]


def test_who_waits_is_told_the_end_once_and_who_comes_late_is_told_at_once(cluster: Cluster, member: Member) -> None:
    cluster.send("a", Start("listen", b"1"))
    cluster.settle(5)
    send_query(cluster, WAIT, "a", "early")
    send_query(cluster, WAIT, "a", "early")  # it asks again, like any client
    cluster.settle(5)
    assert [] == cluster.replies("early")
    cluster.send("a", RaiseEvent("go", b"1"))
    cluster.settle(5)
    send_query(cluster, WAIT, "a", "late")
    cluster.settle(5)

    assert [ReplyCode.ENDED] == [reply.code for reply in cluster.replies("early")]
    assert [ReplyCode.ENDED] == [reply.code for reply in cluster.replies("late")]
    assert [1] == body(cluster.replies("late")[0])["result"]


def test_who_waits_for_what_is_not_there_is_told_so(cluster: Cluster, member: Member) -> None:
    send_query(cluster, WAIT, "nobody")
    cluster.settle(5)

    assert [ReplyCode.NOT_FOUND] == [reply.code for reply in cluster.replies("wait")]


def test_who_waits_for_an_instance_that_is_purged_while_it_runs_does_not_wait_for_ever(
    cluster: Cluster, member: Member
) -> None:
    cluster.send("a", Start("listen", b"1"))
    cluster.settle(5)
    send_query(cluster, WAIT, "a")
    cluster.settle(5)
    cluster.send("a", Purge(force=True))
    cluster.settle(5)

    assert [ReplyCode.NOT_FOUND] == [reply.code for reply in cluster.replies("wait")]
    assert {} == cluster.view("a")


def test_who_has_not_asked_again_for_long_waits_no_more(cluster: Cluster, member: Member) -> None:
    """A client that polls for an instance which lives for years leaves a watch behind with each poll."""
    cluster.send("a", Start("listen", b"1"))
    cluster.settle(5)
    for number in range(30):
        send_query(cluster, WAIT, "a", f"poll-{number}")
        send_query(cluster, WAIT, "a", "patient")
        cluster.settle(2)
        cluster.clock.now_ms += 20_000
    assert len(member.holdings().queries.watchers) <= 2 + WATCH_SECONDS / 20
    cluster.send("a", RaiseEvent("go", b"1"))
    cluster.settle()

    assert [ReplyCode.ENDED] == [reply.code for reply in cluster.replies("patient")]
    assert [ReplyCode.ENDED] == [reply.code for reply in cluster.replies("poll-29")]
    assert [] == cluster.replies("poll-0")


def test_beyond_a_number_who_asked_longest_ago_is_forgotten() -> None:
    watchers = Watchers(Clock(), count_max=3)
    for number in (1, 2, 3, 1, 4):
        watchers.add(f"instance-{number}", ReplyTo("client", 0), "wait")

    assert 3 == len(watchers)
    assert [] == watchers.take("instance-2")
    assert all([(ReplyTo("client", 0), "wait")] == watchers.take(f"instance-{number}") for number in (1, 3, 4))
    assert 0 == len(watchers)


def test_a_wait_is_over_however_the_instance_ends(cluster: Cluster, member: Member) -> None:
    cluster.send("a", Start("listen", b"1"))
    cluster.settle(5)
    send_query(cluster, WAIT, "a")
    cluster.send("a", Terminate(b'"enough"'))
    cluster.settle(5)
    (reply,) = cluster.replies("wait")

    assert (ReplyCode.ENDED, "TERMINATED", "enough") == (reply.code, body(reply)["status"], body(reply)["result"])


def test_a_barrier_is_answered_after_one_append_of_this_very_owner(cluster: Cluster, member: Member) -> None:
    """R16: so a reader cannot see the past of a deposed owner."""
    end = cluster.hub.journal("history", 0).end
    send_query(cluster, BARRIER, request="barrier")
    cluster.settle(5)
    (reply,) = cluster.replies("barrier")

    assert (ReplyCode.OK, end) == (reply.code, reply.offset)
    assert end + 1 == cluster.hub.journal("history", 0).end


def test_a_deposed_owner_answers_no_barrier(cluster: Cluster, member: Member) -> None:
    other = cluster.join("worker-2")
    cluster.until(other.owns)
    cluster.members.remove(other)
    send_query(cluster, BARRIER, request="barrier")
    while member.owns():
        member.step()

    assert [] == cluster.replies("barrier")


def test_a_long_history_comes_in_pages_that_are_whole_together(cluster: Cluster, member: Member) -> None:
    count, value = 12, "x" * (HISTORY_REPLY_BYTES_MAX // 12)
    cluster.send("a", Start("listen", b"%d" % count))
    cluster.settle(3)
    for _ in range(count):
        cluster.send("a", RaiseEvent("go", orjson.dumps(value)))
        cluster.settle(3)
    turns: list[dict[str, Any]] = []
    following, pages = 1, 0
    while following is not None:
        page = body(cluster.ask("a", Query(QueryKind.HISTORY, orjson.dumps({"from": following}))))
        turns += page["turns"]
        following, pages = page["next"], pages + 1

    assert pages > 1
    offsets = [turn["offset"] for turn in turns]
    assert sorted(set(offsets)) == offsets
    assert count == sum(event["type"] == "EventRaised" for turn in turns for event in turn["events"])


def test_reads_leave_no_records_but_do_not_hold_the_inbox_mark_back(cluster: Cluster, member: Member) -> None:
    cluster.send("a", Start("order", b"1"))
    cluster.settle()
    end = cluster.hub.journal("history", 0).end
    for _ in range(50):
        cluster.ask("a")
    assert end == cluster.hub.journal("history", 0).end
    cluster.send("b", Start("order", b"1"))
    cluster.settle()

    assert cluster.hub.journal("inbox", 0).end == member.holdings().fold.state.inbox_mark


def test_a_partition_that_is_only_read_from_states_now_and_then_how_far_it_has_read(
    cluster: Cluster, member: Member
) -> None:
    """Else recovery would read every question of the past again, and the inbox would never be trimmed."""
    for _ in range(2_500):
        send_query(cluster, Query(QueryKind.GET), "nobody")
    cluster.settle(20)
    cluster.kill(member)
    again = cluster.join("worker-2")
    cluster.until(again.owns, milliseconds=50)

    assert 3 + 1 >= cluster.hub.journal("history", 0).end
    assert again.holdings().fold.state.inbox_mark >= 1_500


def test_a_start_that_is_repeated_before_the_first_is_confirmed_waits_for_the_end_like_it(
    cluster: Cluster, member: Member
) -> None:
    member.log.stalled = True
    start = Inbound("a", Start("idle", b"7", tell_end=True), "start", reply_to=ReplyTo("client", 0))
    for _ in range(2):
        cluster.put(encode_inbound(start))
        cluster.settle(5)
    member.log.stalled = False
    cluster.settle(10)

    codes = [reply.code for reply in cluster.replies("start")]
    assert [ReplyCode.OK, ReplyCode.OK] == [code for code in codes if code != ReplyCode.ENDED]
    assert ReplyCode.ENDED in codes
