"""The ports of the runtime: the log, the store, the clock. Adapters live in `kafka/`, `embedded/`, `memory/` and `rocksdb/`.

Rules of this file: everything here is called on the engine's thread and never blocks, unless its docstring says so; offsets of
a history partition are contiguous (R4), those of an inbox may have gaps (R8).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from perdure.schemas.frozen import dataclass


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as read: `timestamp_ms` is the log's own (the broker's) time."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one append: where it landed, or why that is not known (R4). Never proof that it did not land."""

    offset: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """What a hub is: the same names over other topics are another hub (R14)."""

    hub: str
    cluster_id: str
    history_topic_id: str
    partition_count: int


class BufferFull(Exception):
    """The local queue is full: nothing was sent, the expected offset stands (R4). Try again after `Log.wait`."""


class LogUnavailable(Exception):
    """The log cannot be reached now; the message says which servers and what to check."""


class LogRefused(LogUnavailable):
    """The brokers refuse our credentials, certificate or rights: the same will happen again until somebody changes something. The
    message says what to check."""


class LogTruncated(Exception):
    """The offset asked for is below the start of the log or beyond its end; the message names both (R6, R14)."""


class LogCorrupt(Exception):
    """The log holds what was never written to it; the message names file and position, or topic, partition and offset."""


class LogLocked(Exception):
    """Another process has the log open; the message names its directory and that process."""


class HubMissing(Exception):
    """There is no such hub; the message says how to create it."""


class HubRefused(Exception):
    """The hub is not what this process can work with: partition count, settings of a topic, format. The message names what was
    expected and what was found."""


def beyond_end(where: str, position: int, end: int) -> str:
    """What a LogTruncated says of a position that the log does not reach any more."""
    return f"{where}: offset {position} is beyond its end {end}; the log has lost records that were acknowledged"


def replaced_hub(identity: HubIdentity, topic: str, opened: str, found: str) -> str:
    """What a HubRefused says of topics that were created again."""
    return (
        f"topic {topic} of hub {identity.hub!r} was deleted and created again: it is {found}, this process opened {opened}; "
        "restart this process to work for the new hub"
    )


class SettingRefused(HubRefused):
    """A property of the log's clients cannot be what it is; the message names it."""


class HistoryWriter(Protocol):
    """The append side of one history partition, with a producer of its own (R4)."""

    def append(self, key: str, value: bytes) -> None:
        """Send one record. Raises BufferFull; any other trouble comes as a Report."""

    def take_reports(self) -> Sequence[Report]:
        """Reports since the last call, one for each append, in the order of the appends."""
        ...

    def close(self) -> None:
        """Purge what is queued and let the producer go; nothing more is reported."""


class TopicReader(Protocol):
    """The partitions of a topic that this process reads as they grow, by manual assignment (R6)."""

    def open(self, partition: int, offset: int) -> None:
        """Read `partition` from `offset` on (from the log's start if that is higher)."""

    def close(self, partition: int) -> None: ...

    def pause(self, partition: int) -> None: ...

    def resume(self, partition: int) -> None: ...

    def take(self, records_max: int) -> Sequence[tuple[int, LogRecord]]:
        """What is there now, as (partition, record), in offset order within a partition."""
        ...

    def take_faults(self) -> Sequence[tuple[int, LogTruncated]]:
        """Partitions that cannot be read on since the last call, each with the reason: the log ends before their position, so
        it has lost records. They are closed."""
        ...


Delivered = Callable[[str | None], None]


class Publisher(Protocol):
    """Everything sent outside the history: inboxes, replies, dead letters. `delivered` is called with an error or None, in
    order for each (topic, partition), during `Log.wait` or `flush`. Raises BufferFull."""

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None: ...

    def publish_reply(self, partition: int, key: str, value: bytes) -> None: ...

    def publish_dead_letter(
        self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], delivered: Delivered | None = None
    ) -> None: ...

    def flush(self, timeout_seconds: float) -> None:
        """Block until all is delivered, at most `timeout_seconds`."""


@dataclass(frozen=True, slots=True)
class LogSpan:
    """The first offset there is and the one that the next record will get."""

    start: int
    end: int


