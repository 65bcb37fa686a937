"""Names that a worker does not know hold an instance: it is listed with its reason, its events wait, and a worker that knows the
name goes on with it (R12)."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from perdure import App, OrchestrationContext
from perdure.actors.executor import InstanceHeld
from perdure.schemas.messages import Query, QueryKind, RaiseEvent, Reply, ReplyCode, Resume, Start, Terminate
from tests.partitions.cluster import Cluster, Member

old = App()


@old.orchestration
async def ship(ctx: OrchestrationContext, value: Any) -> Any:
    return await ctx.call_activity("wrap", value)


new = App()
new.include(old)


@new.orchestration
async def bill(ctx: OrchestrationContext, value: Any) -> Any:
    return [value, await ctx.wait_for_external_event("paid")]


@new.activity
def wrap(value: Any) -> Any:
    return value


waits = App()


@waits.orchestration
async def patient(ctx: OrchestrationContext, _: Any) -> None:
    for _ in range(5):
        await ctx.wait_for_external_event("paid")


def owned(cluster: Cluster, name: str, code: App, **settings: Any) -> Member:
    cluster.app = code
    member = cluster.join(name, **settings)
    member.pool.known = frozenset(code.activities)
    cluster.until(member.owns, milliseconds=50)
    return member


def listed(cluster: Cluster, **arguments: Any) -> list[dict[str, Any]]:
    reply = cluster.ask("", Query(QueryKind.LIST, orjson.dumps(arguments)), partition=0)
    found: list[dict[str, Any]] = orjson.loads(reply.body)["instances"]
    return found


def answer(cluster: Cluster, request: str) -> tuple[Reply, dict[str, Any]]:
    cluster.until(lambda: cluster.replies(request))
    reply = cluster.replies(request)[0]
    return reply, orjson.loads(reply.body)


def test_an_orchestration_that_nobody_here_knows_is_held_listed_and_told_and_goes_on_where_it_is_known() -> None:
    cluster = Cluster()
    first = owned(cluster, "worker-1", old)
    reply, told = answer(cluster, cluster.send("bill-1", Start("bill", b"5")))
    assert (ReplyCode.HELD, True) == (reply.code, told["created"])
    assert "no orchestration 'bill'; it has: ship" in told["held"]["reason"]
    # What comes meanwhile is kept for it.
    reply, _ = answer(cluster, cluster.send("bill-1", RaiseEvent("paid", b"7")))
    assert ReplyCode.OK == reply.code
    (view,) = listed(cluster, held=True)
    assert ("bill-1", "PENDING", "unknown-name") == (view["instance_id"], view["status"], view["held"]["kind"])
    assert 1 == first.holdings().instances.held_count

    cluster.kill(first)
    second = owned(cluster, "worker-2", new)
    cluster.until(lambda: "bill-1" in cluster.ended())
    assert ([5, 7], []) == (cluster.view("bill-1")["result"], listed(cluster, held=True))
    assert 0 == second.holdings().instances.held_count
    cluster.check()


def test_an_activity_that_nobody_here_knows_holds_its_instance_and_runs_where_it_is_known() -> None:
    cluster = Cluster()
    first = owned(cluster, "worker-1", old)
    cluster.send("order-1", Start("ship", b"5"))
    cluster.settle()
    (view,) = listed(cluster, held=True)
    assert ("order-1", "unknown-activity") == (view["instance_id"], view["held"]["kind"])
    assert "'wrap' is not registered" in view["held"]["reason"]
    cluster.send("order-1", Resume())
    cluster.settle()
    assert 1 == len(listed(cluster, held=True))

    first[0].release()
    cluster.settle()
    owned(cluster, "worker-2", new)
    cluster.until(lambda: "order-1" in cluster.ended(), milliseconds=10)
    assert 5 == cluster.view("order-1")["result"]
    assert [] == listed(cluster, held=True)
    cluster.check()


def test_what_waited_for_an_unknown_activity_is_forgotten_with_its_instance() -> None:
    cluster = Cluster()
    member = owned(cluster, "worker-1", old)
    cluster.send("order-1", Start("ship", b"5"))
    cluster.settle()
    tenure = member[0].tenure
    assert tenure is not None
    assert [("order-1", {1})] == [(name, tasks) for (name, _), tasks in tenure._confirmation._unknown.items()]
    cluster.send("order-1", Terminate())
    cluster.until(lambda: "order-1" in cluster.ended())

    assert {} == tenure._confirmation._unknown


def test_an_activity_that_was_made_known_runs_when_its_instance_is_resumed() -> None:
    cluster = Cluster()
    member = owned(cluster, "worker-1", old)
    cluster.send("order-1", Start("ship", b"5"))
    cluster.settle()
    member.pool.known = frozenset({"wrap"})
    cluster.settle()
    assert "order-1" not in cluster.ended()
    cluster.send("order-1", Resume())
    cluster.until(lambda: "order-1" in cluster.ended())

    assert [] == listed(cluster, held=True)
    cluster.check()


def test_a_held_instance_can_be_terminated_and_is_held_no_more() -> None:
    cluster = Cluster()
    member = owned(cluster, "worker-1", old)
    cluster.send("bill-1", Start("bill", b"5"))
    cluster.settle()
    cluster.send("bill-1", Terminate(b'"enough"'))
    cluster.settle()

    assert ("TERMINATED", None) == tuple(cluster.view("bill-1")[name] for name in ("status", "held"))
    assert 0 == member.holdings().instances.held_count


def test_what_is_held_or_released_while_a_turn_is_on_its_way_is_shown_so_once_that_is_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster()
    member = owned(cluster, "worker-1", waits)
    cluster.send("bill-1", Start("patient"))
    cluster.settle()
    tenure = member[0].tenure
    assert tenure is not None
    slot = member.holdings().instances.get("bill-1")

    def meanwhile(act: Callable[[], None]) -> dict[str, str] | None:
        with monkeypatch.context() as patch:
            patch.setattr(tenure._epoch, "take_confirmed", list)
            cluster.send("bill-1", RaiseEvent("paid", b"1"))
            cluster.step(3)
            assert slot.unconfirmed
            act()
        cluster.settle()
        held: dict[str, str] | None = cluster.view("bill-1")["held"]
        return held

    why = InstanceHeld("no", kind="unknown-activity")
    assert {"kind": why.kind, "reason": "no"} == meanwhile(lambda: tenure._confirmation.hold(slot, why))
    assert None is meanwhile(lambda: tenure._confirmation.release_held(slot))


def test_very_many_held_instances_do_not_fill_the_memory_and_all_of_them_go_on() -> None:
    """The wrong code was deployed: every instance that it touches is held."""
    cluster = Cluster()
    wrong = owned(cluster, "worker-1", old, slots_max=20, round_messages_max=50)
    names = [f"bill-{number}" for number in range(300)]
    for name in names:
        cluster.send(name, Start("bill", b"5"))
    cluster.until(lambda: wrong.holdings().instances.held_count == 300)
    cluster.settle()
    assert len(wrong.holdings().instances) <= 20 + 50
    for name in names:
        cluster.send(name, RaiseEvent("paid", b"7"))
    cluster.until(lambda: wrong.holdings().intake.mark == 600)
    cluster.settle()
    assert len(wrong.holdings().instances) <= 20 + 50
    assert 300 == len(listed(cluster, held=True, limit=1_000))

    cluster.kill(wrong)
    owned(cluster, "worker-2", new, slots_max=20, round_messages_max=50)
    cluster.until(lambda: len(cluster.ended()) == 300)
    assert [] == listed(cluster, held=True)
    cluster.check()
