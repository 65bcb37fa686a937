"""CoroutineExecutor: runs an orchestration's code in this process, by `.send()`, without an event loop.

Rules of this file: events are delivered one by one, in history's order, and after each the code runs as far as it can; so a
delivery of many events equals as many deliveries. What a replay decides is compared with what history says, turn by turn.
"""

from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context
from inspect import isawaitable
from typing import Any, NoReturn, cast

from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, Failure, HistoryEvent, Status

from .comparison import DECISIONS, find_divergence
from .context import OrchestrationContext
from .errors import ForeignAwait, OrchestrationCanceled, TurnInterrupted, ValueRefused
from .execution import Execution, ExecutionSettings, Identity
from .executor import ContinueAsNew, Decision, InstanceHeld, RecordedTurn, turn_too_long, unknown_event
from .failures import failure_of
from .flags import unknown_flags
from .guard import LoopGuard, describe_foreign, describe_raised, get_loop, raised_by_loop, set_loop
from .limits import HISTORY_LIMIT_EXCEEDED
from .orchestration import Orchestration
from .tasks import Task

_CLOSE_ATTEMPTS = 100
_DEFAULT_SETTINGS = ExecutionSettings()


class CoroutineExecutor:
    """One execution's code, live (`actors.executor.Executor`)."""

    __slots__ = (
        "_awaited",
        "_before_cancel",
        "_code",
        "_context",
        "_continues",
        "_ended",
        "_guard",
        "_is_generator",
        "_settings",
        "_turns",
        "_variables",
        "definition",
        "execution",
    )

    def __init__(
        self, definition: Orchestration[Any, Any], identity: Identity, settings: ExecutionSettings = _DEFAULT_SETTINGS
    ) -> None:
        self.definition = definition
        self.execution = Execution(identity, settings)
        self._settings = settings
        self._context = OrchestrationContext(self.execution, definition)
        self._guard = LoopGuard()
        # Context variables that the code sets (decimal's precision is one) are its own, and no other instance's.
        self._variables = Context()
        self._code: Any = None
        self._is_generator = False
        self._awaited: Task[Any] | None = None
        self._ended = False
        self._continues = False
        self._turns = 0
        self._before_cancel = 0

    def replay(self, turns: Iterable[RecordedTurn]) -> ContinueAsNew | None:
        """Bring new code to where history is, comparing each decision with it; return what it continued as new with, if the
        last turn did so. Raises InstanceHeld."""
        execution = self.execution
        execution.replaying = True
        facts: list[HistoryEvent] = []
        for turn in turns:
            decisions = _sort(turn.events, facts)
            if not turn.decided:
                continue
            if decisions and _is_engines(decisions[-1]):
                self._end()
                break
            execution.markers = frozenset(event.patch_id for event in decisions if isinstance(event, ev.PatchMarked))
            decided = self._deliver(facts, turn.time_ms)
            divergence = find_divergence(decisions, decided, strict=self._settings.strict)
            if divergence is not None:
                self._hold(f"turn {self._turns}, {divergence}. {_ADVICE}", "nondeterminism")
            facts.clear()
        execution.replaying = False
        execution.markers = frozenset()
        return execution.continued() if self._continues else None

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Decision:
        """Deliver `events` (facts only) and run until the code waits or ends. Raises InstanceHeld."""
        self._before_cancel = 0
        decided = tuple(self._deliver(events, now_ms))
        continued = self.execution.continued() if self._continues else None
        return Decision(decided, continued, self._before_cancel)

    def close(self) -> None:
        """Let the code go; nothing that it does on its way out is recorded."""
        self._end()

    def awaited_events(self) -> list[str]:
        """Names of the external events that the code waits for now."""
        return [task.name for tasks in self.execution.waiting.values() for task in tasks if not task.done]

    def _deliver(self, events: Iterable[HistoryEvent], now_ms: int) -> list[HistoryEvent]:
        execution = self.execution
        decisions: list[HistoryEvent] = []
        execution.decisions, execution.decided_bytes, execution.now_ms = decisions, 0, now_ms
        self._turns += 1
        loop = get_loop()
        execution.running = True
        try:
            for event in events:
                take = _TAKE.get(type(event))
                if take is not None:
                    take(self, event)
                awaited = self._awaited
                if awaited is not None and awaited.done:
                    self._run(awaited)
        finally:
            execution.running = False
            if get_loop() is not loop:  # a turn is interrupted anywhere, also where `_run` puts the loop back
                set_loop(loop)
        return decisions

    def _run(self, awaited: Task[Any] | None, thrown: BaseException | None = None) -> None:
        """Run the code until it waits for something that is not complete, or ends."""
        self._awaited = None
        previous = get_loop()
        set_loop(self._guard)
        try:
            found = self._resume(awaited) if thrown is None else self._variables.run(self._code.throw, thrown)
            while self._is_ours(found) and found.done:
                found = self._resume(found)
            self._awaited = found
        except StopIteration as stop:
            self._return(stop.value)
        except BaseException as error:  # noqa: BLE001 - the author's code may raise anything
            self._raise(error)
        finally:
            set_loop(previous)
        self._check_guard()

    def _check_guard(self) -> None:
        """Hold for what was asked of asyncio's loop, also where the code swallowed the refusal."""
        if self._guard.caught is not None:
            self._hold(str(self._guard.caught), "foreign-await")

    def _resume(self, awaited: Task[Any] | None) -> Any:
        """Go on with what was awaited. A coroutine takes the result from the task itself."""
        if awaited is None or not self._is_generator:
            return self._variables.run(self._code.send, None)
        try:
            result = awaited.get_result()
        except BaseException as error:  # noqa: BLE001 - it is the task's, and belongs to the code
            return self._variables.run(self._code.throw, error)
        return self._variables.run(self._code.send, result)

    def _is_ours(self, found: object) -> bool:
        if not isinstance(found, Task) or (found.owner is not self.execution and found.owner is not None):
            self._hold(describe_foreign(found), "foreign-await")
        return True

    def _return(self, value: Any) -> None:
        execution = self.execution
        if execution.continuation is not None:
            self._complete(ev.ExecutionCompleted(Status.CONTINUED_AS_NEW))
            return
        try:
            if isawaitable(value):
                raise ValueRefused(
                    f"{self.definition.label} returned {value!r:.120}, which it did not await: return await ..."
                )
            result = self.definition.result_codec.encode(value)
            execution.check_payload(f"{self.definition.label}, result", result)
        except Exception as refusal:  # noqa: BLE001 - the author's value may do anything when it is looked at
            refusal.__suppress_context__ = True  # that the code ended (StopIteration) is not what went wrong
            self._complete(ev.ExecutionCompleted(Status.FAILED, failure=failure_of(refusal)))
        else:
            self._complete(ev.ExecutionCompleted(Status.COMPLETED, result))

    def _raise(self, error: BaseException) -> None:
        if isinstance(error, InstanceHeld | KeyboardInterrupt):
            raise error
        if isinstance(error, ForeignAwait) or raised_by_loop(error):
            self._hold(str(error) if isinstance(error, ForeignAwait) else describe_raised(error), "foreign-await")
        if isinstance(error, TurnInterrupted):
            raise turn_too_long(self.execution.limits.turn_seconds_max)
        if isinstance(error, OrchestrationCanceled):
            failure = Failure("OrchestrationCanceled", failure_of(error).message, retriable=False)
            self._complete(ev.ExecutionCompleted(Status.CANCELED, failure=failure))
        else:
            self._complete(ev.ExecutionCompleted(Status.FAILED, failure=failure_of(error)))

    def _complete(self, completed: ev.ExecutionCompleted) -> None:
        self._ended = self.execution.ended = True
        self._continues = completed.status == Status.CONTINUED_AS_NEW
        self._code = self._awaited = None
        self.execution.decisions.append(completed)

    def _hold(self, reason: str, kind: str) -> NoReturn:
        raise InstanceHeld(reason, kind=kind)

    def _end(self) -> None:
        self._ended = True
        self._awaited = None
        held, self._code = [self._code], None
        if held[0] is not None:
            self.execution.closed = True
            _close(held, self._guard, self._variables)

    def _take_started(self, event: ev.ExecutionStarted) -> None:
        assert self._code is None
        assert not self._ended
        flags = unknown_flags(self.execution.identity.flags)
        if flags:
            self._hold(
                f"it was started by a newer build, with engine flags {flags} that this one does not know",
                "unknown-flag",
            )
        try:
            arguments = self.definition.arguments(self._context, event.input)
        except ValueRefused as refusal:
            self._complete(ev.ExecutionCompleted(Status.FAILED, failure=failure_of(refusal)))
            return
        previous = get_loop()
        set_loop(self._guard)
        try:
            code = self._variables.run(self.definition.function, *arguments)
        except BaseException as error:  # noqa: BLE001 - a plain function runs here, whole
            self._raise(error)
            return
        finally:
            set_loop(previous)
        if isinstance(code, Coroutine | Generator):
            self._code = code
            self._is_generator = not isinstance(code, Coroutine)
            self._run(None)
            return
        self._check_guard()
        self._return(code)

    def _take_task_completed(self, event: ev.TaskCompleted | ev.SubOrchestrationInstanceCompleted) -> None:
        self.execution.complete(event.task_id, event.result)

    def _take_task_failed(self, event: ev.TaskFailed | ev.SubOrchestrationInstanceFailed) -> None:
        if event.retry_at_ms == NEVER:
            self.execution.fail(event.task_id, event.failure)

    def _take_timer_fired(self, event: ev.TimerFired) -> None:
        self.execution.fire(event.task_id)

    def _take_event_raised(self, event: ev.EventRaised) -> None:
        self.execution.arrive(event.name, event.input)

    def _take_cancel_requested(self, event: ev.ExecutionCancelRequested) -> None:
        execution = self.execution
        if self._code is None:
            execution.cancel_missed = event.reason if execution.cancel_missed is None else execution.cancel_missed
        elif not execution.cancel_asked:
            # Once: a second request must not interrupt the compensation that the first one set going.
            execution.cancel_asked = True
            self._before_cancel = len(execution.decisions)
            self._run(None, OrchestrationCanceled(event.reason))

    def _take_unknown(self, event: ev.UnknownEvent) -> None:
        raise unknown_event(event.kind)


