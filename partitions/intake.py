"""Intake: from inbox records to messages, each once, in order (R7 to R9).

Rules of this file: an inbox record becomes a message for an instance here, a message for another partition, a dead letter, a
duplicate, or a message out of order; none of them is dropped without one of these names. What was consumed before the last
recovery is passed over, but its origin still counts.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from perdure.actors.limits import DEFAULT_LIMITS, Limits
from perdure.schemas.codec import INBOX_MARK, UnreadableBody, WireError, decode_inbound
from perdure.schemas.messages import Inbound, Origin, Query, RaiseLevel
from perdure.schemas.records import SourceMark

from .admission import Admission
from .foreign import decode_foreign
from .partitioner import partition_of
from .ports import HubIdentity, LogRecord
from .state import PartitionState
from .topics import LETTER_BYTES_MAX


class Kind(Enum):
    MESSAGE = auto()
    QUERY = auto()
    LEVEL = auto()
    FORWARD = auto()
    UNREADABLE = auto()
    DUPLICATE = auto()
    OUT_OF_ORDER = auto()


@dataclass(frozen=True, slots=True)
class Taken:
    """One inbox record, understood. `inbound` is None where it could not be read, and has a `reply_to` only where that can be
    answered; `reason` says why it is not a message. `origin` is the one that counts."""

    kind: Kind
    offset: int
    record: LogRecord
    inbound: Inbound | None = None
    reason: str = ""
    origin: Origin | None = None


class Intake:
    """The inbox of one partition as its owner takes it: arrival order, duplicates, and how far all is consumed."""

    def __init__(
        self, topic: str, partition: int, hub: HubIdentity, confirmed: PartitionState, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._partition_count = hub.partition_count
        self._admission = Admission(hub, limits)
        self._consumed = set(confirmed.consumed_above)
        self._seen = dict(confirmed.sources)
        self._order: deque[tuple[int, SourceMark | None]] = deque()
        self._moved: dict[tuple[str, int], SourceMark] = {}
        self.mark = confirmed.inbox_mark
        self._arrived = confirmed.inbox_mark - 1
        self.bytes_max = LETTER_BYTES_MAX
        """What a record may have. A batch of the largest size may be so well compressed that it is a thousand times that in memory."""
        self.gaps: dict[tuple[str, int], int] = {}
        """Sources of which a later message came than the next one, and the sequence that is missing. One that stays is an alarm (R7)."""

    def take(self, record: LogRecord) -> Taken | None:
        """Understand one record, the next of the inbox. None: it was consumed before, or came before."""
        if record.offset <= self._arrived:
            return None
        self._arrived = record.offset
        taken = self._read(record)
        origin, mark = taken.origin, None
        if origin is not None:
            source = (origin.topic_id, origin.partition)
            expected = self._seen.get(source, 0) + 1
            if origin.sequence < expected:
                taken = replace(taken, kind=Kind.DUPLICATE)
            elif origin.sequence > expected:
                self.gaps[source] = expected
                taken = replace(
                    taken, kind=Kind.OUT_OF_ORDER, reason=f"sequence {origin.sequence} of {source}, expected {expected}"
                )
            else:
                self._seen[source] = origin.sequence
                self.gaps.pop(source, None)
                mark = SourceMark(origin.topic_id, origin.partition, origin.sequence)
        self._order.append((record.offset, mark))
        return None if record.offset in self._consumed else taken

    def _read(self, record: LogRecord) -> Taken:
        try:
            inbound = self._decode(record)
            if inbound.origin is not None:
                self._admission.check_origin(inbound.origin)
        except UnreadableBody as error:
            return self._unreadable(record, error)
        except (WireError, ValueError) as error:
            return Taken(Kind.UNREADABLE, record.offset, record, reason=str(error))
        try:
            self._admission.check_envelope(inbound)
        except (WireError, ValueError) as error:
            return Taken(Kind.UNREADABLE, record.offset, record, None, str(error), inbound.origin)
        return self._place(record, inbound)

    def _decode(self, record: LogRecord) -> Inbound:
        if record.value is None:
            raise WireError("inbox message", "a value", "none, or a batch that the client cannot unpack")
        if record.value[:1] == INBOX_MARK:
            return decode_inbound(record.value, self.bytes_max)
        if len(record.value) > self.bytes_max:  # before any JSON is read
            raise WireError("inbox message", f"at most {self.bytes_max} bytes", f"{len(record.value)} bytes")
        return decode_foreign(record.value, f"{self._topic}-{self._partition}-{record.offset}")

    def _unreadable(self, record: LogRecord, error: UnreadableBody) -> Taken:
        """What a newer build of ours sent has its place among the others, so that those behind it are taken (R7)."""
        origin = error.origin
        try:
            if origin is not None:
                self._admission.check_origin(origin)
        except ValueError:
            origin = None
        return Taken(Kind.UNREADABLE, record.offset, record, reason=str(error), origin=origin)

    def _place(self, record: LogRecord, inbound: Inbound) -> Taken:
        """Whose it is."""
        if not inbound.instance_id:
            kind = Kind.LEVEL if isinstance(inbound.body, RaiseLevel) else Kind.QUERY
            return Taken(kind, record.offset, record, inbound, origin=inbound.origin)
        if partition_of(inbound.instance_id, self._partition_count) != self._partition:
            return self._misplaced(record, inbound)
        try:
            self._admission.check_body(inbound.body)
        except ValueError as error:
            return Taken(Kind.UNREADABLE, record.offset, record, inbound, str(error), inbound.origin)
        kind = Kind.QUERY if isinstance(inbound.body, Query) else Kind.MESSAGE
        return Taken(kind, record.offset, record, inbound, origin=inbound.origin)

    def _misplaced(self, record: LogRecord, inbound: Inbound) -> Taken:
        """Forward once; a message that was forwarded and is still wrong comes from another idea of the hub (R9)."""
        right = partition_of(inbound.instance_id, self._partition_count)
        if inbound.forwards == 0:
            return Taken(Kind.FORWARD, record.offset, record, inbound, origin=inbound.origin)
        reason = f"on partition {self._partition} after a forward, but {inbound.instance_id!r} belongs to {right}"
        return Taken(Kind.UNREADABLE, record.offset, record, inbound, reason, inbound.origin)

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
