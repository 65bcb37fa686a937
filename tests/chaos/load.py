"""The load: the simulator's generated programs, started and pestered by real clients whose every call is recorded.

Rules of this file: a client knows of a call what it was told, and nothing when it was told nothing; what it asked it asks again,
with the same id, until it knows.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any

from perdure.client.requests import ListRequest, StartRequest
from perdure.client.transport import Transport
from perdure.errors import HubError, InstanceFinished, InstanceNotFound, NoAnswer, RequestRefused
from perdure.schemas.messages import Body, Query, QueryKind, ReplyCode, Start
from tests.checkers.evidence import Call, Outcome
from tests.simulation.clients import Ask, Session, Sleep, carry_out, send_events, shout, wait_for_end
from tests.simulation.clock import START_MS
from tests.simulation.generate import Programs, with_landmarks
from tests.simulation.plans import ENDLESS, Job, Plan, Step, Trouble, job_of

Act = Callable[[], Awaitable[None]]
PAUSE_SECONDS = 0.3
WATCH_EVERY_SECONDS = 0.7
_CODES = {InstanceNotFound: ReplyCode.NOT_FOUND, InstanceFinished: ReplyCode.ALREADY_FINISHED}


def make_plans(seed: int, batch: int, instances: int, span_ms: int, without: Sequence[Trouble] = ()) -> list[Plan]:
    """The plans of one batch, with names that no other batch has. The one that waits for ever comes with the first."""
    dice = Random(f"{seed}/{batch}")
    programs = Programs(dice)
    plans = [programs.plan(number, span_ms) for number in range(instances)]
    plans = [replace(plan, trouble=Trouble.NONE) if plan.trouble in without else plan for plan in plans]
    endless = [Plan(ENDLESS, job_of(), 0)] if instances and not batch else []
    found = with_landmarks([*plans, *endless])
    return [*(_of_batch(plan, batch) for plan in found if not plan.is_endless), *(found[-1:] if endless else ())]


def _of_batch(plan: Plan, batch: int) -> Plan:
    """The same plan under a name of its batch; what it calls by name is renamed likewise."""
    return replace(plan, instance_id=f"{plan.instance_id}.{batch}", job=_job_of_batch(plan.job, batch))


def _job_of_batch(job: Job, batch: int) -> Job:
    return {**job, "rounds": [[_step_of_batch(step, batch) for step in steps] for steps in job["rounds"]]}


def _step_of_batch(step: Step, batch: int) -> Step:
    match step:
        case ["send", box, *rest]:
            return ["send", f"{box}.{batch}", *rest]
        case ["child", job, name, attempts]:
            return ["child", _job_of_batch(job, batch), f"{name}.{batch}" if name else "", attempts]
        case ["all", steps]:
            return ["all", [_step_of_batch(each, batch) for each in steps]]
        case ["any", steps, rest]:
            return ["any", [_step_of_batch(each, batch) for each in steps], rest]
        case ["drop", dropped, ms]:
            return ["drop", _step_of_batch(dropped, batch), ms]
        case _:
            return step


def sleepers(number: int, ms: int) -> list[Plan]:
    """Instances that outlive a short retention."""
    return [
        Plan(f"sleeper{each}.0", job_of([["call", 1 + each], ["sleep", ms], ["call", 1 + each]]), 0)
        for each in range(number)
    ]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Whom clients ask and where they leave what they know. `publish` puts a plain message on an inbox, as any producer would."""

    transport: Transport
    calls: list[Call]
    publish: Callable[[int, str, bytes], None]
    partition_count: int