_ADVICE = "The code changed under a running instance, or it is not deterministic: let ctx.patched(...) guard a change, and take time, chance and I/O from ctx and activities"

_TAKE = cast(
    "dict[type[HistoryEvent], Callable[[CoroutineExecutor, Any], None]]",
    {
        ev.ExecutionStarted: CoroutineExecutor._take_started,
        ev.TaskCompleted: CoroutineExecutor._take_task_completed,
        ev.SubOrchestrationInstanceCompleted: CoroutineExecutor._take_task_completed,
        ev.TaskFailed: CoroutineExecutor._take_task_failed,
        ev.SubOrchestrationInstanceFailed: CoroutineExecutor._take_task_failed,
        ev.TimerFired: CoroutineExecutor._take_timer_fired,
        ev.EventRaised: CoroutineExecutor._take_event_raised,
        ev.ExecutionCancelRequested: CoroutineExecutor._take_cancel_requested,
        ev.UnknownEvent: CoroutineExecutor._take_unknown,
    },
)


def _sort(events: Iterable[HistoryEvent], facts: list[HistoryEvent]) -> list[HistoryEvent]:
    """Put a turn's facts to `facts` and return its decisions. What follows the end belongs to the next execution."""
    decisions: list[HistoryEvent] = []
    for event in events:
        kind = type(event)
        if kind in _TAKE:
            facts.append(event)
        elif kind in DECISIONS:
            decisions.append(event)
            if kind is ev.ExecutionCompleted:
                break
    return decisions


def _is_engines(decision: HistoryEvent) -> bool:
    """True for an end that the engine decided, which no code decides again."""
    return (
        isinstance(decision, ev.ExecutionCompleted)
        and decision.failure is not None
        and decision.failure.type == HISTORY_LIMIT_EXCEEDED
    )


def _close(held: list[Any], guard: LoopGuard, variables: Context) -> None:
    """Close the code in `held`, which may try to go on: each await on its way out ends in GeneratorExit. Raises TurnInterrupted
    where it takes too long."""
    previous = get_loop()
    set_loop(guard)
    try:
        for _ in range(_CLOSE_ATTEMPTS):
            try:
                variables.run(held[0].close)
            except (KeyboardInterrupt, TurnInterrupted):
                raise
            except BaseException:  # noqa: BLE001, S110 - nobody is left to tell
                pass
            if getattr(held[0], "cr_frame", None) is None and getattr(held[0], "gi_frame", None) is None:
                break
    finally:
        held.clear()  # still under the guard: Python closes once more what would not be closed
        set_loop(previous)
