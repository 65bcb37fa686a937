"""What operators read of instances and messages that did not go well: a line where it is new, none for what is replayed, and of a
flood its beginning."""

from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from perdure import App, OrchestrationContext
from perdure.partitions import notices
from perdure.partitions.memory import Fate, FaultScript, MemoryStores
from perdure.partitions.notices import Notices
from perdure.schemas.messages import RaiseEvent, Resume, Start
from tests.partitions.cluster import Clock, Cluster

Lines = list[structlog.typing.EventDict]

app = App()


@app.orchestration
async def fail(ctx: OrchestrationContext, value: Any) -> None:
    raise ValueError(f"{value} is no order")


@app.orchestration
async def succeed(ctx: OrchestrationContext, value: Any) -> Any:
    return value


@app.orchestration
async def unpack(ctx: OrchestrationContext, value: Any) -> Any:
    return await ctx.call_activity("unwrap", value)


def named(lines: Lines, event: str) -> Lines:
    return [line for line in lines if line["event"] == event]


def test_that_an_instance_is_held_is_told_where_it_is_new_and_not_of_what_comes_for_it() -> None:
    cluster, stores = Cluster(code=app), MemoryStores()
    member = cluster.join(stores=stores)
    with capture_logs() as lines:
        cluster.send("bill-1", Start("bill", b"5"))
        cluster.settle()
        for _ in range(3):
            cluster.send("bill-1", RaiseEvent("paid", b"7"))
            cluster.settle()
    told = named(lines, "instance.held")
    # The same machine again: its store has it held.
    member.release()
    cluster.settle()
    cluster.members.remove(member)
    with capture_logs() as lines:
        heir = cluster.join("worker-2", stores=stores)
        cluster.until(heir.owns, milliseconds=50)
        cluster.send("bill-1", RaiseEvent("paid", b"7"))
        cluster.settle()
    again = named(lines, "instance.held")
    with capture_logs() as lines:
        cluster.send("bill-1", Resume())
        cluster.settle()

    assert [("warning", 0, "bill-1", "unknown-name")] == [
        (line["log_level"], line["partition"], line["instance"], line["kind"]) for line in told
    ]
    assert "no orchestration 'bill'" in told[0]["reason"]
    assert [] == again
    assert ["unknown-name"] == [line["kind"] for line in named(lines, "instance.held")]


def test_an_activity_that_nobody_knows_is_told_once() -> None:
    cluster = Cluster(code=app)
    cluster.join().pool.known = frozenset()
    with capture_logs() as lines:
        for _ in range(2):
            cluster.send("unpack-1", Start("unpack", b"5"))
            cluster.settle()

    assert [("unpack-1", "unknown-activity")] == [
        (line["instance"], line["kind"]) for line in named(lines, "instance.held")
    ]


def test_that_an_instance_failed_is_told_once_it_is_confirmed_and_by_nobody_who_reads_of_it() -> None:
    """Its first turn never lands, so that the next epoch decides it anew."""
    cluster = Cluster(code=app, faults=FaultScript({"history": [Fate(), Fate(copies=0)]}))
    first = cluster.join(append_seconds_max=1.0)
    with capture_logs() as lines:
        cluster.send("order-1", Start("fail", b'"nothing"'))
        cluster.settle()
        early = named(lines, "instance.failed")
        cluster.until(lambda: cluster.ended()["order-1"], milliseconds=100)
        cluster.send("order-2", Start("succeed", b"1"))
        cluster.settle()
    cluster.kill(first)
    with capture_logs() as read:
        heir = cluster.join("worker-2")
        cluster.until(heir.owns, milliseconds=50)
        assert "FAILED" == cluster.view("order-1")["status"]

    assert [] == early
    assert [
        {
            "event": "instance.failed",
            "log_level": "warning",
            "partition": 0,
            "instance": "order-1",
            "name": "fail",
            "type": "ValueError",
            "message": "nothing is no order",
        }
    ] == named(lines, "instance.failed")
    assert [] == named(read, "instance.failed")


def test_a_dead_letter_is_told_with_its_reason_and_where_it_came_from() -> None:
    cluster = Cluster(2, code=app)
    cluster.join()
    with capture_logs() as lines:
        cluster.put(b"{}", 1)
        cluster.put(b'{"start": ', 1)
        cluster.until(lambda: len(cluster.dead_letters()) == 2, milliseconds=10)
    told = named(lines, "message.dead_lettered")

    assert [("warning", 1, 0), ("warning", 1, 1)] == [
        (line["log_level"], line["partition"], line["offset"]) for line in told
    ]
    assert [headers["perdure-reason"] for headers, _ in cluster.dead_letters()] == [line["reason"] for line in told]


def test_a_flood_is_told_by_its_beginning_and_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "LINES_MAX", 3)
    clock = Clock()
    told = Notices(clock)
    with capture_logs() as lines:
        for number in range(10):
            told.tell("activity.failed", task=number)
        told.tell("instance.failed", instance="beside it")
        clock.now_ms += int(notices.FLOOD_SECONDS * 1000)
        told.tell("activity.failed", task=10)
        told.tell("activity.failed", task=11)

    assert [0, 1, 2, 10, 11] == [line["task"] for line in named(lines, "activity.failed")]
    assert ["activity.failed"] == [line["of"] for line in named(lines, "notices.left_out")]
    assert [None, None, None, 7, None] == [line.get("left_out") for line in named(lines, "activity.failed")]
    assert ["beside it"] == [line["instance"] for line in named(lines, "instance.failed")]
