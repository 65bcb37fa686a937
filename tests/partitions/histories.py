"""Histories written by hand: owners that append to a list instead of a log."""

from dataclasses import dataclass, field

from perdure.partitions.reader import CLOSED, NOTHING, RunState, read_record
from perdure.schemas.codec import encode_claim, encode_envelope, extend_digest
from perdure.schemas.records import NO_DIGEST, Claim, Envelope, Opening, RecordKind


def claim_value(owner: str = "worker-1", partition_count: int = 1) -> bytes:
    body = encode_claim(Claim(owner, 0, "127.0.0.1:1", partition_count))
    return encode_envelope(Envelope(RecordKind.CLAIM, 1, CLOSED, NOTHING, NO_DIGEST, "", body))


def read_all(values: list[bytes | None], state: RunState = RunState()) -> RunState:  # noqa: B008 (frozen)
    for offset, value in enumerate(values[state.next_offset :], state.next_offset):
        state, _ = read_record(state, offset, value)
    return state


@dataclass
class Writer:
    """The append side of one epoch: it takes for granted that all that it sent lands where it says (the tip of R5)."""

    epoch: int
    digest: bytes
    opening: Opening | None
    next_offset: int = field(init=False)

    def __post_init__(self) -> None:
        self.next_offset = self.epoch + 1

    @classmethod
    def claim(cls, values: list[bytes | None], owner: str = "worker-1", partition_count: int = 1) -> "Writer":
        """Append a claim to the log `values` and read up to it (R6)."""
        values.append(claim_value(owner, partition_count))
        state = read_all(values)
        return cls(state.epoch, state.digest, state.opening)

    def write(self, body: bytes, *, kind: int = RecordKind.TURN, instance_id: str = "i", parts: int = 1) -> list[bytes]:
        """The values of the next record."""
        size = -(-len(body) // parts) or 1
        values = []
        for part in range(parts):
            piece = body[part * size : (part + 1) * size]
            envelope = Envelope(
                kind, 1, self.epoch, self.next_offset, self.digest, instance_id, piece, part, parts, self.opening
            )
            value = encode_envelope(envelope)
            self.digest, self.opening = extend_digest(self.digest, value), None
            self.next_offset += 1
            values.append(value)
        return values
