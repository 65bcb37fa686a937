"""Inbox messages: what anyone may ask of an instance. Not yet facts; a turn makes them facts (R8).

A message is one Kafka record on `<hub>.inbox`, keyed by instance id. Its envelope (`Inbound`) is frozen; `body` is one of the
classes below. Times are milliseconds since the Unix epoch; payloads are JSON text in UTF-8.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum
from typing import ClassVar

from .events import NO_TAGS, NULL, Failure, Parent
from .frozen import dataclass


class ReusePolicy(IntEnum):
    """What a start does when its instance id exists: see `Start.reuse`."""

    REJECT = 0
    RETURN = 1
    REPLACE = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message between partitions comes from; `sequence` is dense for each (source, target) (R7)."""

    topic_id: str
    partition: int
    sequence: int


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """The client that wants the answer, and its partition of `<hub>.replies`."""

    client_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start an instance.

    `reuse` applies when the id exists with a status in `reuse_statuses` (empty: any terminal status); any other existing
    instance is rejected, except that RETURN answers with the existing instance whatever its status. `events` are raised on
    the instance before its first turn. `tell_end` asks for a second reply when the instance ends.
    """

    KIND: ClassVar[int] = 1
    name: str
    input: bytes = NULL
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    start_at_ms: int = 0
    reuse: ReusePolicy = ReusePolicy.REJECT
    reuse_statuses: tuple[int, ...] = ()
    parent: Parent | None = None
    events: tuple[tuple[str, bytes], ...] = ()
    tell_end: bool = False


@dataclass(frozen=True, slots=True)
class RaiseEvent:
    KIND: ClassVar[int] = 2
    name: str
    input: bytes = NULL


@dataclass(frozen=True, slots=True)
class Cancel:
    KIND: ClassVar[int] = 3
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Terminate:
    KIND: ClassVar[int] = 4
    reason: bytes = NULL
    recursive: bool = True


@dataclass(frozen=True, slots=True)
class Suspend:
    KIND: ClassVar[int] = 5
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    """Resume a suspended instance; a held one is tried again."""

    KIND: ClassVar[int] = 6
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Purge:
    """Forget a finished instance (`force`: a running one too)."""

    KIND: ClassVar[int] = 7
    force: bool = False


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How one attempt of an activity ended; counts only while execution, task and attempt are pending (R7)."""

    KIND: ClassVar[int] = 8
    execution_id: str
    task_id: int
    attempt: int
    result: bytes = NULL
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a sub-orchestration ended, told to its parent."""

    KIND: ClassVar[int] = 9
    execution_id: str
    task_id: int
    attempt: int
    result: bytes = NULL
    failure: Failure | None = None


class TimerPurpose(IntEnum):
    """What a due time is for; the numbers are in the store."""

    TIMER = 0
    START = 1
    RETRY = 2
    SCHEDULE_TO_CLOSE = 3
    CHILD_RETRY = 4


@dataclass(frozen=True, slots=True)
class TimerDue:
    """A durable time came; made by the partition owner itself, never on the wire."""

    KIND: ClassVar[int] = 10
    execution_id: str
    task_id: int
    purpose: TimerPurpose
    fire_at_ms: int


@dataclass(frozen=True, slots=True)
class TaskLost:
    """A dispatch whose owner went away; made by the next owner, never on the wire. `released`: it was given up, in an orderly
    stop or by a process that lives on."""

    KIND: ClassVar[int] = 12
    execution_id: str
    task_id: int
    attempt: int
    released: bool = False


@dataclass(frozen=True, slots=True)
class RaiseLevel:
    """Have a partition written at `level` from here on; refused by an owner that does not know it (R12). Of no instance."""

    KIND: ClassVar[int] = 13
    level: int


class QueryKind(IntEnum):
    GET = 0
    WAIT = 1
    LIST = 2
    HISTORY = 3
    BARRIER = 4
    PARTITION = 5


@dataclass(frozen=True, slots=True)
class Query:
    """A read of confirmed state (R16); changes nothing. `arguments` is a JSON object whose shape `kind` fixes."""

    KIND: ClassVar[int] = 11
    query: QueryKind
    arguments: bytes = b"{}"


Body = (
    Start
    | RaiseEvent
    | Cancel
    | Terminate
    | Suspend
    | Resume
    | Purge
    | TaskResult
    | ChildResult
    | TimerDue
    | TaskLost
    | RaiseLevel
    | Query
)


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message as it travels. `request_id` makes a retried request harmless; `forwards` counts wrong partitions (R9)."""

    instance_id: str
    body: Body
    request_id: str = ""
    origin: Origin | None = None
    reply_to: ReplyTo | None = None
    forwards: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request. `code` is one of the `ReplyCode`s; `body` is JSON whose shape the request fixes."""

    client_id: str
    request_id: str
    code: int
    body: bytes = NULL
    partition: int = -1
    offset: int = -1


class ReplyCode(IntEnum):
    OK = 0
    ALREADY_EXISTS = 1
    NOT_FOUND = 2
    ALREADY_FINISHED = 3
    REFUSED = 4
    ENDED = 5
    HELD = 6
