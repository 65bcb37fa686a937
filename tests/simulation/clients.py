"""Clients of a run: each carries out one plan, records every call as a checker wants it, and asks again with the same request id.

Rules of this file: what a client waits for is a message or a time; a call that is not answered in time is unknown, never failed.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

import orjson

from perdure.partitions.memory import MemoryPublisher
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull
from perdure.schemas.codec import encode_inbound
from perdure.schemas.events import Status
from perdure.schemas.messages import (
    Body,
    Cancel,
    Inbound,
    Purge,
    Query,
    QueryKind,
    RaiseEvent,
    Reply,
    ReplyCode,
    ReplyTo,
    Resume,
    ReusePolicy,
    Start,
    Suspend,
    Terminate,
)
from tests.checkers.evidence import Call, Outcome

from .clock import START_MS, WorldClock
from .faults import Fault
from .hub import SimulatedHub
from .plans import Plan, Trouble

RESEND_MS = 700
RESEND_MS_MAX = 3_000
PATIENCE_MS = 15_000
_YES = (ReplyCode.OK, ReplyCode.HELD, ReplyCode.ENDED)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let so many milliseconds pass."""

    ms: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request until it is answered, or for `patience_ms`. `partition`: where, if not where its instance belongs."""

    instance_id: str
    body: Body
    request_id: str = ""
    patience_ms: int = PATIENCE_MS
    partition: int | None = None


Session = Generator[Sleep | Ask, Call, None]


class Surroundings(Protocol):
    """What a client is in."""

    clock: WorldClock
    hub: SimulatedHub
    partition_count: int
    calls: list[Call]

    def note(self, who: str, what: str, *details: object) -> None: ...
    def after(self, ms: int, act: Callable[[], None]) -> None: ...
    def chance(self, kind: Fault) -> bool: ...


class Client:
    """Runs one session: a generator that yields what it waits for."""

    def __init__(self, name: str, world: Surroundings) -> None:
        self.name = name
        self.stalled = False
        self._world = world
        self._publisher = MemoryPublisher(world.hub, self)
        self._reply_to = ReplyTo(name, partition_of(name, world.partition_count))
        self._session: Session | None = None
        self._numbers = count(1)
        self._asked: tuple[Call, Ask, int] | None = None
        self.done = False

    @property
    def asks(self) -> str:
        """What it waits for an answer to, if for anything."""
        call = self._asked[0] if self._asked is not None else None
        return (
            f"{self.name} asks {f'{call.kind} {call.detail} of {call.instance_id}' if call is not None else 'nothing'}"
        )

    def run(self, session: Session) -> None:
        self._session = session
        self._go_on(None)

    def _go_on(self, call: Call | None) -> None:
        assert self._session is not None
        try:
            wanted = self._session.send(call) if call is not None else next(self._session)
        except StopIteration:
            self.done = True
            return
        if isinstance(wanted, Sleep):
            self._world.after(wanted.ms, lambda: self._go_on(None))
            return
        request_id = wanted.request_id or f"{self.name}/{next(self._numbers)}"
        kind = type(wanted.body).__name__
        now = START_MS + self._world.clock.now
        asked = Call(self.name, kind, wanted.instance_id, request_id, now, detail=_detail(wanted.body))
        self._world.calls.append(asked)
        self._asked = (asked, wanted, self._world.clock.now + wanted.patience_ms)
        self._send(asked, RESEND_MS)

    def _send(self, call: Call, pause_ms: int) -> None:
        """Put it on the inbox, unless it was answered; and again after a while."""
        if self._asked is None or self._asked[0] is not call:
            return
        _, ask, until = self._asked
        now = self._world.clock.now
        if now >= until:
            self._world.note(self.name, "gives up", call.kind, call.instance_id)
            self._asked = None
            self._go_on(call)
            return
        partition = ask.partition
        if partition is None:
            partition = partition_of(call.instance_id, self._world.partition_count)
        value = encode_inbound(Inbound(call.instance_id, ask.body, call.request_id, reply_to=self._reply_to))
        self._world.note(self.name, "asks", call.kind, call.instance_id, call.request_id, partition)
        for _ in range(2 if self._world.chance(Fault.HASTE) else 1):
            call.sent += 1
            self.publish(partition, call.instance_id, value)
        self._world.after(pause_ms, lambda: self._send(call, min(pause_ms * 2, RESEND_MS_MAX)))

    def publish(self, partition: int, key: str, value: bytes) -> None:
        try:
            self._publisher.publish_inbox(partition, key, value, lambda _: None)
        except BufferFull:
            return  # it is sent again, as after any loss

    def take(self, reply: Reply) -> None:
        """A reply came; one that nobody waits for is dropped."""
        if self._asked is None or reply.request_id != self._asked[0].request_id:
            return
        call, ask, _ = self._asked
        waits = isinstance(ask.body, Query) and ask.body.query == QueryKind.WAIT
        if waits and reply.code == ReplyCode.OK:
            return
        call.outcome = Outcome.OK if reply.code in _YES else Outcome.FAIL
        call.completed_ms = START_MS + self._world.clock.now
        call.code = reply.code
        call.answer = orjson.loads(reply.body) or {}
        self._world.note(self.name, "hears", call.kind, call.instance_id, ReplyCode(reply.code).name)
        self._asked = None
        self._world.after(0, lambda: self._go_on(call))


class Operator(Client):
    """Asks one thing after the other, as somebody at a console would. It is never waited for."""

    def __init__(self, world: Surroundings) -> None:
        super().__init__("operator", world)
        self.done = True

    def run_more(self, ask: Ask) -> None:
        """Ask this, unless the last one is not answered yet."""
        if self.done:
            self.done = False
            self.run(_once(ask))


def _once(ask: Ask) -> Session:
    yield ask


def _detail(body: Body) -> str:
    """What a checker wants to know of a request beyond its kind."""
    if isinstance(body, RaiseEvent):
        return body.name
    if isinstance(body, Query):
        return body.query.name
    return body.reuse.name if isinstance(body, Start) else ""


# Sessions.


def start_of(plan: Plan, **options: Any) -> Start:
    given = tuple((name, orjson.dumps(value)) for name, value in plan.given)
    start_at = START_MS + plan.start_ms + plan.delay_ms if plan.delay_ms else 0
    name = "what nobody knows" if plan.trouble is Trouble.HELD else "program"
    start = Start(name, orjson.dumps(plan.job), dict(plan.tags or {}), start_at_ms=start_at, events=given)
    return replace(start, **options)


def insist(ask: Ask) -> Generator[Ask, Call, Call]:
    """Ask until it is known what came of it."""
    call = yield ask
    while call.outcome is Outcome.INFO:
        call = yield ask
    return call


def carry_out(plan: Plan) -> Session:
    """Start it, send it its events in order, and do to it what the plan says."""
    yield Sleep(plan.start_ms)
    name = plan.instance_id
    yield from insist(Ask(name, start_of(plan, tell_end=False), f"{name}/start"))
    if plan.trouble in _TROUBLES:
        yield Sleep(plan.trouble_ms)
        yield from _TROUBLES[plan.trouble](plan)


def send_events(plan: Plan) -> Session:
    """One sender's events, each when the one before it was acknowledged, so that their order is known."""
    yield Sleep(plan.start_ms + 1)
    name = plan.instance_id
    yield from insist(Ask(name, start_of(plan), f"{name}/start"))
    for number, (pause_ms, event, value) in enumerate(plan.raised):
        yield Sleep(pause_ms)
        body = RaiseEvent(event, orjson.dumps(value))
        yield from insist(Ask(name, body, f"{name}/event/{number}"))


