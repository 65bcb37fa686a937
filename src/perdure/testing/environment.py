"""Environment: an app in a test, with no server and no waiting.

It is the engine that workers run, on a log in memory. Virtual time stands still while there is anything to do and then skips to
the next timer, so a year of mornings takes a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, cast, overload
from uuid import UUID

import orjson
from typing_extensions import Unpack

from perdure.actors.activity import Activity
from perdure.actors.app import App
from perdure.actors.orchestration import Orchestration
from perdure.client.merging import merge_pages
from perdure.client.requests import (
    ListOptions,
    Started,
    StartOptions,
    checked_id,
    checked_reason,
    judge,
    judge_end,
    judge_purge,
    judge_start,
    make_event,
    make_list,
    make_start,
    make_terminate,
)
from perdure.client.views import Held, History, Instance, encode_json, history_of, instance_of
from perdure.errors import PerdureError, WaitTimeout
from perdure.schemas.messages import Body, Cancel, Purge, Query, QueryKind, Resume, Suspend

from .clock import VirtualClock
from .fakes import Fake
from .hub import TestHub
from .waits import describe_wait

I = TypeVar("I")  # noqa: E741 - input and output, as everywhere
O = TypeVar("O")  # noqa: E741
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = timedelta(days=36_525)


class Stuck(PerdureError, AssertionError):
    """An instance waits, and nothing that it could wait for is going to happen; the message says what each instance waits for."""

    code = "stuck"


class EnvironmentHandle(Generic[O]):
    """One instance of an environment."""

    def __init__(
        self, env: "Environment", instance_id: str, orchestration: Orchestration[Any, O] | None, started: Started | None
    ) -> None:
        self._env = env
        self._orchestration = orchestration
        self.id = instance_id
        self.started = started

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    def result(self, timeout: timedelta = PATIENCE) -> O:
        """Let time pass until it ends, and return what it returned. Raises NotCompleted or one of its kinds, Stuck, and WaitTimeout
        when `timeout` has passed in virtual time."""
        value = judge_end(self.wait(timeout))
        if self._orchestration is None:
            return cast("O", value)
        return cast("O", self._orchestration.result_codec.decode(encode_json(value)))

    def wait(self, timeout: timedelta = PATIENCE) -> Instance:
        """Let time pass until it ends, whatever its end. Raises as `result` does but for NotCompleted."""
        return self._env.wait(self.id, timeout)

    def get(self) -> Instance:
        """The instance now."""
        return instance_of(self._env.ask(self.id, Query(QueryKind.GET)))

    @property
    def held(self) -> Held | None:
        """Why it waits for other code or `resume`, if it does."""
        return self.get().held

    def history(self) -> History:
        """All its turns; `as_json()` is what `replay` reads."""
        turns: list[Any] = []
        following: int | None = 1
        view: dict[str, Any] = {}
        while following is not None:
            view = self._env.ask(self.id, Query(QueryKind.HISTORY, orjson.dumps({"from": following})))
            turns += view["turns"]
            following = view["next"]
        return history_of({"instance": view["instance"], "turns": turns})

    def raise_event(self, name: str, value: Any = None) -> None:
        """Raise an external event."""
        self._env.ask(self.id, make_event(name, value))

    def cancel(self, reason: str = "") -> None:
        """Ask it to stop."""
        self._env.ask(self.id, Cancel(checked_reason(reason)))

    def terminate(self, reason: str = "", *, recursive: bool = True) -> None:
        """End it without asking, and its children too; `reason` becomes its result."""
        self._env.ask(self.id, make_terminate(reason, recursive=recursive))

    def suspend(self, reason: str = "") -> None:
        self._env.ask(self.id, Suspend(checked_reason(reason)))

    def resume(self, reason: str = "") -> None:
        self._env.ask(self.id, Resume(checked_reason(reason)))

    def purge(self, *, force: bool = False) -> None:
        reply = self._env.hub.ask(self.id, Purge(force))
        judge_purge(reply.code, reply.body, self.id)


class Environment:
    """An app with everything that it needs to run. Made by `run`, or by the fixture `perdure_env`."""

    def __init__(self, app: App, hub: TestHub) -> None:
        self._app = app
        self.hub = hub
        self._made = 0

    @property
    def now(self) -> datetime:
        """Virtual time, UTC."""
        return self.hub.clock.now

    def fake(self, activity: Activity[Any, Any] | str, does: Any, *, takes: timedelta = timedelta()) -> Fake:
        """Let an activity be `does`: a function of the input (and of a context, if it takes one) that returns or raises, a value, or
        an exception to raise. It ends `takes` later in virtual time. The Fake that is returned has the inputs of all `calls`."""
        name = activity if isinstance(activity, str) else activity.name
        fake = self.hub.fakes[name] = Fake(name, does, takes // timedelta(milliseconds=1))
        return fake

    @overload
    def run(self, orchestration: Orchestration[None, O], input: None = None, **options: Unpack[StartOptions]) -> O: ...
    @overload
    def run(self, orchestration: Orchestration[I, O], input: I, **options: Unpack[StartOptions]) -> O: ...
    @overload
    def run(self, orchestration: str, input: Any = None, **options: Unpack[StartOptions]) -> Any: ...
    def run(
        self,
        orchestration: Orchestration[Any, Any] | str,
        input: Any = None,  # noqa: A002 - as the programming model calls it
        **options: Unpack[StartOptions],
    ) -> Any:
        """Start an instance and return its result."""
        return self._start(orchestration, input, options).result()

    @overload
    def start(
        self, orchestration: Orchestration[None, O], input: None = None, **options: Unpack[StartOptions]
    ) -> EnvironmentHandle[O]: ...
    @overload
    def start(
        self, orchestration: Orchestration[I, O], input: I, **options: Unpack[StartOptions]
    ) -> EnvironmentHandle[O]: ...
    @overload
    def start(
        self, orchestration: str, input: Any = None, **options: Unpack[StartOptions]
    ) -> EnvironmentHandle[Any]: ...
    def start(
        self,
        orchestration: Orchestration[Any, Any] | str,
        input: Any = None,  # noqa: A002 - as the programming model calls it
        **options: Unpack[StartOptions],
    ) -> EnvironmentHandle[Any]:
        """Start an instance and let it go as far as it comes without time passing. `options` are those of a client's `start`."""
        return self._start(orchestration, input, options)

    def _start(
        self, orchestration: Orchestration[Any, Any] | str, value: Any, options: StartOptions
    ) -> EnvironmentHandle[Any]:
        self._made += 1
        request = make_start(orchestration, value, options, str(UUID(int=self._made)))
        reply = self.hub.ask(request.instance_id, request.body)
        started = judge_start(reply.code, reply.body, request.instance_id)
        definition = None if isinstance(orchestration, str) else orchestration
        return EnvironmentHandle(self, request.instance_id, definition, started)

    def instance(self, instance_id: str) -> EnvironmentHandle[Any]:
        """The handle of an instance that is there already."""
        return EnvironmentHandle(self, checked_id(instance_id), None, None)

    def list(self, **options: Unpack[ListOptions]) -> list[Instance]:
        """The first page of instances that meet the conditions, newest first, as a client's `list` finds them."""
        request = make_list(options)
        query = Query(QueryKind.LIST, orjson.dumps(request.arguments | {"limit": min(request.limit, 1000)}))
        replies = [self.hub.ask("", query, partition) for partition in range(self.hub.partitions)]
        found, _ = merge_pages([judge(reply.code, reply.body, "") for reply in replies], request.limit)
        return [instance_of(view) for view in found]

    def advance(self, by: timedelta) -> None:
        """Let time pass, and all that is due in it happen."""
        self.hub.pass_until(self.hub.clock.wall_ms() + by // timedelta(milliseconds=1))

    def wait(self, instance_id: str, timeout: timedelta = PATIENCE) -> Instance:
        """Let time pass until an instance ends."""
        request_id = self.hub.publish(instance_id, Query(QueryKind.WAIT))
        until_ms = self.hub.clock.wall_ms() + timeout // timedelta(milliseconds=1)
        self.hub.settle()
        while (reply := self.hub.ended(request_id)) is None:
            due_ms = self.hub.next_due_ms()
            if due_ms is None:
                raise Stuck(self._describe_stuck(instance_id))
            if due_ms > until_ms:
                self.hub.pass_until(until_ms)
                raise WaitTimeout(f"instance {instance_id!r} has not ended by {self.now}, {timeout} later", instance_id)
            self.hub.pass_until(due_ms)
        return instance_of(judge(reply.code, reply.body, instance_id))

    def ask(self, instance_id: str, body: Body) -> dict[str, Any]:
        """Send a request; return the answer's body. Raises RequestRefused."""
        reply = self.hub.ask(instance_id, body)
        return judge(reply.code, reply.body, instance_id)

    def _describe_stuck(self, instance_id: str) -> str:
        """What everything that has not ended waits for."""
        unfinished = [each for each in self.list(limit=1000) if not each.status.terminal]
        waits = (describe_wait(self._app, self.instance(each.instance_id).history()) for each in unfinished)
        head = f"instance {instance_id!r} has not ended, and nothing is due: no activity runs and no timer waits"
        return "\n".join([head, *waits])

    def close(self) -> None:
        self.hub.close()


@contextmanager
def run(app: App, *, now: datetime = NEW_YEAR, replay: bool = True, partitions: int = 2) -> Iterator[Environment]:
    """Run `app` until the end of the `with`. Virtual time begins at `now`. `replay`: every turn is replayed from cold, so that code
    that is not deterministic shows."""
    hub = TestHub(app, VirtualClock(now), partitions, replay_always=replay)
    env = Environment(app, hub)
    try:
        yield env
    finally:
        env.close()
