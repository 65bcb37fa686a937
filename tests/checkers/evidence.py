"""What the checkers look at: the topics as they were written, what clients heard, what happened outside, and the stores.

Nothing in it comes from the engine's memory but the stores, which are what is judged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from perdure.partitions.ports import LogRecord


class Outcome(Enum):
    """What a client knows of a call, as Jepsen has it: done, refused, or not known."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(slots=True)
class Call:
    """One request of one client. `sent` counts how often it was put on the inbox; `outcome` is INFO until it is answered."""

    client: str
    kind: str
    instance_id: str
    request_id: str
    invoked_ms: int
    sent: int = 0
    outcome: Outcome = Outcome.INFO
    completed_ms: int = -1
    code: int = -1
    answer: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of an activity, as the world outside saw it begin. `key` is its idempotency key; `result` is what it returns and
    `failure` the type of what it raises, where either is known."""

    time_ms: int
    process: str
    key: str
    attempt: int
    name: str
    input: bytes
    result: bytes | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class StoreImage:
    """What is in the store of one partition on one machine. `live`: its owner has it open, and it must be as of the end."""

    machine: str
    partition: int
    content: Mapping[bytes, bytes]
    live: bool = False


@dataclass(frozen=True, slots=True)
class Trim:
    """Records of one partition below `before` were let go of, at a moment of the log's time."""

    time_ms: int
    partition: int
    before: int
    of_inbox: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """What is not as it must be. `checker` is a number of ARCHITECTURE.md."""

    checker: str
    message: str

    def __str__(self) -> str:
        return f"{self.checker} {self.message}"


def _nothing(_instance_id: str) -> Sequence[str]:
    return ()


@dataclass(slots=True)
class Evidence:
    """One hub's whole story. Where there is no record of the inbox, of calls, of attempts or of stores, what would be checked of
    them is left out. `settled`: all faults are over, and what is finite has had its time; `endless` instances wait for ever; `unanswered` says who still asks what; `deaths` counts the
    processes that code has killed, by instance or activity."""

    partition_count: int
    topic_id: str
    history: Mapping[int, Sequence[LogRecord]]
    inbox: Mapping[int, Sequence[LogRecord]] | None = None
    dead_letters: Sequence[LogRecord] | None = None
    replies: Sequence[LogRecord] | None = None
    calls: Sequence[Call] = ()
    attempts: Sequence[Attempt] | None = None
    stores: Sequence[StoreImage] = ()
    trims: Sequence[Trim] = ()
    errors: Sequence[str] = ()
    unanswered: Sequence[str] = ()
    settled: bool = True
    endless: frozenset[str] = frozenset()
    deaths: Mapping[str, int] = field(default_factory=dict[str, int])
    awaited: Callable[[str], Sequence[str]] = _nothing

    @property
    def awaits_known(self) -> bool:
        """Whether anybody can say which external events an instance waits for."""
        return self.awaited is not _nothing
