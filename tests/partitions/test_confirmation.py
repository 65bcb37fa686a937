"""What happens once a record is durable happens in one order: the store, effects, replies (R5).

The checker watches the store, the pool, the outbox and the replies of an owner from outside, and compares each with what the
log and the store hold at that moment. It is itself checked: for every other order there is a run that it does not pass.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from typing import Any

import orjson
import pytest

from perdure.partitions.activities import ActivityTask
from perdure.partitions.confirmation import Confirmation, Decided
from perdure.partitions.epoch import Appended
from perdure.partitions.header import read_header
from perdure.partitions.keys import ANCHOR, activity_key, outbox_key
from perdure.partitions.ports import Store
from perdure.partitions.state import decode_anchor
from perdure.schemas.codec import decode_reply
from perdure.schemas.messages import RaiseEvent, ReplyCode, Start, Terminate
from tests.partitions.cluster import Cluster, Member


class Watch:
    """Looks at an owner's store whenever it does something that others can see."""

    def __init__(self, cluster: Cluster, member: Member) -> None:
        self.cluster = cluster
        self.member = member
        self.faults: list[str] = []
        self.seen = 0
        self._wrap(member.pool, "dispatch", self._see_dispatch)
        self._wrap(member.log.publisher, "publish_reply", self._see_reply)
        for partition in range(cluster.partitions):
            self._wrap(member.holdings(partition).outbox, "offer", partial(self._see_send, partition))

    def _wrap(self, target: Any, name: str, see: Callable[..., None]) -> None:
        real = getattr(target, name)

        def seen(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            see(*arguments, **options)
            return real(*arguments, **options)

        setattr(target, name, seen)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.faults.append(what)

    def store(self, partition: int) -> Store:
        return self.member.holdings(partition).store

    def offset(self, partition: int) -> int:
        """As of where the store is."""
        value = self.store(partition).get(ANCHOR)
        found = decode_anchor(value) if value is not None else None
        return found[0].offset if found is not None else -1

    def _see_dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        for task in tasks:
            end = self.cluster.hub.journal("history", task.partition).end
            self.expect(self.offset(task.partition) < end, "the store is ahead of the log")
            key = activity_key(task.instance_id, task.execution_id, task.task_id)
            held = self.store(task.partition).get(key) is not None
            self.expect(held, f"{task.key} was dispatched before the store had it")

    def _see_send(self, partition: int, target: int, sequence: int, key: str, message: bytes) -> None:
        held = self.store(partition).get(outbox_key(target, sequence)) is not None
        self.expect(held, f"send {sequence} to {target} left before the store had it")

    def _see_reply(self, _partition: int, _key: str, value: bytes) -> None:
        reply = decode_reply(value)
        fields = orjson.loads(reply.body)
        name, at = fields.get("instance_id"), self.offset(reply.partition)
        if name is None:
            self.faults.append(f"a reply that knows of nothing: {fields}")
            return
        self.expect(at >= reply.offset, f"a reply as of {reply.offset}, the store is at {at}")
        header = read_header(self.store(reply.partition), name)
        self.expect(header is not None, f"{name} was answered before it could be read")
        if reply.code == ReplyCode.ENDED:
            self.expect(header is not None and header.status.terminal, f"{name} was told to be over while it ran")
        if fields.get("created") and name.startswith("order"):
            dispatched = {task.instance_id for task, _ in self.member.pool.dispatched}
            self.expect(name in dispatched, f"{name} was answered before its effects")


def run_watched() -> Watch:
    """Starts, sends to another partition, ends and refusals, all answered, many of them confirmed in one batch."""
    cluster = Cluster(2)
    member = cluster.join(append_seconds_max=1_000.0)
    cluster.until(lambda: member.owns(0) and member.owns(1))
    watch = Watch(cluster, member)
    names = (f"order-{number}" for number in range(1_000))
    here = [name for name in names if cluster.home_of(name) == 0]
    member.log.stalled = True
    for name in here[:8]:
        cluster.send(name, Start("order", b"1", tell_end=True))
    families = [name for name in (f"family-{number}" for number in range(100)) if cluster.home_of(name) == 0][:3]
    for name in families:
        children = [f"{name}-child-{number}" for number in range(4)]
        cluster.send(name, Start("family", orjson.dumps(children), tell_end=True))
    waiter = next(name for name in (f"listen-{number}" for number in range(99)) if cluster.home_of(name) == 0)
    cluster.send(waiter, Start("listen", b"2"))
    cluster.send(waiter, RaiseEvent("go", b"1"))
    cluster.step(4)
    member.log.stalled = False
    cluster.settle(40)
    member.log.stalled = True
    cluster.send(waiter, Terminate(b'"enough"'))
    cluster.send(here[0], Start("order", b"1"))
    cluster.step(4)
    member.log.stalled = False
    cluster.settle(20)
    assert set(here[:8]) | set(families) | {waiter} <= set(cluster.ended())
    return watch


def test_who_has_an_answer_can_read_what_it_says_and_no_effect_comes_before_the_store() -> None:
    watch = run_watched()

    assert [] == watch.faults
    assert watch.seen > 50


Step = Callable[[Confirmation, Sequence[Appended[Decided]], dict[str, Any]], None]


def _store(confirmation: Confirmation, confirmed: Sequence[Appended[Decided]], memory: dict[str, Any]) -> None:
    memory["ended"] = confirmation._write(confirmed)


def _effects(confirmation: Confirmation, confirmed: Sequence[Appended[Decided]], memory: dict[str, Any]) -> None:
    confirmation._take_effect(confirmed)


def _replies(confirmation: Confirmation, confirmed: Sequence[Appended[Decided]], memory: dict[str, Any]) -> None:
    records = [appended.effect for appended in confirmed]
    confirmation._reply(records, memory.get("ended", ()), confirmed[-1].offset)


STEPS: dict[str, Step] = {"store": _store, "effects": _effects, "replies": _replies}
ORDERS = [order for order in permutations(STEPS) if order != tuple(STEPS)]


def in_order(*order: str) -> Callable[[Confirmation, Sequence[Appended[Decided]]], None]:
    def take_batch(confirmation: Confirmation, confirmed: Sequence[Appended[Decided]]) -> None:
        memory: dict[str, Any] = {}
        for name in order:
            STEPS[name](confirmation, confirmed, memory)

    return take_batch


@pytest.mark.parametrize("order", ORDERS, ids=", then ".join)
def test_every_other_order_is_caught(order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Confirmation, "_take_batch", in_order(*order))

    assert [] != run_watched().faults


def test_the_steps_of_this_file_in_the_right_order_are_the_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Confirmation, "_take_batch", in_order(*STEPS))

    assert [] == run_watched().faults
