"""Execution: what one execution's code has asked for and not got yet. Shared by the context, which the author holds, and the
executor, which drives the code.

Rules of this file: everything in it follows from the delivered events and the code alone, so a replay brings it back.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from uuid import UUID, uuid5

from perdure.schemas import events as ev
from perdure.schemas.events import NO_TAGS, HistoryEvent
from perdure.schemas.frozen import dataclass

from .errors import LimitExceeded, ValueRefused
from .executor import ContinueAsNew
from .failures import NO_TYPES, ExceptionTypes, error_of
from .limits import DEFAULT_LIMITS, Limits
from .tasks import CancellableTask, ExternalTask, TimerTask

_CHILDREN = UUID("0d9f5f0e-52a5-5d0c-8c5b-6d0f0f6b6f39")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which execution of which instance."""

    instance_id: str
    execution_id: str
    name: str = ""
    parent_instance_id: str | None = None
    generation: int = 1
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    flags: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """What the code runs under. `strict`: a replay compares every field of a decision, for audit."""

    limits: Limits = DEFAULT_LIMITS
    types: ExceptionTypes = field(default_factory=lambda: NO_TYPES)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """An external event that nobody took; `order` counts all of an execution."""

    order: int
    name: str
    data: bytes


class Execution:
    """The bookkeeping of one execution. `running` is True only while the engine delivers events to the code."""

    __slots__ = (
        "arrivals",
        "arrived",
        "cancel_asked",
        "cancel_missed",
        "closed",
        "continuation",
        "continue_saves_events",
        "decided_bytes",
        "decisions",
        "delivered",
        "ended",
        "identity",
        "last_task_id",
        "limits",
        "markers",
        "now_ms",
        "patches",
        "pending",
        "replaying",
        "running",
        "types",
        "uuids",
        "waiting",
        "waits",
    )

    def __init__(self, identity: Identity, settings: ExecutionSettings) -> None:
        self.identity = identity
        self.limits = settings.limits
        self.types = settings.types
        self.now_ms = 0
        self.running = False
        self.replaying = False
        self.closed = False
        self.ended = False
        self.decisions: list[HistoryEvent] = []
        self.decided_bytes = 0
        self.last_task_id = 0
        self.pending: dict[int, CancellableTask[Any]] = {}
        self.waiting: dict[str, deque[ExternalTask[Any]]] = {}
        self.waits = 0
        self.arrived: dict[str, deque[Arrival]] = {}
        self.delivered: dict[int, Arrival] = {}
        self.arrivals = 0
        self.markers: frozenset[str] = frozenset()
        self.patches: dict[str, bool] = {}
        self.uuids = 0
        self.continuation: bytes | None = None
        self.continue_saves_events = True
        self.cancel_asked = False
        self.cancel_missed: str | None = None

    def next_task_id(self) -> int:
        self.last_task_id += 1
        return self.last_task_id

    def child_id(self, task_id: int) -> str:
        """The instance id of a sub-orchestration that was given none: the same on every attempt and in every replay."""
        name = f"{self.identity.instance_id}:{self.identity.execution_id}:{task_id:x}"
        # Ids of children of children grow; from the limit on, a digest stands for what they come from.
        return name if len(name) <= self.limits.instance_id_chars_max else str(uuid5(_CHILDREN, name))

    def record(self, decision: HistoryEvent) -> None:
        """Decide something. Code on its way out decides nothing."""
        if not self.running:
            if self.closed:
                return
            raise RuntimeError(
                "the context was used outside its orchestration: from another thread, from an activity, or after the end. "
                "Only the orchestration's own code may use it, while it runs"
            )
        if self.ended:
            return  # an event that comes after the end, in the same turn, gives up the timer of a wait that nobody looks at
        if len(self.decisions) >= self.limits.decisions_per_turn_max:
            raise LimitExceeded(
                f"more than {self.limits.decisions_per_turn_max} decisions without waiting for anything; "
                "await some of them first, or give parts to sub-orchestrations"
            )
        self.decisions.append(decision)

    def schedule(self, task: CancellableTask[Any], decision: HistoryEvent) -> None:
        """Decide something that a task waits for."""
        self._check_pending()
        self.record(decision)
        self.pending[task.task_id] = task

    def _check_pending(self) -> None:
        if len(self.pending) + self.waits >= self.limits.tasks_pending_max and not self.closed:
            raise LimitExceeded(
                f"more than {self.limits.tasks_pending_max} tasks are pending at once; "
                "await some of them first, or give parts to sub-orchestrations"
            )

    def check_payload(self, what: str, data: bytes) -> None:
        """Raise ValueRefused for one payload that is too large, and LimitExceeded for too much of them in one turn."""
        self.decided_bytes += len(data)
        if self.decided_bytes > self.limits.decided_bytes_per_turn_max and not self.closed:
            raise LimitExceeded(
                f"more than {self.limits.decided_bytes_per_turn_max} bytes of payloads without waiting for anything; "
                "await some tasks first, or pass references"
            )
        limit = self.limits.payload_bytes_max
        if len(data) > limit:
            raise ValueRefused(
                f"{what}: {len(data)} bytes of JSON, and at most {limit} are allowed; "
                "put large data where activities can reach it, and pass a reference"
            )

    def complete(self, task_id: int, result: bytes) -> None:
        """A result came; one that nobody waits for is dropped."""
        task = self.pending.pop(task_id, None)
        if task is None:
            return
        try:
            value = task.codec.decode(result)
        except ValueRefused as refusal:
            task.fail(refusal)
        else:
            task.succeed(value)

    def fail(self, task_id: int, failure: ev.Failure) -> None:
        task = self.pending.pop(task_id, None)
        if task is not None:
            task.fail(error_of(task.what, failure, self.types))

    def fire(self, task_id: int) -> None:
        task = self.pending.pop(task_id, None)
        if task is not None:
            task.succeed(None)

    def cancel(self, task: CancellableTask[Any]) -> None:
        """The code gives a task up, or a wait's time is over."""
        if isinstance(task, ExternalTask):
            waiting = self.waiting.get(task.name.casefold())
            if waiting is not None and task in waiting:
                waiting.remove(task)
                self.waits -= 1
            if task.timer is not None:
                task.timer.cancel()
            return
        canceled = ev.TimerCanceled if isinstance(task, TimerTask) else ev.TaskCanceled
        self.record(canceled(task.task_id))
        self.pending.pop(task.task_id, None)

    def wait(self, task: ExternalTask[Any]) -> None:
        """Give a wait the oldest event of its name, or have it wait for the next."""
        name = task.name.casefold()
        arrived = self.arrived.get(name)
        if arrived:
            self._deliver(task, arrived.popleft())
        else:
            self._check_pending()
            self.waiting.setdefault(name, deque()).append(task)
            self.waits += 1

    def arrive(self, name: str, data: bytes) -> None:
        """An external event came: the oldest wait of its name gets it, or it is kept."""
        folded = name.casefold()
        arrival = Arrival(self.arrivals, name, data)
        self.arrivals += 1
        waiting = self.waiting.get(folded)
        if waiting:
            task = waiting.popleft()
            self.waits -= 1
            if task.timer is not None:
                task.timer.cancel()
            self._deliver(task, arrival)
        else:
            self.arrived.setdefault(folded, deque()).append(arrival)

    def _deliver(self, task: ExternalTask[Any], arrival: Arrival) -> None:
        self.delivered[arrival.order] = arrival
        task.arrival = arrival.order
        try:
            value = task.codec.decode(arrival.data)
        except ValueRefused as refusal:
            task.fail(refusal)
        else:
            task.succeed(value)

    def take(self, task: ExternalTask[Any]) -> None:
        """The code has seen that the event came."""
        self.delivered.pop(task.arrival, None)

    def patched(self, patch_id: str) -> bool:
        """The first answer of an execution holds: true when it is live, or where history says that it was."""
        answer = self.patches.get(patch_id)
        if answer is None:
            answer = self.patches[patch_id] = not self.replaying or patch_id in self.markers
            if answer:
                self.record(ev.PatchMarked(patch_id))
        return answer

    def continue_as_new(self, encoded: bytes, *, save_events: bool) -> None:
        """Have the next execution begin with `encoded` once the code returns."""
        self.continuation = encoded
        self.continue_saves_events = save_events

    def continued(self) -> ContinueAsNew | None:
        """What goes on in the next execution, if the code continued as new."""
        if self.continuation is None:
            return None
        left = [*self.delivered.values(), *(arrival for arrivals in self.arrived.values() for arrival in arrivals)]
        left.sort(key=lambda arrival: arrival.order)
        kept = tuple((arrival.name, arrival.data) for arrival in left) if self.continue_saves_events else ()
        return ContinueAsNew(self.continuation, kept, self.cancel_missed)
