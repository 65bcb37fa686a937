"""R3, once for everybody: which records of a history partition count. Owner, recovery, standby, audit and projections use it.

An epoch opens at a claim and ends at the first record that is not its owner's next one. The next one states this epoch, the
very offset where it stands, the digest of all that was accepted before it and, when it is the first after the claim, the
last accepted record before that claim. What cannot be decoded is no exception: it is void, and ends the epoch like any
other stranger.

No run of honest owners holds a record that states the right epoch and offset with the wrong digest, opening or part: it was
edited, or something before it was. Such a record ends the epoch as well, since nothing after it can be vouched for, but its
verdict is `broken`: who would go on to write there must stop instead, loudly, and `audit` reports it.

Rules of this file: pure; a reader resumed from any `RunState` goes on exactly as the one that it was taken from.
"""

from dataclasses import dataclass, replace
from enum import Enum

from perdure.schemas.codec import WireError, decode_envelope, encode_envelope, extend_digest
from perdure.schemas.records import NO_DIGEST, Envelope, Opening, RecordKind

CLOSED = -1
NOTHING = -1
_ENVELOPE_BYTES = 192


@dataclass(frozen=True, slots=True)
class Chain:
    """The parts of a record that is not whole yet: what the first one states, the bodies, and the digest up to them."""

    first: Envelope
    bodies: tuple[bytes, ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a reader stands. `offset` is the next one to read; `epoch` is the open one or CLOSED.

    `last_offset` and `digest` are of the last accepted record (claims count). `opening` is what the next record has to state
    as the first after its claim; None when it is not the first.
    """

    offset: int = 0
    epoch: int = CLOSED
    last_offset: int = NOTHING
    digest: bytes = NO_DIGEST
    opening: Opening | None = None
    chain: Chain | None = None

    @classmethod
    def after_checkpoint(cls, epoch: int, offset: int, digest: bytes) -> "RunState":
        """The state of a reader that has just accepted a checkpoint there; `digest` covers it (R14, R15)."""
        return cls(offset + 1, epoch, offset, digest)


class VoidReason(Enum):
    """Why a record does not count."""

    UNREADABLE = "it is no history record"
    NO_EPOCH = "no epoch is open here"
    OTHER_EPOCH = "it states another epoch"
    OTHER_OFFSET = "it states another offset"
    HOLE = "records before it are missing"
    DIGEST = "its digest does not fit what was accepted before it"
    OPENING = "what it states of the last record before the claim does not fit"
    PART = "it is not the next part"


_BROKEN = frozenset({VoidReason.HOLE, VoidReason.DIGEST, VoidReason.OPENING, VoidReason.PART})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A whole record that counts. `first_offset` is that of its first part; `digest` covers all its parts."""

    kind: int
    format: int
    epoch: int
    instance_id: str
    body: bytes
    first_offset: int
    offset: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """It will count when the rest of its record follows."""

    epoch: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim: its offset is the new epoch. `ended` is the epoch that it ended, or CLOSED; `before` is what came last."""

    epoch: int
    format: int
    body: bytes
    digest: bytes
    ended: int
    before: Opening


@dataclass(frozen=True, slots=True)
class Void:
    """It does not count. `ended` is the epoch that it ended, or CLOSED; `stated` is its envelope where it has one."""

    reason: VoidReason
    ended: int
    stated: Envelope | None = None

    @property
    def broken(self) -> bool:
        """True where no run of honest owners leads to this: the log was changed, or lost something."""
        return self.reason in _BROKEN


Verdict = Accepted | Part | Claimed | Void


def read_record(state: RunState, offset: int, value: bytes | None) -> tuple[RunState, Verdict]:
    """Judge the record at `offset`, which must be none that `state` has read already."""
    assert offset >= state.offset, f"offset {offset} was read already, the next is {state.offset}"
    try:
        envelope = decode_envelope(value or b"")
    except WireError:
        return _end(state, offset, VoidReason.UNREADABLE, None)
    assert value is not None
    if envelope.kind == RecordKind.CLAIM and envelope.parts == 1:
        return _open(state, offset, value, envelope)
    reason = _judge(state, offset, envelope)
    if reason is not None:
        return _end(state, offset, reason, envelope)
    return _accept(state, value, envelope)


def _judge(state: RunState, offset: int, envelope: Envelope) -> VoidReason | None:
    """Why this is not the owner's next record; None when it is."""
    if state.epoch == CLOSED:
        return VoidReason.NO_EPOCH
    if envelope.epoch != state.epoch:
        return VoidReason.OTHER_EPOCH
    if envelope.offset != offset:
        return VoidReason.OTHER_OFFSET
    if offset != state.offset:
        return VoidReason.HOLE
    if envelope.digest != (state.digest if state.chain is None else state.chain.digest):
        return VoidReason.DIGEST
    if envelope.opening != state.opening:
        return VoidReason.OPENING
    return None if _is_next_part(state.chain, envelope) else VoidReason.PART


def _is_next_part(chain: Chain | None, envelope: Envelope) -> bool:
    if chain is None:
        return envelope.part == 0 < envelope.parts
    first = chain.first
    expected = (first.kind, first.format, first.instance_id, first.parts, len(chain.bodies))
    return expected == (envelope.kind, envelope.format, envelope.instance_id, envelope.parts, envelope.part)


def _accept(state: RunState, value: bytes, envelope: Envelope) -> tuple[RunState, Verdict]:
    offset, chain = state.offset, state.chain
    digest = extend_digest(envelope.digest, value)
    first = envelope if chain is None else chain.first
    bodies = (envelope.body,) if chain is None else (*chain.bodies, envelope.body)
    if len(bodies) < first.parts:
        # Until the record is whole, what was accepted before it stays the last: a chain that breaks leaves no trace.
        waiting = replace(state, offset=offset + 1, opening=None, chain=Chain(first, bodies, digest))
        return waiting, Part(state.epoch, first.offset)
    body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
    accepted = Accepted(first.kind, first.format, first.epoch, first.instance_id, body, first.offset, offset, digest)
    return RunState(offset + 1, state.epoch, offset, digest), accepted


def _open(state: RunState, offset: int, value: bytes, envelope: Envelope) -> tuple[RunState, Claimed]:
    before = Opening(state.last_offset, state.digest)
    digest = extend_digest(state.digest, value)
    claimed = Claimed(offset, envelope.format, envelope.body, digest, state.epoch, before)
    return RunState(offset + 1, offset, offset, digest, before), claimed


def _end(state: RunState, offset: int, reason: VoidReason, stated: Envelope | None) -> tuple[RunState, Void]:
    closed = RunState(offset + 1, CLOSED, state.last_offset, state.digest)
    return closed, Void(reason, state.epoch, stated)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before it has its place."""

    kind: int
    format: int
    instance_id: str
    body: bytes


def encode_claim_record(format: int, body: bytes) -> bytes:  # noqa: A002 (the envelope's own word)
    """The value of a claim, which knows neither its epoch nor its offset."""
    return encode_envelope(Envelope(RecordKind.CLAIM, format, CLOSED, NOTHING, NO_DIGEST, "", body))


def encode_next(state: RunState, draft: Draft, bytes_max: int) -> tuple[RunState, tuple[bytes, ...]]:
    """The values that make `draft` the owner's next record, in parts no larger than `bytes_max`, and the state after them.

    The mirror of `read_record`: an owner that advances its tip with this needs to decode nothing of its own.
    """
    assert state.epoch != CLOSED, "only an owner appends"
    assert state.chain is None, "records do not interleave"
    room = bytes_max - _ENVELOPE_BYTES - 4 * len(draft.instance_id)
    assert room > 0, f"a record of {bytes_max} bytes has no room for its body"
    bodies = [draft.body[at : at + room] for at in range(0, len(draft.body), room)] or [b""]
    digest, opening, values = state.digest, state.opening, []
    for part, body in enumerate(bodies):
        offset = state.offset + part
        envelope = Envelope(
            draft.kind, draft.format, state.epoch, offset, digest, draft.instance_id, body, part, len(bodies), opening
        )
        value = encode_envelope(envelope)
        digest, opening = extend_digest(digest, value), None
        values.append(value)
    end = state.offset + len(bodies)
    return RunState(end, state.epoch, end - 1, digest), tuple(values)
