"""What the simulator (tests/simulation) has found in owners, each in the smallest world that shows it."""

from datetime import timedelta
from itertools import repeat
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext
from perdure.partitions.keys import BEGINNING, end_of, parse_beginning_key
from perdure.partitions.memory import Fate, FaultScript, MemoryStores
from perdure.partitions.owner import Phase
from perdure.schemas import messages as ms
from perdure.schemas.events import Status
from tests.partitions.cluster import Cluster

app = App()


@app.orchestration
async def leap(ctx: OrchestrationContext, left: int) -> str:
    """Continue as new before anything else, some times."""
    if left:
        ctx.continue_as_new(left - 1)
        return "on"
    return "there"


@app.activity
def get(number: int) -> int:
    return number


@app.orchestration
async def fetch(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(get, number)


@app.orchestration
async def parent(ctx: OrchestrationContext, child: str) -> Any:
    return await ctx.call_sub_orchestrator(nap, 60_000, instance_id=child)


@app.orchestration
async def nap(ctx: OrchestrationContext, milliseconds: int) -> int:
    await ctx.create_timer(timedelta(milliseconds=milliseconds))
    return milliseconds


@app.orchestration
async def say(ctx: OrchestrationContext, text: str) -> str:
    return text


def hub(**options: Any) -> Cluster:
    return Cluster(code=app, **options)


def test_an_execution_may_continue_as_new_in_its_very_first_turn() -> None:
    """Its code had ended and was given the start of the next execution, which crashed the partition for ever."""
    cluster = hub()
    cluster.join()
    cluster.send("x", ms.Start("leap", b"3"))
    cluster.until(lambda: cluster.view("x").get("status") == "COMPLETED")

    assert "there" == cluster.view("x")["result"]
    assert 4 == cluster.view("x")["generation"]


def test_a_parent_hears_that_its_childs_id_is_taken() -> None:
    """The refusal changes nothing of the instance that is there, and was dropped with the turn that was none."""
    cluster = hub()
    cluster.join()
    cluster.send("taken", ms.Start("nap", b"60000"))
    cluster.send("mother", ms.Start("parent", b'"taken"'))
    cluster.until(lambda: "mother" in cluster.ended())

    assert "FAILED" == cluster.view("mother")["status"]
    assert "InstanceAlreadyExists" in cluster.view("mother")["failure"]["message"]


def test_who_replaces_a_running_instance_leaves_no_child_of_it_behind() -> None:
    cluster = hub()
    cluster.join()
    cluster.send("mother", ms.Start("parent", b'"child"'))
    cluster.until(lambda: cluster.view("child").get("status") == "RUNNING")
    running = (int(Status.RUNNING),)
    cluster.send("mother", ms.Start("parent", b'"child"', reuse=ms.ReusePolicy.REPLACE, reuse_statuses=running))
    cluster.until(lambda: cluster.view("child").get("generation") == 2)

    assert ["RUNNING", "RUNNING"] == [cluster.view(name)["status"] for name in ("mother", "child")]
    assert 1 == cluster.ended()["child"]


def test_an_answer_never_names_a_record_that_is_not_whole() -> None:
    """R16: what is confirmed of a record in parts before its last one is nothing yet."""
    cluster = hub(faults=FaultScript({"history": (Fate(), Fate(), Fate(delay=40), Fate(delay=40))}))
    cluster.hub.record_bytes_max = 700
    cluster.join()
    cluster.until(lambda: cluster.claims() == [0])
    cluster.send("long", ms.Start("say", orjson.dumps("x" * 1_500)))
    cluster.until(lambda: cluster.hub.journal("history", 0).end > 1)
    reply = cluster.ask("long")

    assert (ms.ReplyCode.NOT_FOUND, 0) == (reply.code, reply.offset)


def test_more_histories_are_carried_than_slots_are_kept() -> None:
    """R15, I9: slots were evicted while they waited for their record, and what was carried then was forgotten."""
    cluster = hub(faults=FaultScript({"history": repeat(Fate(delay=40))}))
    first = cluster.join("first")
    names = [f"sleeper-{number}" for number in range(10)]
    for name in names:
        cluster.send(name, ms.Start("nap", b"100000000"))
    cluster.until(lambda: first.counts.instances_started == len(names))
    cluster.kill(first)
    patience = {"append_seconds_max": 1e6}
    heir = cluster.join("heir", retention_seconds=20.0, checkpoint_seconds_max=2.0, slots_max=2, **patience)
    cluster.until(heir.owns)
    cluster.send("brief", ms.Start("say", b'"hello"'))
    cluster.until(lambda: cluster.client.span_history(0).start > len(names), milliseconds=500)
    holdings = heir[0].holdings
    assert holdings is not None
    beginnings = [parse_beginning_key(key) for key, _ in holdings.store.scan(BEGINNING, end_of(BEGINNING))]

    assert sorted(names) == sorted(name for _, name in beginnings)


def test_an_owner_with_nothing_to_write_can_look_who_wrote_after_it() -> None:
    """A standby that stood in stayed for ever, a second owner in its own eyes, where the group had meant another."""
    cluster = hub()
    first = cluster.join("first")
    cluster.until(first.owns)
    first[0].notice_others()
    assert first.owns()

    second = cluster.join("second", stores=MemoryStores())
    cluster.until(second.owns)
    assert first.owns()
    first[0].notice_others()
    cluster.until(lambda: first[0].phase == Phase.STANDBY)

    assert "claimed by second" in first[0].epoch_ended_by
    assert second.owns()


def test_who_stood_in_and_is_meant_at_last_takes_over_what_another_has_left() -> None:
    """It was an owner in its own eyes, and what the other one had dispatched and given back was never dispatched again."""
    cluster = hub(automatic=False)
    first = cluster.join("first")
    cluster.until(first.owns)
    second = cluster.join("second", stores=MemoryStores())
    cluster.until(second.owns)
    cluster.members.remove(first)
    cluster.send("order", ms.Start("fetch", b"1"))
    cluster.until(lambda: second.pool.dispatched)
    second.release()
    cluster.until(lambda: second[0].phase == Phase.CLOSED)
    cluster.members.append(first)
    cluster.settle()
    assert first.owns()

    first[0].assign_again()
    cluster.until(lambda: first.pool.dispatched)
    first.pool.finish()
    cluster.until(lambda: cluster.view("order").get("status") == "COMPLETED")


def test_who_is_deposed_while_it_recovers_takes_no_trim_of_its_heir_for_a_loss() -> None:
    """What the heir has consumed is gone from the inbox by then, and that is no alarm."""
    cluster = hub()
    slow = cluster.join("slow")
    cluster.until(lambda: slow[0].phase == Phase.RECOVERING)
    cluster.members.remove(slow)  # it stands still
    heir = cluster.join("heir", stores=MemoryStores(), checkpoint_turns_max=1)
    for number in range(5):
        cluster.send(f"x{number}", ms.Start("say", b'"hello"'))
    cluster.until(lambda: cluster.client.span_inbox(0).start > 0, milliseconds=10)
    with capture_logs() as logs:
        cluster.members.append(slow)
        cluster.until(lambda: slow[0].phase == Phase.OWNING)

    assert [] == [entry for entry in logs if entry["log_level"] == "error"]
    assert heir.owns()


def test_scheduled_starts_whose_time_comes_while_no_new_work_is_begun_are_begun_later_however_many() -> None:
    """R10: only so many of those that wait were remembered, and the others were thought to be in a table that has no such start."""
    cluster = hub()
    member = cluster.join(slots_max=1)
    cluster.until(member.owns)
    member.pool.running_max = 0
    due_ms = cluster.clock.now_ms + 1_000
    for number in range(5):
        cluster.send(f"x{number}", ms.Start("say", b'"hello"', start_at_ms=due_ms))
    cluster.settle()
    cluster.clock.now_ms = due_ms + 1
    cluster.settle()
    member.pool.running_max = 1
    cluster.settle()

    assert ["COMPLETED"] * 5 == [cluster.view(f"x{number}")["status"] for number in range(5)]


def trimmed(cluster: Cluster, past: int) -> None:
    """Let an owner with a retention begin and end work until it has let go of everything before `past`."""
    for number in range(60):
        cluster.send(f"brief-{number}", ms.Start("say", b'"hello"'))
        cluster.clock.now_ms += 2_000
        cluster.settle()
        if cluster.client.span_history(0).start > past:
            return
    raise AssertionError("it was not trimmed")


FORGETFUL: dict[str, Any] = {"retention_seconds": 5.0, "checkpoint_seconds_max": 1.0}


def test_who_is_deposed_while_it_recovers_stands_by_where_its_heir_has_trimmed_the_history() -> None:
    """R15: what it was about to read is let go of, and that is no loss and no alarm."""
    cluster = hub()
    first = cluster.join("first")
    for number in range(5):
        cluster.send(f"x{number}", ms.Start("say", b'"hello"'))
    cluster.until(lambda: cluster.view("x4").get("status") == "COMPLETED")
    cluster.kill(first)
    slow = cluster.join("slow", stores=first.stores)
    cluster.until(lambda: slow[0].phase == Phase.RECOVERING)
    claim = cluster.claims()[-1]
    cluster.members.remove(slow)  # it stands still
    heir = cluster.join("heir", stores=MemoryStores(), **FORGETFUL)
    trimmed(cluster, claim)

    cluster.members.append(slow)
    cluster.until(lambda: slow[0].phase == Phase.STANDBY)

    assert "during recovery" in slow[0].epoch_ended_by
    assert heir.owns()


def test_who_recovers_while_the_owner_before_it_trims_begins_again_at_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """R15: an owner that does not know yet that it is deposed may let go of what its heir is reading."""
    cluster = hub()
    first = cluster.join("first", **FORGETFUL)
    trimmed(cluster, 0)
    before = cluster.client.span_history(0).start
    slow = cluster.join("slow", stores=MemoryStores())
    cluster.members.remove(slow)
    trimmed(cluster, before)
    base = cluster.client.span_history(0).start
    cluster.hub.journal("history", 0).move_start_back(before)
    cluster.members.remove(first)
    cluster.members.append(slow)
    cluster.until(lambda: slow[0].phase == Phase.RECOVERING)
    read = slow.log.read_history

    def read_late(partition: int, start: int, end: int) -> Any:
        """Its first reading, of an older base, comes too late."""
        monkeypatch.setattr(slow.log, "read_history", read)
        cluster.client.trim_history(0, base)
        return read(partition, before, end)

    monkeypatch.setattr(slow.log, "read_history", read_late)
    cluster.until(slow.owns)

    cluster.send("after", ms.Start("say", b'"hello"'))
    cluster.until(lambda: cluster.view("after").get("status") == "COMPLETED")


def test_who_lost_its_epoch_to_an_owner_that_has_trimmed_since_stands_by() -> None:
    """R15: the history after its own claim is not there any more to be looked at for the other's."""
    cluster = hub()
    first = cluster.join("first", append_seconds_max=1e9)
    cluster.send("sleeper", ms.Start("nap", b"100000000"))
    cluster.until(lambda: cluster.view("sleeper").get("status") == "RUNNING")
    cluster.members.remove(first)  # it stands still
    second = cluster.join("second", stores=MemoryStores(), retention_seconds=5.0, checkpoint_seconds_max=1.0)
    cluster.until(second.owns)
    claim = cluster.claims()[-1]
    for number in range(20):
        cluster.send(f"brief-{number}", ms.Start("say", b'"hello"'))
        cluster.clock.now_ms += 2_000
        cluster.settle()
    assert cluster.client.span_history(0).start > claim

    cluster.members.append(first)
    cluster.send("another", ms.Start("nap", b"1"))
    cluster.until(lambda: first[0].phase == Phase.STANDBY, milliseconds=1)

    assert "trimmed" in first[0].epoch_ended_by
    cluster.until(lambda: cluster.view("another").get("status") == "COMPLETED")