def wait_for_end(name: str, patience_ms: int = PATIENCE_MS) -> Generator[Ask, Call, Call]:
    while True:
        call = yield Ask(name, Query(QueryKind.WAIT), patience_ms=patience_ms)
        if call.outcome is not Outcome.INFO:
            return call


def _suspend(plan: Plan) -> Session:
    name = plan.instance_id
    for number in range(2):
        yield from insist(Ask(name, Suspend("wait"), f"{name}/suspend/{number}"))
        yield Sleep(300)
        yield from insist(Ask(name, Resume("go on"), f"{name}/resume/{number}"))


def _cancel(plan: Plan) -> Session:
    yield from insist(Ask(plan.instance_id, Cancel("enough"), f"{plan.instance_id}/cancel"))


def _terminate(plan: Plan) -> Session:
    yield from insist(Ask(plan.instance_id, Terminate(b'"stop"'), f"{plan.instance_id}/terminate"))


def _purge(plan: Plan) -> Session:
    """Purge when it has ended, let what may still be under way arrive, and start anew."""
    name = plan.instance_id
    yield from wait_for_end(name)
    yield from insist(Ask(name, Purge(), f"{name}/purge"))
    yield Sleep(15_000)
    yield from insist(Ask(name, start_of(plan), f"{name}/start/again"))


