"""take_turn: one instance takes some messages and decides. The whole of what an owner makes durable is in the Turn it returns.

Rules of this file: pure but for the author's code, which only the executor runs; facts come first in a turn and decisions
after them; `apply_turn` over the events of a Turn gives the state in it (I4); what a turn sends follows from its events.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perdure.schemas import events as ev
from perdure.schemas.events import Failure, HistoryEvent, Status
from perdure.schemas.messages import Inbound

from .accept import Intake, execution_id_at
from .executor import ContinueAsNew, Executor, InstanceHeld
from .instance import Draft, InstanceState
from .limits import HISTORY_LIMIT_EXCEEDED, Limits
from .outgoing import Answer, Outgoing, sends_of, tell_parent


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a turn: partition time, the offset that its record will have, and where live code comes from.

    `code` is called only when the turn decides; it may raise InstanceHeld. `may_decide` false: take facts only (R8, R10).
    """

    now_ms: int
    offset: int
    code: Callable[[str, ev.ExecutionStarted], Executor]
    limits: Limits
    may_decide: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn's result; nothing of it is durable yet. `state` is None where there is no instance (any more).

    `taken` messages of the inbox are in it: a purge ends its turn, and what came after it is for the next one.
    `unroutable` messages go to the dead letters with their reasons; `dropped` counts results of attempts that are not
    pending; `watchers` asked to be told the end.
    """

    state: InstanceState | None
    taken: int
    events: tuple[HistoryEvent, ...] = ()
    decided: bool = False
    sends: tuple[Outgoing, ...] = ()
    answers: tuple[Answer, ...] = ()
    unroutable: tuple[tuple[Inbound, str], ...] = ()
    watchers: tuple[Inbound, ...] = ()
    dropped: int = 0
    held: InstanceHeld | None = None
    forgotten: bool = False

    @property
    def empty(self) -> bool:
        """True if the instance is unchanged: its messages are consumed by a partition record (R8)."""
        return not self.events and not self.decided and not self.forgotten


def take_turn(instance_id: str, state: InstanceState | None, inbox: Sequence[Inbound], setting: Setting) -> Turn:
    """Turn `inbox` into facts, let the code decide if it may, and say what follows.

    Raises nothing of the author's: an exception fails the instance, InstanceHeld comes back in `held` with the facts kept.
    """
    intake = Intake(instance_id, state, setting.now_ms, setting.offset, setting.limits)
    taken = 0
    for message in inbox:
        if intake.forgotten:
            break
        intake.accept(message)
        taken += 1
    decided, held = False, None
    decisions: tuple[HistoryEvent, ...] = ()
    draft = intake.draft
    if draft is not None and setting.may_decide and not intake.replaced and may_decide(draft, setting.now_ms):
        try:
            decisions = _decide(instance_id, draft, intake.sends, setting)
            decided = True
        except InstanceHeld as refusal:
            held = refusal
    events = (*intake.events, *decisions)
    after = state if draft is None or not (events or decided) else draft.freeze()
    return Turn(
        None if intake.forgotten else after,
        taken,
        events,
        decided,
        tuple(intake.sends),
        tuple(intake.answers),
        tuple(intake.unroutable),
        tuple(intake.watchers),
        intake.dropped,
        held,
        intake.forgotten,
    )


def may_decide(state: InstanceState | Draft, now_ms: int) -> bool:
    """True if there is something that the code has not seen and may see now."""
    return (
        len(state.undelivered) > 0
        and not state.suspended
        and not state.status.terminal
        and state.started.start_at_ms <= now_ms
    )


def _decide(instance_id: str, draft: Draft, sends: list[Outgoing], setting: Setting) -> tuple[HistoryEvent, ...]:
    """Deliver all that is undelivered; apply and return the decisions. Leaves `draft` as it was if the instance is held."""
    limit = setting.limits.history_events_max
    if draft.events_count >= limit:
        decisions: tuple[HistoryEvent, ...] = (_too_long(draft.events_count, limit),)
    else:
        decision = setting.code(instance_id, draft.started).decide(tuple(draft.undelivered), setting.now_ms)
        decisions = decision.events
        if decision.continued is not None:
            decisions = (*decisions, *_next_execution(draft, decisions, decision.continued, setting.offset))
    sends.extend(sends_of(draft, decisions))
    parent = draft.started.parent
    draft.take_delivery()
    for event in decisions:
        draft.apply(event)
    if draft.status.terminal:
        sends.extend(tell_parent(instance_id, parent, decisions[-1]))
    return decisions


def _next_execution(
    state: Draft, decisions: Sequence[HistoryEvent], continued: ContinueAsNew, offset: int
) -> list[HistoryEvent]:
    """What continue-as-new begins: the new start restates what the instance keeps; its custom status and the events that
    nobody took follow it."""
    old = state.started
    generation = old.generation + 1
    started = ev.ExecutionStarted(
        execution_id=execution_id_at(offset, generation),
        name=old.name,
        input=continued.input,
        created_at_ms=old.created_at_ms,
        generation=generation,
        parent=old.parent,
        tags=old.tags,
        flags=old.flags,
        requests=state.requests,
    )
    status = next(
        (event.value for event in reversed(decisions) if isinstance(event, ev.CustomStatusSet)), state.custom_status
    )
    shown = [ev.CustomStatusSet(status)] if status != ev.NULL else []
    return [started, *shown, *(ev.EventRaised(name, value) for name, value in continued.events)]


def _too_long(count: int, limit: int) -> ev.ExecutionCompleted:
    message = (
        f"the history has {count} events; at most {limit} are allowed. "
        "Use ctx.continue_as_new in long-running loops, or sub-orchestrations for wide fan-outs"
    )
    return ev.ExecutionCompleted(Status.FAILED, failure=Failure(HISTORY_LIMIT_EXCEEDED, message, retriable=False))
