"""Random orchestrations that use every feature, and their lives: what a program is, what runs it, and what happens to it.

A program is a list of steps, so that it can be the input of an orchestration; what a step does depends on all that came before it.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import orjson

from perdure import App, OrchestrationContext, RetryPolicy, when_all, when_any
from perdure.actors.coroutine import CoroutineExecutor
from perdure.actors.executor import ContinueAsNew, RecordedTurn
from perdure.actors.instance import InstanceState
from perdure.actors.limits import Limits
from perdure.actors.setting import Setting
from perdure.actors.turn import Turn, take_turn
from perdure.partitions.instances import execution_part
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import HistoryEvent
from tests.actors.lives import NAME, Life

Steps = Generator[Any, Any, Any]
RETRIES = (None, RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3))
EVENTS = ("go", "Go", "stop")


@dataclass
class Interpreter:
    """One run of a program."""

    ctx: OrchestrationContext
    log: list[Any] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)

    def number(self) -> int:
        """What all that happened comes to: other results lead to other decisions."""
        return sum(orjson.dumps(self.log))

    def run(self, steps: list[list[Any]]) -> Steps:
        for name, *arguments in steps:
            yield from getattr(self, f"do_{name}")(*arguments)
            if self.log and self.log[-1] == "over":
                return

    def do_start(self, kind: str) -> Steps:
        """Begin something, and wait for nothing."""
        ctx, number = self.ctx, self.number()
        if kind == "activity":
            task: Any = ctx.call_activity("act", number, retry_policy=RETRIES[number % 2])
        elif kind == "child":
            task = ctx.call_sub_orchestrator("program", number, instance_id=f"{NAME}:{number}" if number % 3 else None)
        elif kind == "timer":
            task = ctx.create_timer(timedelta(milliseconds=number % 2_000))
        elif kind == "wait":
            task = ctx.wait_for_external_event(EVENTS[number % 3])
        else:
            task = ctx.wait_for_external_event(EVENTS[number % 3], timeout=timedelta(milliseconds=number % 1_000))
        self.tasks.append(task)
        yield from ()

    def do_await(self, which: int) -> Steps:
        if self.tasks:
            self.log.append((yield self.tasks.pop(which % len(self.tasks))))

    def do_any(self) -> Steps:
        if self.tasks:
            won = yield when_any(self.tasks)
            self.tasks.remove(won)
            self.log.append([won.is_failed, None if won.is_failed else won.get_result()])

    def do_all(self) -> Steps:
        self.log.append((yield when_all(self.tasks)))

    def do_look(self) -> Steps:
        self.log.append([task.is_complete for task in self.tasks])
        yield from ()

    def do_cancel(self, which: int) -> Steps:
        if self.tasks:
            self.log.append(self.tasks[which % len(self.tasks)].cancel())
        yield from ()

    def do_decide(self, what: str) -> Steps:
        ctx = self.ctx
        if what == "status":
            ctx.set_custom_status(self.number())
        elif what == "send":
            ctx.send_event("other", "go", data=self.number())
        elif what == "patched":
            self.log.append(ctx.patched(f"p{self.number() % 3}"))
        elif what == "uuid":
            self.log.append(ctx.new_uuid())
        else:
            self.log.append([ctx.current_utc_datetime.isoformat(), ctx.instance_id, ctx.execution_id])
        yield from ()

    def do_branch(self, one: list[Any], other: list[Any]) -> Steps:
        yield from self.run(one if self.number() % 2 else other)

    def do_guarded(self, steps: list[Any]) -> Steps:
        try:
            yield from self.run(steps)
        except Exception as error:  # noqa: BLE001 - whatever it is, the program goes on
            self.log.append([type(error).__name__, str(error)])

    def do_compensated(self, steps: list[Any]) -> Steps:
        try:
            yield from self.run(steps)
        finally:
            self.log.append((yield self.ctx.call_activity("act", "undo")))

    def do_raise(self) -> Steps:
        raise ValueError(f"at {self.number()}")
        yield

    def do_continue(self, steps: list[Any]) -> Steps:
        self.ctx.continue_as_new(steps, save_events=self.number() % 4 > 0)
        self.log.append("over")
        yield from ()


app = App()


@app.orchestration
def generator(ctx: OrchestrationContext, steps: list[Any]) -> Steps:
    run = Interpreter(ctx)
    yield from run.run(steps)
    return run.log


@app.orchestration
async def coroutine(ctx: OrchestrationContext, steps: list[Any]) -> list[Any]:
    """The same, by awaiting what the generator yields."""
    run = Interpreter(ctx)
    running = run.run(steps)
    act: Any = lambda: next(running)  # noqa: E731
    while True:
        try:
            task = act()
        except StopIteration:
            return run.log
        try:
            value = await task
            act = lambda value=value: running.send(value)  # noqa: E731
        except BaseException as error:  # noqa: BLE001 - it is for the program
            act = lambda error=error: running.throw(error)  # noqa: E731


def make_program(dice: Random, depth: int = 3) -> list[Any]:
    return [make_step(dice, depth) for _ in range(dice.randint(1, 6))]


def make_step(dice: Random, depth: int) -> list[Any]:
    simple = (
        ["start", dice.choice(("activity", "activity", "child", "timer", "wait", "timed"))],
        ["start", dice.choice(("activity", "wait"))],
        ["await", dice.randint(0, 9)],
        ["await", dice.randint(0, 9)],
        ["any"],
        ["all"],
        ["look"],
        ["cancel", dice.randint(0, 9)],
        ["decide", dice.choice(("status", "send", "patched", "uuid", "time"))],
    )
    if not depth or dice.random() < 0.7:
        return list(dice.choice(simple))
    inner = [make_program(dice, depth - 1) for _ in range(2)]
    return list(
        dice.choice(
            (
                ["branch", *inner],
                ["guarded", inner[0]],
                ["guarded", inner[1]],
                ["compensated", inner[0]],
                ["continue", inner[0]],
                ["raise"],
            )
        )
    )


def bookkeeping(executor: CoroutineExecutor) -> tuple[Any, ...]:
    """All that an execution remembers of what its code asked for."""
    execution = executor.execution
    return (
        execution.last_task_id,
        sorted(execution.pending),
        {name: len(tasks) for name, tasks in execution.waiting.items() if tasks},
        {name: list(arrivals) for name, arrivals in execution.arrived.items() if arrivals},
        sorted(execution.delivered),
        (execution.waits, execution.uuids, execution.arrivals, dict(execution.patches)),
        (execution.continuation, execution.cancel_asked, execution.cancel_missed),
    )


@dataclass(frozen=True)
class Decided:
    """One decided turn of an execution: the turns before it, what it delivered, and what came of it. `recorded` is its part of the
    history."""

    started: ev.ExecutionStarted
    before: tuple[RecordedTurn, ...]
    recorded: RecordedTurn
    delivered: tuple[HistoryEvent, ...]
    now_ms: int
    decisions: tuple[HistoryEvent, ...]
    continued: ContinueAsNew | None
    bookkeeping: tuple[Any, ...]


@dataclass
class ProgramLife(Life):
    """A program's life. Its live code is let go now and then, and rebuilt from what was recorded."""

    executor: CoroutineExecutor | None = None
    recorded: list[RecordedTurn] = field(default_factory=list)
    turns: list[tuple[int, Turn]] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.start = ms.Start(self.dice.choice(("generator", "coroutine")), orjson.dumps(make_program(self.dice)))

    def request(self) -> ms.Body:
        body = super().request()
        return replace(body, name=self.start.name, input=self.start.input) if isinstance(body, ms.Start) else body

    def live_code(self, started: ev.ExecutionStarted) -> CoroutineExecutor:
        if self.executor is None or self.executor.execution.identity.execution_id != started.execution_id:
            self.executor = app.executor(self.name, started)
            self.executor.replay(self.recorded)
        return self.executor

    def let_go(self) -> None:
        if self.executor is not None:
            self.executor.close()
            self.executor = None

    def take(self) -> None:
        """Take one turn, and note what it decided."""
        dice = self.dice
        self.now_ms += dice.choice((0, 1, 1_000, 100_000))
        self.offset += dice.randint(1, 3)
        inbox = [self.message() for _ in range(dice.randint(0, 4))]
        if dice.random() < 0.2:
            self.let_go()
        captured: list[tuple[Any, ...]] = []
        setting = Setting(
            self.now_ms,
            self.offset,
            lambda _, started: Noted(self.live_code(started), captured),  # type: ignore[arg-type, return-value]
            Limits(),
            dice.random() < 0.8,
        )
        turn = take_turn(self.name, self.state, inbox, setting)
        assert turn.held is None, turn.held
        self._note(turn, captured)

    def _note(self, turn: Turn, captured: list[tuple[Any, ...]]) -> None:
        before, self.state = self.state, turn.state
        if turn.forgotten:
            self._forget(None)
            return
        self.turns.append((self.now_ms, turn))
        for delivered, decision, kept in captured:
            started = next((event for event in delivered if isinstance(event, ev.ExecutionStarted)), None)
            began = started or (before.started if before is not None else None)
            assert isinstance(began, ev.ExecutionStarted)
            # What follows the end belongs to the next execution.
            cuts = [at for at, event in enumerate(turn.events) if at and isinstance(event, ev.ExecutionStarted)]
            part = RecordedTurn(self.now_ms, decided=True, events=turn.events[: cuts[0] if cuts else None])
            before_it, came = tuple(self.recorded), (decision.events, decision.continued, kept)
            self.decided.append(Decided(began, before_it, part, delivered, self.now_ms, *came))
        if turn.empty:
            return
        decided, events = execution_part(turn.decided, turn.events)
        if events and isinstance(events[0], ev.ExecutionStarted):
            self._forget(turn.state)
        self.recorded.append(RecordedTurn(self.now_ms, decided, events))

    def _forget(self, state: InstanceState | None) -> None:
        """Another execution begins, or none."""
        self.recorded.clear()
        if (
            state is None
            or self.executor is None
            or self.executor.execution.identity.execution_id != state.execution_id
        ):
            self.let_go()


class Noted:
    """Live code, and what it was asked and said."""

    def __init__(self, executor: CoroutineExecutor, captured: list[tuple[Any, ...]]) -> None:
        self._executor = executor
        self._captured = captured

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Any:
        decision = self._executor.decide(events, now_ms)
        self._captured.append((events, decision, bookkeeping(self._executor)))
        return decision