def _force(plan: Plan) -> Session:
    yield from insist(Ask(plan.instance_id, Purge(force=True), f"{plan.instance_id}/purge"))


def _contest(plan: Plan) -> Session:
    """A second start of the same id, which must not make a second instance."""
    name = plan.instance_id
    for policy in (ReusePolicy.REJECT, ReusePolicy.RETURN):
        yield from insist(Ask(name, start_of(plan, reuse=policy), f"{name}/start/{policy.name.lower()}"))


def _replace(plan: Plan) -> Session:
    name = plan.instance_id
    yield from wait_for_end(name)
    again = start_of(plan, reuse=ReusePolicy.REPLACE)
    yield from insist(Ask(name, again, f"{name}/start/replace"))
    yield from wait_for_end(name)
    # A running one is replaced too, where the start says so.
    running = (int(Status.PENDING), int(Status.RUNNING), int(Status.COMPLETED))
    more = start_of(plan, reuse=ReusePolicy.REPLACE, reuse_statuses=running)
    for number in range(2):
        yield from insist(Ask(name, more, f"{name}/start/more/{number}"))


_TROUBLES: dict[Trouble, Callable[[Plan], Session]] = {
    Trouble.PAUSE: _suspend,
    Trouble.CANCEL: _cancel,
    Trouble.TERMINATE: _terminate,
    Trouble.HELD: _terminate,
    Trouble.PURGE: _purge,
    Trouble.FORCE: _force,
    Trouble.CONTEST: _contest,
    Trouble.REPLACE: _replace,
}


def shout(plan: Plan, publish: Callable[[int, str, bytes], None], partition: int) -> Session:
    """Start it as a producer that knows nothing of the hub: plain JSON on any partition, again until it is there."""
    yield Sleep(plan.start_ms)
    name = plan.instance_id
    message = {"start": "program", "id": name, "input": plan.job, "request_id": f"{name}/start"}
    while True:
        publish(partition, name, orjson.dumps(message))
        yield Sleep(1_000)
        call = yield from wait_for_end(name)
        if call.outcome is Outcome.OK:
            return


JUNK = (b"", b"{", b'{"start":1}', b"\xd1\xff\xff", b"\xd0junk", b'{"raise":"x"}', b"not for us")


def litter(publish: Callable[[int, str, bytes], None], partition: int, at_ms: int) -> Session:
    """Put something into an inbox that is no message."""
    yield Sleep(at_ms)
    publish(partition, "junk", JUNK[at_ms % len(JUNK)])


def look_on(plan: Plan) -> Session:
    """Read what is there, in every way, and wait for the end at last."""
    yield Sleep(plan.start_ms)
    name = plan.instance_id
    queries: Iterator[tuple[str, Query]] = iter(
        (
            (name, Query(QueryKind.GET)),
            ("", Query(QueryKind.LIST, b'{"status":["RUNNING","PENDING"],"limit":3}')),
            (name, Query(QueryKind.HISTORY)),
            ("", Query(QueryKind.BARRIER)),
            ("", Query(QueryKind.LIST, b'{"prefix":"p","limit":5}')),
            (name, Query(QueryKind.GET)),
        )
    )
    for asked, query in queries:
        yield Sleep(150 + plan.trouble_ms % 400)
        yield Ask(asked, query, patience_ms=4_000, partition=0 if not asked else None)


def look_at_all(partitions: Iterable[int], names: Iterable[str]) -> Session:
    """Every kind of read, until it is answered: of each partition, and of some instances."""
    for number in partitions:
        for query in (Query(QueryKind.BARRIER), Query(QueryKind.LIST, b'{"limit":50}'), Query(QueryKind.PARTITION)):
            yield from insist(Ask("", query, partition=number))
    for name in names:
        for query in (Query(QueryKind.GET), Query(QueryKind.HISTORY)):
            yield from insist(Ask(name, query))