class SnapshotTopic(Protocol):
    """Where owners keep snapshots for other machines (R14); its offsets have holes, since it is compacted."""

    @property
    def record_bytes_max(self) -> int:
        """The largest value that it takes."""
        ...

    def publish(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        """Send one record; None deletes what the key had. `delivered` is called as a publisher's is. Raises BufferFull."""

    def span(self, partition: int) -> LogSpan: ...

    def read(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        """Block while reading what there is of [start, end)."""
        ...


class Log(Protocol):
    """One hub's log, opened by one process."""

    @property
    def identity(self) -> HubIdentity: ...

    @property
    def inbox(self) -> TopicReader:
        """The inboxes of the partitions that are owned here. read_committed (R9)."""
        ...

    @property
    def tail(self) -> TopicReader | None:
        """The histories that are followed here (`partitions.standby`); None where no other process can own them."""
        ...

    @property
    def publisher(self) -> Publisher: ...

    @property
    def snapshots(self) -> SnapshotTopic | None:
        """None where a store needs no copy elsewhere: it lies beside its log."""
        ...

    @property
    def record_bytes_max(self) -> int:
        """The largest record value that the history takes; a larger turn is written in parts (R1)."""
        ...

    def open_history(self, partition: int) -> HistoryWriter: ...

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        """Block while reading [start, end). Raises LogTruncated if `start` is below the log's start or `end` beyond its end."""
        ...

    def span_history(self, partition: int) -> LogSpan: ...

    def span_inbox(self, partition: int) -> LogSpan: ...

    def stable_inbox_end(self, partition: int) -> int:
        """Where reading the inbox stops now: at its end, or at the first record of a transaction that somebody has open (R9). Blocks.
        Raises LogUnavailable."""
        ...

    def trim_inbox(self, partition: int, before: int) -> None:
        """Let go of inbox records below `before` (R8)."""

    def trim_history(self, partition: int, before: int) -> None:
        """Let go of history records below `before`, a base that a confirmed record names (R15). It may take a while, and be
        undone by a crash of a broker."""

    def check_identity(self) -> None:
        """Raise HubRefused where the hub is not the one that was opened any more: its topics were deleted and created again under
        the same names (R14). Blocks. Raises LogUnavailable, HubMissing."""

    def read_clock_ms(self) -> int:
        """The log's own time now, by which its records are stamped (R11). Blocks. Raises LogUnavailable."""
        ...

    def wait(self, timeout_seconds: float) -> None:
        """Block until a report, an inbox record or a delivery may be there, `wake` is called, or the time is over."""

    def wake(self) -> None:
        """End a `wait` early. The one method that any thread may call."""

    def open_replies(self, client_id: str) -> "ReplyReader":
        """Read the partition of replies that `client_id` maps to, from now on. Blocks until "now" is fixed."""
        ...

    def close(self) -> None: ...


class ReplyReader(Protocol):
    """A client's side: replies that come to its partition from now on. It may live on a thread of its own."""

    @property
    def partition(self) -> int: ...

    def take(self, timeout_seconds: float) -> Sequence[LogRecord]:
        """Block at most `timeout_seconds` for the first reply, then return what is there."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partitions came to this process, beside those that it has; it may claim them (R6)."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are to move. Nobody else gets them until `Membership.acknowledge`, so they can be handed over in order."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """These partitions are gone already; somebody else may have claimed them."""

    partitions: tuple[int, ...]


MembershipChange = Assigned | Revoked | Lost


class Membership(Protocol):
    """Who tries which partition (R6): advice, never the truth, which is in the log."""

    def poll(self) -> Sequence[MembershipChange]:
        """What changed since the last call, in order. Raises LogUnavailable when membership has ended for good."""
        ...

    def acknowledge(self, partitions: Sequence[int]) -> None:
        """Say that these revoked partitions are handed over."""

    def standing_by(self) -> Mapping[int, int]:
        """The partitions of others that this process should keep a warm store of, each with its rank among those who do."""
        ...

    def leave(self) -> None:
        """Tell the group now that what was assigned is free for others; nothing is told any more. Never blocks."""

    def close(self) -> None:
        """Leave, and wait until the group has been told: for a few seconds at most."""


Change = tuple[bytes, bytes | None]


class StoreLocked(Exception):
    """Another process (or another handle of this one) has the store open; the message names its path (R14)."""


class StoreCorrupt(Exception):
    """The store cannot be read, or is of a format that this build does not know: discard it and rebuild from the log."""


class StoreUnavailable(Exception):
    """The store cannot be used now (full disk, no permission, closed); the message names its path. Its content is not at fault."""


class Store(Protocol):
    """A sorted map of bytes to bytes: the confirmed state of one partition (R5, R14). One process, one thread at a time.

    Any call may raise StoreCorrupt or StoreUnavailable.
    """

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < end, in order of key (`reverse`: from the end)."""
        ...

    def write(self, changes: Sequence[Change]) -> None:
        """Apply all or nothing; a None value deletes; later changes win. Lost after a crash unless flushed, but only from
        the newest write backwards, so what survives is always a state that once was."""

    def flush(self) -> None:
        """Make all that was written durable. Blocks."""

    def close(self) -> None: ...


class Stores(Protocol):
    """The stores of one process slot (R14)."""

    def open(self, partition: int) -> Store:
        """Open or create. Raises StoreLocked, StoreCorrupt or StoreUnavailable."""
        ...

    def discard(self, partition: int) -> None:
        """Delete the store of `partition`, which must be closed, and all that is in it."""

    def close(self) -> None:
        """Let the slot go; its stores must be closed."""


class Clock(Protocol):
    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class Peers(Protocol):
    """The owners of partitions that this process stands by for, as processes that live or do not."""

    @property
    def address(self) -> str:
        """Where others reach this process; it is in its claims (R2)."""
        ...

    def watch(self, wanted: Mapping[str, str]) -> None:
        """Hold a connection to each of these owners, by name with their addresses, and to no others."""

    @property
    def reached(self) -> Collection[str]:
        """Owners to whom the connection stands. Any thread may ask."""
        ...

    def take_gone(self) -> Sequence[str]:
        """Owners whose connection has closed since the last call, and that cannot be reached again."""
        ...

    def close(self) -> None: ...