class Load:
    """Clients that carry out plans, side by side on one asyncio loop."""

    def __init__(self, crowd: Crowd) -> None:
        self.plans: list[Plan] = []
        self._crowd = crowd
        self._began_ms = time.time_ns() // 1_000_000
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    @property
    def busy(self) -> int:
        """Clients that have not said all."""
        return len(self._tasks)

    async def begin(self, plans: Sequence[Plan]) -> None:
        """Let clients begin; returns when the landmarks are there."""
        self.plans += plans
        self._began_ms = time.time_ns() // 1_000_000
        first = [self._spawn(f"starter-{plan.instance_id}", carry_out(plan)) for plan in plans if plan.is_landmark]
        await asyncio.gather(*first)
        for plan in plans:
            if not plan.is_landmark:
                self._carry_out(plan)

    def _carry_out(self, plan: Plan) -> None:
        name = plan.instance_id
        if plan.trouble is Trouble.STRANGER:
            number = sum(name.encode()) % self._crowd.partition_count
            self._spawn(f"stranger-{name}", shout(plan, self._crowd.publish, number))
        else:
            self._spawn(f"owner-{name}", carry_out(plan))
        if plan.raised:
            self._spawn(f"sender-{name}", send_events(plan))
        if plan.watched:
            self._spawn(f"watcher-{name}", _look_on(plan))

    def ask(self, client: str, session: Session) -> asyncio.Task[None]:
        """Let one more client begin."""
        return self._spawn(client, session)

    def _spawn(self, client: str, session: Session) -> asyncio.Task[None]:
        task = asyncio.create_task(_Client(client, self._crowd, self._began_ms).run(session))
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def check(self) -> None:
        """Raise what went wrong in a client itself."""
        if self._failures:
            raise self._failures[0]

    async def drained(self, seconds: float) -> bool:
        """Wait until every client has said all."""
        deadline = time.monotonic() + seconds
        while self._tasks and time.monotonic() < deadline:
            await asyncio.wait(set(self._tasks), timeout=1)
        self.check()
        return not self._tasks

    async def unfinished(self) -> list[str] | None:
        """Instances that have not ended and should, a few of them; None where not all partitions answer."""
        arguments = {"status": ["PENDING", "RUNNING", "SUSPENDED"]}
        try:
            page = await self._crowd.transport.list(ListRequest(arguments, 20), 5)
        except (NoAnswer, HubError):
            return None
        names = [view["instance_id"] for view in page["instances"]]
        return None if page["silent"] else [name for name in names if name != ENDLESS]

    async def left_over(self, seconds: float, quiet: Act, meanwhile: Act) -> list[str] | None:
        """Wait until nothing is unfinished, and nothing that is on its way begins anything; what is left after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            left = await self.unfinished()
            if left == []:
                await quiet()
                left = await self.unfinished()
            if left == [] or time.monotonic() > deadline:
                return left
            await meanwhile()
            await asyncio.sleep(0.2)

    async def held(self) -> list[str]:
        try:
            page = await self._crowd.transport.list(ListRequest({"held": True}, 20), 5)
        except (NoAnswer, HubError):
            return []
        return [view["instance_id"] for view in page["instances"]]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


class _Client:
    """Runs one session on a transport."""

    def __init__(self, name: str, crowd: Crowd, began_ms: int) -> None:
        self._name = name
        self._crowd = crowd
        self._shift_ms = began_ms - START_MS
        self._numbers = count(1)

    async def run(self, session: Session) -> None:
        call: Call | None = None
        while True:
            try:
                wanted = session.send(call) if call is not None else next(session)
            except StopIteration:
                return
            call = None
            if isinstance(wanted, Sleep):
                await asyncio.sleep(wanted.ms / 1000)
            else:
                call = await self._ask(wanted)
                if call.outcome is Outcome.INFO:
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, ask: Ask) -> Call:
        body = ask.body
        if isinstance(body, Start) and body.start_at_ms:
            body = replace(body, start_at_ms=body.start_at_ms + self._shift_ms)
        request_id = ask.request_id or f"{self._name}/{next(self._numbers)}"
        call = Call(self._name, type(body).__name__, ask.instance_id, request_id, _now_ms(), 1)
        self._crowd.calls.append(call)
        try:
            answer = await self._send(ask.instance_id, body, request_id, ask.patience_ms / 1000)
        except (NoAnswer, HubError):
            return call
        except RequestRefused as error:
            call.outcome, call.code = Outcome.FAIL, _CODES.get(type(error), ReplyCode.REFUSED)
        else:
            if answer is None:
                return call
            call.outcome, call.code, call.answer = Outcome.OK, ReplyCode.OK, answer
        call.completed_ms = _now_ms()
        return call

    async def _send(self, instance_id: str, body: Body, request_id: str, seconds: float) -> Any:
        transport = self._crowd.transport
        if isinstance(body, Start):
            started, _ = await transport.start(StartRequest(instance_id, request_id, body), seconds)
            return {"created": started.created}
        if not isinstance(body, Query):
            await transport.change(instance_id, body, request_id, seconds)  # type: ignore[arg-type]
            return {}
        return await _READS[body.query](transport, instance_id, seconds)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_READS: dict[QueryKind, Callable[[Transport, str, float], Coroutine[Any, Any, Any]]] = {
    QueryKind.GET: lambda transport, name, seconds: transport.get(name, seconds),
    QueryKind.HISTORY: lambda transport, name, seconds: transport.history(name, seconds),
    QueryKind.WAIT: lambda transport, name, seconds: transport.wait(name, seconds, None),
    QueryKind.LIST: lambda transport, name, seconds: transport.list(ListRequest({"prefix": name}, 5), seconds),
}


def _look_on(plan: Plan) -> Iterator[Any]:
    """Read what is there, in every way, and wait for the end at last."""
    yield Sleep(plan.start_ms)
    for kind in (QueryKind.GET, QueryKind.LIST, QueryKind.HISTORY, QueryKind.GET):
        yield Sleep(int(WATCH_EVERY_SECONDS * 1000))
        yield Ask(plan.instance_id, Query(kind), patience_ms=4_000)
    yield from wait_for_end(plan.instance_id)
