"""take_turn: one instance takes some messages and decides. The whole of what an owner makes durable is in the Turn it returns.

Rules of this file: pure but for the author's code, which only the executor runs; facts come first in a turn and decisions
after them; `apply_turn` over the events of a Turn gives the state in it (I4); what a turn sends follows from its events.
"""

from collections.abc import Sequence

from perdure.schemas import events as ev
from perdure.schemas.events import Failure, HistoryEvent, Status
from perdure.schemas.frozen import dataclass
from perdure.schemas.messages import Inbound, Purge

from .accept import Intake, execution_id_at
from .executor import ContinueAsNew, InstanceHeld
from .instance import Draft, InstanceState
from .limits import HISTORY_LIMIT_EXCEEDED
from .outgoing import Answer, Outgoing, cancel_child, sends_of, tell_parent
from .setting import Setting


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn's result; nothing of it is durable yet. `state` is None where there is no instance (any more).

    `taken` messages of the inbox are in it: a purge ends its turn, and what came after it is for the next one, as is
    a purge of what begins in it.
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
    intake = Intake(instance_id, state, setting)
    taken = 0
    for message in inbox:
        begun_now = state is None and intake.draft is not None
        if intake.forgotten or (begun_now and isinstance(message.body, Purge)):
            break  # what this turn begins is purged by the next one: only what the log has can be forgotten
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
    canceled: list[Outgoing] = []
    if draft.events_count >= limit:
        decisions: tuple[HistoryEvent, ...] = (_too_long(draft.events_count, limit),)
    else:
        delivered = tuple(draft.undelivered)
        decision = setting.code(instance_id, draft.started).decide(delivered, setting.now_ms)
        decisions = decision.events
        if decision.before_cancel:
            canceled = _cancel_new_children(draft, delivered, decisions[: decision.before_cancel])
        if decision.continued is not None:
            decisions = (*decisions, *_next_execution(draft, decisions, decision.continued, setting))
    sends.extend(sends_of(draft, decisions))
    sends.extend(canceled)
    parent = draft.started.parent
    draft.take_delivery()
    for event in decisions:
        draft.apply(event)
    if draft.status.terminal:
        sends.extend(tell_parent(instance_id, parent, decisions[-1]))
    return decisions


def _cancel_new_children(
    state: Draft, delivered: Sequence[HistoryEvent], decisions: Sequence[HistoryEvent]
) -> list[Outgoing]:
    """A cancel is told to the children that are there when it comes; these were made in the turn that delivers it, before it."""
    created = [event for event in decisions if isinstance(event, ev.SubOrchestrationInstanceCreated)]
    if not created:
        return []
    reason = next(event.reason for event in delivered if isinstance(event, ev.ExecutionCancelRequested))
    return [cancel_child(state, child, reason) for child in created]


def _next_execution(
    state: Draft, decisions: Sequence[HistoryEvent], continued: ContinueAsNew, setting: Setting
) -> list[HistoryEvent]:
    """What continue-as-new begins: the new start restates what the instance keeps; its custom status, the events that nobody
    took and a cancel that nobody saw follow it."""
    old = state.started
    generation = old.generation + 1
    started = ev.ExecutionStarted(
        execution_id=execution_id_at(setting.offset, generation),
        name=old.name,
        input=continued.input,
        created_at_ms=old.created_at_ms,
        generation=generation,
        parent=old.parent,
        tags=old.tags,
        flags=setting.flags,
        requests=state.requests,
    )
    status = next(
        (event.value for event in reversed(decisions) if isinstance(event, ev.CustomStatusSet)), state.custom_status
    )
    shown = [ev.CustomStatusSet(status)] if status != ev.NULL else []
    canceled = [ev.ExecutionCancelRequested(continued.canceled)] if continued.canceled is not None else []
    return [started, *shown, *(ev.EventRaised(name, value) for name, value in continued.events), *canceled]


def _too_long(count: int, limit: int) -> ev.ExecutionCompleted:
    message = (
        f"the history has {count} events; at most {limit} are allowed. "
        "Use ctx.continue_as_new in long-running loops, or sub-orchestrations for wide fan-outs"
    )
    return ev.ExecutionCompleted(Status.FAILED, failure=Failure(HISTORY_LIMIT_EXCEEDED, message, retriable=False))
