"""Intake: from inbox records to messages, each once, in order (R7 to R9).

Rules of this file: an inbox record becomes a message for an instance here, a message for another partition, a dead letter, a
duplicate, or a message out of order; none of them is dropped without one of these names. What was consumed before the last
recovery is passed over, but its origin still counts.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from perdure.actors.limits import check_instance_id
from perdure.schemas.codec import INBOX_MARK, WireError, decode_inbound
from perdure.schemas.messages import Inbound, Query
from perdure.schemas.records import SourceMark

from .foreign import decode_foreign
from .partitioner import partition_of
from .ports import LogRecord
from .state import PartitionState


class Kind(Enum):
    MESSAGE = auto()
    QUERY = auto()
    FORWARD = auto()
    UNREADABLE = auto()
    DUPLICATE = auto()
    OUT_OF_ORDER = auto()


@dataclass(frozen=True, slots=True)
class Taken:
    """One inbox record, understood. `inbound` is None where it could not be read; `reason` says why it is not a message."""

    kind: Kind
    offset: int
    record: LogRecord
    inbound: Inbound | None = None
    reason: str = ""


class Intake:
    """The inbox of one partition as its owner takes it: arrival order, duplicates, and how far all is consumed."""

    def __init__(self, topic: str, partition: int, partition_count: int, confirmed: PartitionState) -> None:
        self._topic = topic
        self._partition = partition
        self._partition_count = partition_count
        self._consumed = set(confirmed.consumed_above)
        self._seen = dict(confirmed.sources)
        self._order: deque[tuple[int, SourceMark | None]] = deque()
        self._moved: dict[tuple[str, int], SourceMark] = {}
        self.mark = confirmed.inbox_mark
        self._arrived = confirmed.inbox_mark - 1
        self.dropped = 0

    def take(self, record: LogRecord) -> Taken | None:
        """Understand one record, the next of the inbox. None: it was consumed before, or came before."""
        if record.offset <= self._arrived:
            return None
        self._arrived = record.offset
        taken = self._read(record)
        origin = taken.inbound.origin if taken.inbound is not None else None
        mark = None
        if origin is not None:
            source = (origin.topic_id, origin.partition)
            expected = self._seen.get(source, 0) + 1
            if origin.sequence < expected:
                taken = replace(taken, kind=Kind.DUPLICATE)
            elif origin.sequence > expected:
                self.dropped += 1
                taken = replace(
                    taken, kind=Kind.OUT_OF_ORDER, reason=f"sequence {origin.sequence} of {source}, expected {expected}"
                )
            else:
                self._seen[source] = origin.sequence
                mark = SourceMark(origin.topic_id, origin.partition, origin.sequence)
        self._order.append((record.offset, mark))
        return None if record.offset in self._consumed else taken

    def _read(self, record: LogRecord) -> Taken:
        if record.value is None:
            return Taken(Kind.UNREADABLE, record.offset, record, reason="a record without a value")
        try:
            if record.value[:1] == INBOX_MARK:
                inbound = decode_inbound(record.value)
            else:
                inbound = decode_foreign(record.value, f"{self._topic}-{self._partition}-{record.offset}")
            if not isinstance(inbound.body, Query) or inbound.instance_id:
                check_instance_id(inbound.instance_id)
        except (WireError, ValueError) as error:
            return Taken(Kind.UNREADABLE, record.offset, record, reason=str(error))
        if isinstance(inbound.body, Query) and not inbound.instance_id:
            return Taken(Kind.QUERY, record.offset, record, inbound)
        if partition_of(inbound.instance_id, self._partition_count) != self._partition:
            return self._misplaced(record, inbound)
        kind = Kind.QUERY if isinstance(inbound.body, Query) else Kind.MESSAGE
        return Taken(kind, record.offset, record, inbound)

    def _misplaced(self, record: LogRecord, inbound: Inbound) -> Taken:
        """Forward once; a message that was forwarded and is still wrong comes from another idea of the hub (R9)."""
        right = partition_of(inbound.instance_id, self._partition_count)
        if inbound.forwards == 0:
            return Taken(Kind.FORWARD, record.offset, record, inbound)
        reason = f"on partition {self._partition} after a forward, but {inbound.instance_id!r} belongs to {right}"
        return Taken(Kind.UNREADABLE, record.offset, record, inbound, reason)

    def consume(self, offsets: Iterable[int]) -> None:
        """These offsets are taken, by the next record at the latest."""
        self._consumed.update(offsets)
        order = self._order
        while order and order[0][0] in self._consumed:
            offset, source = order.popleft()
            self._consumed.discard(offset)
            self.mark = offset + 1
            if source is not None:
                self._moved[source.topic_id, source.partition] = source

    def take_marks(self) -> tuple[int, tuple[SourceMark, ...]]:
        """For the next record: the inbox mark, and the source marks that moved with it since the last record."""
        moved = tuple(self._moved.values())
        self._moved.clear()
        return self.mark, moved
