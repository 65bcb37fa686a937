"""Epoch: one owner's run of records on a history partition, from its claim to its end (R2 to R5).

Rules of this file: a record states its epoch, the offset that it expects and the digest of all before it; reports are honoured
in the order of the appends; the first one that does not say what was expected ends the epoch, and nothing after it is
confirmed. Nothing here knows what a record means.
"""

from collections import deque
from typing import Generic, TypeVar

from perdure.schemas.codec import encode_envelope, extend_digest
from perdure.schemas.frozen import dataclass
from perdure.schemas.records import FIRST_LEVEL, Envelope, Opening, RecordKind

from .ports import BufferFull, HistoryWriter

T = TypeVar("T")

# Everything in an envelope but the instance id and the body: a mark, nine numbers of at most ten bytes, three digests.
ENVELOPE_BYTES_MAX = 256
# Records leave in bursts, and no burst while another is on its way: what is decided meanwhile joins the next one, as in a group
# commit. An idempotent producer of librdkafka has one request and no more under way while five records of a partition are, and
# spins while others wait; so beside fewer than five the next burst may leave.
BURST_RECORDS = 64
BESIDE_RECORDS = 5


class EpochEnded(Exception):
    """A report did not name the expected offset: this owner may append no more under this epoch (R4)."""


@dataclass(frozen=True, slots=True)
class Appended(Generic[T]):
    """One record, or chain of parts, on its way: confirmed once all before it and its last part landed where they said. `offset` is
    that of the last part, with the running digest before and after it."""

    first_offset: int
    offset: int
    previous: bytes
    digest: bytes
    effect: T


@dataclass(frozen=True, slots=True)
class Run:
    """How an epoch begins: the offset of its claim, the digest with the claim in it, and what was accepted before (R2)."""

    claim_offset: int
    digest: bytes
    opening: Opening


class Epoch(Generic[T]):
    """The append side of an owned partition. Never blocks, and never refuses: what does not fit waits."""

    def __init__(self, writer: HistoryWriter, run: Run, record_bytes_max: int) -> None:
        self._writer = writer
        self._opening: Opening | None = run.opening
        self._digest = run.digest
        self._record_bytes_max = record_bytes_max
        self.confirmed_offset = run.claim_offset
        self._in_flight: deque[tuple[int, int, Appended[T] | None]] = deque()
        self._in_flight_bytes = 0
        self._unsent: deque[tuple[str, bytes]] = deque()
        self.full = False
        """The writer has no room for more. Decide nothing while it has none (R10)."""
        self.number = run.claim_offset
        self.next_offset = run.claim_offset + 1

    @property
    def in_flight(self) -> int:
        """Records appended and not yet confirmed."""
        return len(self._in_flight)

    @property
    def in_flight_bytes(self) -> int:
        return self._in_flight_bytes

    @property
    def quiet(self) -> bool:
        """All that was appended is confirmed."""
        return not self._in_flight

    def append(
        self,
        kind: RecordKind,
        instance_id: str,
        body: bytes,
        effect: T,
        format: int = FIRST_LEVEL,  # noqa: A002 (the envelope's word)
    ) -> Appended[T]:
        """Decide one record; a body that is too large goes as adjacent parts that count when complete (R1). It leaves with `send`."""
        room = self._record_bytes_max - ENVELOPE_BYTES_MAX - len(instance_id.encode())
        parts = 1 if len(body) <= room else -(-len(body) // room)
        first, last = self.next_offset, self.next_offset + parts - 1
        appended: Appended[T] | None = None
        for part in range(parts):
            piece = body if parts == 1 else body[part * room : (part + 1) * room]
            opening, self._opening = self._opening, None
            offset, previous = self.next_offset, self._digest
            value = encode_envelope(
                Envelope(kind, format, self.number, offset, previous, instance_id, piece, part, parts, opening)
            )
            self._digest = digest = extend_digest(previous, value)
            appended = Appended(first, offset, previous, digest, effect) if offset == last else None
            self._in_flight.append((offset, len(value), appended))
            self._in_flight_bytes += len(value)
            self.next_offset = offset + 1
            self._unsent.append((instance_id, value))
        if len(self._unsent) >= BURST_RECORDS:
            self.send()
        assert appended is not None
        return appended

    def send(self) -> None:
        """Hand over what waits, unless it is to join a later burst. A full queue is back-pressure: nothing was sent and the expected
        offset stands (R4)."""
        if not self._unsent or len(self._in_flight) - len(self._unsent) >= BESIDE_RECORDS:
            return
        self.full = False
        while self._unsent and not self.full:
            key, value = self._unsent[0]
            try:
                self._writer.append(key, value)
            except BufferFull:
                self.full = True
            else:
                self._unsent.popleft()

    def take_confirmed(self) -> list[Appended[T]]:
        """What is confirmed since the last call, in order. Raises EpochEnded at the first wrong report; what the same call
        found confirmed before it is in the log, and recovery finds it there."""
        confirmed: list[Appended[T]] = []
        for report in self._writer.take_reports():
            if not self._in_flight:
                raise EpochEnded(f"epoch {self.number}: a report of a record that was not sent")
            expected, size, appended = self._in_flight[0]
            if report.offset != expected:
                found = f"landed at {report.offset}" if report.offset is not None else f"unknown: {report.error}"
                raise EpochEnded(f"epoch {self.number}: record expected at offset {expected}, {found}")
            self._in_flight.popleft()
            self._in_flight_bytes -= size
            if appended is not None:
                self.confirmed_offset = expected
                confirmed.append(appended)
        return confirmed

    def close(self) -> None:
        """Purge what is on its way; nothing more is confirmed."""
        self._writer.close()
        self._in_flight.clear()
        self._unsent.clear()
