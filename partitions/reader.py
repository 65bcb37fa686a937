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

from dataclasses import replace
from enum import Enum

from perdure.schemas.codec import WireError, decode_envelope, extend_digest
from perdure.schemas.frozen import dataclass
from perdure.schemas.records import NO_DIGEST, Envelope, Opening, RecordKind

CLOSED = -1
NOTHING = -1
_ANY_OPENING = Opening(-2, b"")


@dataclass(frozen=True, slots=True)
class Chain:
    """The parts of a record that is not whole yet: what the first one states, the bodies, and the digest up to them."""

    first: Envelope
    bodies: tuple[bytes, ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a reader stands. `offset` and `digest` are of the last accepted record, claims included; `epoch` is the open one
    or CLOSED; `next_offset` is the first offset not read yet.

    `opening` is what the next record has to state as the first after its claim; None when it is not the first.
    """

    offset: int = NOTHING
    epoch: int = CLOSED
    digest: bytes = NO_DIGEST
    next_offset: int = 0
    opening: Opening | None = None
    chain: Chain | None = None

    @classmethod
    def after(cls, offset: int, epoch: int, digest: bytes) -> "RunState":
        """The state of a reader that has just accepted the record at `offset`, which `digest` covers (R14, R15).

        Right after a claim it takes what the first record states of the time before on trust: the digest vouches for it.
        """
        return cls(offset, epoch, digest, offset + 1, _ANY_OPENING if offset == epoch else None)


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
    CLAIM = "it says that it is a claim, and states what no claim can know"


_BROKEN = frozenset({VoidReason.HOLE, VoidReason.DIGEST, VoidReason.OPENING, VoidReason.PART, VoidReason.CLAIM})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A whole record that counts. A claim is one, with its own offset as its epoch.

    `first_offset` is that of its first part, `offset` that of its last; `previous` and `digest` are the running digest before
    and after the last part.
    """

    kind: int
    format: int
    epoch: int
    instance_id: str
    body: bytes
    first_offset: int
    offset: int
    previous: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """It will count when the rest of its record follows."""

    epoch: int
    first_offset: int


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


Verdict = Accepted | Part | Void


def read_record(state: RunState, offset: int, value: bytes | None) -> tuple[RunState, Verdict]:
    """Judge the record at `offset`, which must be none that `state` has read already."""
    assert offset >= state.next_offset, f"offset {offset} was read already, the next is {state.next_offset}"
    try:
        envelope = decode_envelope(value or b"")
    except WireError:
        return _end(state, offset, VoidReason.UNREADABLE, None)
    assert value is not None
    if envelope.kind == RecordKind.CLAIM and envelope.parts == 1:
        # A turn whose kind was changed would otherwise void, in good order, all that its owner wrote after it.
        if _states_more(envelope):
            return _end(state, offset, VoidReason.CLAIM, envelope)
        return _open(state, offset, value, envelope)
    reason = _judge(state, offset, envelope)
    if reason is not None:
        return _end(state, offset, reason, envelope)
    return _accept(state, value, envelope)


def _states_more(claim: Envelope) -> bool:
    """True for what says that it is a claim and yet states where it stands (R2)."""
    return (claim.epoch, claim.offset, claim.digest, claim.opening) != (CLOSED, NOTHING, NO_DIGEST, None)


def _judge(state: RunState, offset: int, envelope: Envelope) -> VoidReason | None:
    """Why this is not the owner's next record; None when it is."""
    if state.epoch == CLOSED:
        return VoidReason.NO_EPOCH
    if envelope.epoch != state.epoch:
        return VoidReason.OTHER_EPOCH
    if envelope.offset != offset:
        return VoidReason.OTHER_OFFSET
    if offset != state.next_offset:
        return VoidReason.HOLE
    if envelope.digest != (state.digest if state.chain is None else state.chain.digest):
        return VoidReason.DIGEST
    if envelope.opening != state.opening and (state.opening is not _ANY_OPENING or envelope.opening is None):
        return VoidReason.OPENING
    return None if _is_next_part(state.chain, envelope) else VoidReason.PART


def _is_next_part(chain: Chain | None, envelope: Envelope) -> bool:
    if chain is None:
        return envelope.part == 0 < envelope.parts
    first = chain.first
    expected = (first.kind, first.format, first.instance_id, first.parts, len(chain.bodies))
    return expected == (envelope.kind, envelope.format, envelope.instance_id, envelope.parts, envelope.part)


def _accept(state: RunState, value: bytes, envelope: Envelope) -> tuple[RunState, Accepted | Part]:
    offset, chain = envelope.offset, state.chain
    digest = extend_digest(envelope.digest, value)
    first = envelope if chain is None else chain.first
    bodies = (envelope.body,) if chain is None else (*chain.bodies, envelope.body)
    if len(bodies) < first.parts:
        # Until the record is whole, what was accepted before it stays the last: a chain that breaks leaves no trace.
        waiting = replace(state, next_offset=offset + 1, opening=None, chain=Chain(first, bodies, digest))
        return waiting, Part(state.epoch, first.offset)
    body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
    accepted = Accepted(
        first.kind,
        first.format,
        first.epoch,
        first.instance_id,
        body,
        first.offset,
        offset,
        envelope.digest,
        digest,
    )
    return RunState(offset, state.epoch, digest, offset + 1), accepted


def _open(state: RunState, offset: int, value: bytes, claim: Envelope) -> tuple[RunState, Accepted]:
    digest = extend_digest(state.digest, value)
    accepted = Accepted(
        kind=claim.kind,
        format=claim.format,
        epoch=offset,
        instance_id=claim.instance_id,
        body=claim.body,
        first_offset=offset,
        offset=offset,
        previous=state.digest,
        digest=digest,
    )
    return RunState(offset, offset, digest, offset + 1, Opening(state.offset, state.digest)), accepted


def _end(state: RunState, offset: int, reason: VoidReason, stated: Envelope | None) -> tuple[RunState, Void]:
    return RunState(state.offset, CLOSED, state.digest, offset + 1), Void(reason, state.epoch, stated)
