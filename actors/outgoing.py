"""What a turn sends: messages to other instances and answers to requesters, as values. They follow from events alone."""

from collections.abc import Sequence

from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import Failure, HistoryEvent, Status
from perdure.schemas.frozen import dataclass
from perdure.schemas.messages import ReplyCode, ReplyTo

from .instance import Draft, InstanceState
from .limits import ENGINE_REQUEST


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for another instance; the owner routes it by `instance_id`."""

    instance_id: str
    body: ms.Body
    request_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a requester is told once the turn is confirmed. `created` goes with starts; instance and execution are those that were
    there when it was answered, for what changes nothing."""

    reply_to: ReplyTo
    request_id: str
    code: ReplyCode
    message: str = ""
    created: bool = False
    instance_id: str = ""
    execution_id: str = ""


_SENDING = frozenset({ev.SubOrchestrationInstanceCreated, ev.EventSent, ev.TaskCanceled})


def sends_of(state: InstanceState | Draft, events: Sequence[HistoryEvent]) -> list[Outgoing]:
    """The messages to other instances that the decisions `events` ask for, in order; `state` is the one before them."""
    out: list[Outgoing] = []
    created: dict[int, ev.SubOrchestrationInstanceCreated] = {}
    for event in events:
        if type(event) not in _SENDING:
            continue
        if isinstance(event, ev.SubOrchestrationInstanceCreated):
            created[event.task_id] = event
            out.append(start_child(state, event, 1))
        elif isinstance(event, ev.EventSent):
            request = task_request(state.instance_id, state.started.execution_id, event.task_id)
            out.append(Outgoing(event.instance_id, ms.RaiseEvent(event.name, event.input), request))
        elif isinstance(event, ev.TaskCanceled):
            pending = state.children.get(event.task_id)
            child = pending.created if pending else created.get(event.task_id)
            if child is not None:
                out.append(cancel_child(state, child, "canceled by its parent"))
    return out


def task_request(instance_id: str, execution_id: str, task_id: int) -> str:
    """What the request ids of all that a task sends begin with."""
    return f"{ENGINE_REQUEST}{instance_id}/{execution_id}/{task_id}"


def start_child(state: InstanceState | Draft, created: ev.SubOrchestrationInstanceCreated, attempt: int) -> Outgoing:
    """The start of one attempt of a sub-orchestration; a finished instance of that id makes room."""
    parent = ev.Parent(state.instance_id, state.started.execution_id, created.task_id, attempt)
    body = ms.Start(created.name, created.input, created.tags, reuse=ms.ReusePolicy.REPLACE, parent=parent)
    request = task_request(state.instance_id, parent.execution_id, created.task_id)
    return Outgoing(created.instance_id, body, f"{request}/{attempt}")


def cancel_child(state: InstanceState | Draft, created: ev.SubOrchestrationInstanceCreated, reason: str) -> Outgoing:
    request = task_request(state.instance_id, state.started.execution_id, created.task_id) + "/cancel"
    return Outgoing(created.instance_id, ms.Cancel(reason), request)


def terminate_child(
    state: InstanceState | Draft, created: ev.SubOrchestrationInstanceCreated, reason: bytes
) -> Outgoing:
    request = task_request(state.instance_id, state.started.execution_id, created.task_id) + "/terminate"
    return Outgoing(created.instance_id, ms.Terminate(reason), request)


def tell_parent(child_id: str, parent: ev.Parent | None, end: HistoryEvent) -> list[Outgoing]:
    """What the parent hears of its child's last event; nothing unless it is one."""
    if parent is None:
        return []
    if isinstance(end, ev.ExecutionTerminated):
        failure = Failure("OrchestrationTerminated", f"sub-orchestration {child_id!r} was terminated", retriable=False)
        return [child_result(child_id, parent, failure=failure)]
    if not isinstance(end, ev.ExecutionCompleted) or not end.status.terminal:
        return []
    if end.status == Status.COMPLETED:
        return [child_result(child_id, parent, result=end.result)]
    message = f"sub-orchestration {child_id!r} was canceled"
    return [
        child_result(
            child_id, parent, failure=end.failure or Failure("OrchestrationCanceled", message, retriable=False)
        )
    ]


def child_result(
    child_id: str, parent: ev.Parent, *, result: bytes = ev.NULL, failure: Failure | None = None
) -> Outgoing:
    """How a sub-orchestration ended, for the task of `parent` that waits for it."""
    body = ms.ChildResult(parent.execution_id, parent.task_id, parent.attempt, result, failure)
    return Outgoing(
        parent.instance_id,
        body,
        f"{ENGINE_REQUEST}{child_id}/{parent.execution_id}/{parent.task_id}/{parent.attempt}/end",
    )
