"""History events: the durable facts of one orchestration instance, past tense, named as Durable Task names them.

Rules of this file: an event is frozen; a kind number is never reused; a field is only ever added, with a default (R12).
Times are milliseconds since the Unix epoch, UTC. Payloads are JSON text in UTF-8. A task id counts from 1 in the order in
which an execution's code created its tasks; activities, timers, sub-orchestrations and sent events share the one counter.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar

from .frozen import dataclass

NULL = b"null"
NO_TAGS: Mapping[str, str] = MappingProxyType({})
NEVER = -1


class Status(IntEnum):
    """What an execution came to; the numbers are on the wire."""

    PENDING = 0
    RUNNING = 1
    SUSPENDED = 2
    COMPLETED = 3
    FAILED = 4
    CANCELED = 5
    TERMINATED = 6
    CONTINUED_AS_NEW = 7

    terminal: bool
    """True once the instance can decide no more (a continued execution is not: its instance goes on)."""

    def __init__(self, number: int) -> None:
        # An attribute, since every turn asks for it seven times.
        self.terminal = 3 <= number <= 6

    def __str__(self) -> str:
        return self.name


class RescheduleReason(IntEnum):
    """Why a task is dispatched again: its policy says so, an owner has died, or its owner gave it up and had not."""

    RETRY = 0
    RECOVERY = 1
    RELEASE = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as data: exception type, message, stack and cause. Never holds a live exception."""

    type: str
    message: str
    stack: str = ""
    cause: "Failure | None" = None
    retriable: bool = True
    details: bytes = NULL


@dataclass(frozen=True, slots=True)
class Parent:
    """The task of another instance that waits for this one."""

    instance_id: str
    execution_id: str
    task_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """A retry policy as recorded with the task, so that changed code never changes a running task's policy."""

    first_interval_ms: int
    attempts_max: int
    backoff: float = 1.0
    interval_max_ms: int = NEVER
    timeout_ms: int = NEVER
    non_retriable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """The first event of every execution; what continue-as-new keeps is restated here, so one execution's history suffices."""

    KIND: ClassVar[int] = 1
    execution_id: str
    name: str
    input: bytes = NULL
    created_at_ms: int = 0
    start_at_ms: int = 0
    generation: int = 1
    parent: Parent | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    flags: tuple[int, ...] = ()
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionCompleted:
    """The code returned, raised, was cancelled or continued as new (`status`)."""

    KIND: ClassVar[int] = 2
    status: Status
    result: bytes = NULL
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ExecutionTerminated:
    KIND: ClassVar[int] = 3
    reason: bytes = NULL
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionSuspended:
    KIND: ClassVar[int] = 4
    reason: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionResumed:
    KIND: ClassVar[int] = 5
    reason: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionCancelRequested:
    """`cancel` was asked; delivered to the code as `OrchestrationCanceled` where it waits."""

    KIND: ClassVar[int] = 6
    reason: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class TaskScheduled:
    """The code called an activity. Attempt 1 is dispatched with it."""

    KIND: ClassVar[int] = 7
    task_id: int
    name: str
    input: bytes = NULL
    retry: RetryOptions | None = None
    start_to_close_ms: int = NEVER
    schedule_to_close_ms: int = NEVER
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)


@dataclass(frozen=True, slots=True)
class TaskRescheduled:
    """One more dispatch of a pending activity; `attempt` is its number, and only its result counts from here on."""

    KIND: ClassVar[int] = 8
    task_id: int
    attempt: int
    reason: RescheduleReason


@dataclass(frozen=True, slots=True)
class TaskCompleted:
    KIND: ClassVar[int] = 9
    task_id: int
    attempt: int
    result: bytes = NULL


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """An attempt failed; the code learns of it only when `retry_at_ms` is NEVER."""

    KIND: ClassVar[int] = 10
    task_id: int
    attempt: int
    failure: Failure
    retry_at_ms: int = NEVER


@dataclass(frozen=True, slots=True)
class TaskCanceled:
    """The code gave an activity or sub-orchestration up; a result that comes later is dropped."""

    KIND: ClassVar[int] = 11
    task_id: int


@dataclass(frozen=True, slots=True)
class SubOrchestrationInstanceCreated:
    KIND: ClassVar[int] = 12
    task_id: int
    name: str
    instance_id: str
    input: bytes = NULL
    retry: RetryOptions | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)


@dataclass(frozen=True, slots=True)
class SubOrchestrationInstanceRecreated:
    """A failed child is started again under its retry policy, with the same instance id."""

    KIND: ClassVar[int] = 13
    task_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class SubOrchestrationInstanceCompleted:
    KIND: ClassVar[int] = 14
    task_id: int
    attempt: int
    result: bytes = NULL


@dataclass(frozen=True, slots=True)
class SubOrchestrationInstanceFailed:
    KIND: ClassVar[int] = 15
    task_id: int
    attempt: int
    failure: Failure
    retry_at_ms: int = NEVER


@dataclass(frozen=True, slots=True)
class TimerCreated:
    KIND: ClassVar[int] = 16
    task_id: int
    fire_at_ms: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    KIND: ClassVar[int] = 17
    task_id: int
    fire_at_ms: int


@dataclass(frozen=True, slots=True)
class TimerCanceled:
    KIND: ClassVar[int] = 18
    task_id: int


@dataclass(frozen=True, slots=True)
class EventRaised:
    """An external event came in; `name` as its sender wrote it, matched without regard to case."""

    KIND: ClassVar[int] = 19
    name: str
    input: bytes = NULL
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class EventSent:
    """The code raised an event on another instance."""

    KIND: ClassVar[int] = 20
    task_id: int
    instance_id: str
    name: str
    input: bytes = NULL


@dataclass(frozen=True, slots=True)
class CustomStatusSet:
    KIND: ClassVar[int] = 21
    value: bytes = NULL


@dataclass(frozen=True, slots=True)
class PatchMarked:
    """`ctx.patched(patch_id)` answered true for the first time in this execution."""

    KIND: ClassVar[int] = 22
    patch_id: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a kind that this build does not know: kept byte for byte; its instance is held (R12)."""

    KIND: ClassVar[int] = -1
    kind: int
    body: bytes


HistoryEvent = (
    ExecutionStarted
    | ExecutionCompleted
    | ExecutionTerminated
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionCancelRequested
    | TaskScheduled
    | TaskRescheduled
    | TaskCompleted
    | TaskFailed
    | TaskCanceled
    | SubOrchestrationInstanceCreated
    | SubOrchestrationInstanceRecreated
    | SubOrchestrationInstanceCompleted
    | SubOrchestrationInstanceFailed
    | TimerCreated
    | TimerFired
    | TimerCanceled
    | EventRaised
    | EventSent
    | CustomStatusSet
    | PatchMarked
    | UnknownEvent
)
