"""History records, manifests and the digest: values to bytes and back.

The first byte of a value says what it is: 0xD0 a history record, 0xD1 an inbox message, 0xD2 a reply, 0xD3 a snapshot's
manifest, 0xD4 a piece of one. The rest is Avro. An envelope's `format` is the level that brought its body's schema; a build reads every format
that ever shipped and raises UnknownFormat on the others (R12).
"""

from hashlib import blake2b
from typing import Any, TypeVar, cast

from .avro import UnknownFormat, WireError, shipped
from .events import HistoryEvent
from .reader import make_decode
from .records import (
    DIGEST_BYTES,
    FIRST_LEVEL,
    Attempt,
    CarriedHistory,
    Checkpoint,
    Claim,
    Envelope,
    LevelRaised,
    RecordKind,
    SnapshotManifest,
    TurnBody,
)
from .shapes import shape_of
from .vocabulary import TURN_FORMATS, VOCABULARY, Vocabulary
from .writer import encode_bytes, make_encode

T = TypeVar("T")
HISTORY_MARK = b"\xd0"
MANIFEST_MARK = b"\xd3"
CHUNK_MARK = b"\xd4"

# A new format of a body is a new line here and a schema in v<level>/ beside the old one.
FORMATS: dict[type[Any], tuple[int, ...]] = {
    TurnBody: TURN_FORMATS,
    Claim: (1,),
    Checkpoint: (1,),
    CarriedHistory: (1,),
    LevelRaised: (1,),
    Attempt: (1,),
}
BODIES: dict[int, type[Any]] = {
    RecordKind.CLAIM: Claim,
    RecordKind.TURN: TurnBody,
    RecordKind.PARTITION: TurnBody,
    RecordKind.CHECKPOINT: Checkpoint,
    RecordKind.CARRIED: CarriedHistory,
    RecordKind.FORGOTTEN: TurnBody,
    RecordKind.LEVEL: LevelRaised,
    RecordKind.ATTEMPT: Attempt,
}
_SCHEMAS = {(cls, level): shipped(cls.__name__, level) for cls, levels in FORMATS.items() for level in levels}
_ENCODES = {key: make_encode(schema) for key, schema in _SCHEMAS.items() if key[0] is not TurnBody}
_DECODES = {key: shape_of(key[0]).decoder(schema) for key, schema in _SCHEMAS.items() if key[0] is not TurnBody}
_ENVELOPE = shipped("Envelope", 1)
_encode_envelope = make_encode(_ENVELOPE, mark=HISTORY_MARK)
_decode_envelope = shape_of(Envelope).decoder(_ENVELOPE)
_MANIFEST = shipped("SnapshotManifest", 1)
_encode_manifest = make_encode(_MANIFEST, mark=MANIFEST_MARK)
_decode_manifest = shape_of(SnapshotManifest).decoder(_MANIFEST)
_decode_chunk = make_decode(shipped("SnapshotChunk", 1))


def format_of(kind: int, level: int) -> int:
    """The format in which a hub at `level` writes the body of a record of this kind."""
    return max(known for known in FORMATS[BODIES[kind]] if known <= level)


def knows_format(kind: int, format: int) -> bool:  # noqa: A002 (the envelope's own word)
    """Whether this build can read the body of such a record."""
    return kind in BODIES and format in FORMATS[BODIES[kind]]


def extend_digest(previous: bytes, value: bytes) -> bytes:
    """The running digest after one more accepted record, given its whole value (R1)."""
    return blake2b(previous + value, digest_size=DIGEST_BYTES).digest()


def encode_envelope(envelope: Envelope) -> bytes:
    return _encode_envelope(envelope)


def decode_envelope(value: bytes) -> Envelope:
    return _decode_envelope(strip_mark(value, HISTORY_MARK, "history record"))


def strip_mark(value: bytes, mark: bytes, where: str) -> bytes:
    """What follows the byte that says what a value is."""
    if value[:1] != mark:
        raise WireError(where, f"first byte 0x{mark.hex()}", f"0x{value[:1].hex()}" if value else "nothing")
    return value[1:]


def encode_turn(turn: TurnBody, vocabulary: Vocabulary = VOCABULARY) -> bytes:
    return vocabulary.encode_turn(turn)


def decode_turn(body: bytes, format: int, vocabulary: Vocabulary = VOCABULARY) -> TurnBody:  # noqa: A002
    decode = vocabulary.decode_turn.get(format)
    if decode is None:
        raise UnknownFormat(RecordKind.TURN, format)
    return decode(body)


def encode_claim(claim: Claim) -> bytes:
    return _encode(RecordKind.CLAIM, claim, FIRST_LEVEL)


def decode_claim(body: bytes, format: int) -> Claim:  # noqa: A002
    return _decode(Claim, RecordKind.CLAIM, body, format)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    return _encode(RecordKind.CHECKPOINT, checkpoint, checkpoint.level)


def decode_checkpoint(body: bytes, format: int) -> Checkpoint:  # noqa: A002
    return _decode(Checkpoint, RecordKind.CHECKPOINT, body, format)


def encode_carried(carried: CarriedHistory, level: int = VOCABULARY.level) -> bytes:
    return _encode(RecordKind.CARRIED, carried, level)


def decode_carried(body: bytes, format: int) -> CarriedHistory:  # noqa: A002
    return _decode(CarriedHistory, RecordKind.CARRIED, body, format)


def encode_level(raised: LevelRaised, level: int = VOCABULARY.level) -> bytes:
    return _encode(RecordKind.LEVEL, raised, level)


def decode_level(body: bytes, format: int) -> LevelRaised:  # noqa: A002
    return _decode(LevelRaised, RecordKind.LEVEL, body, format)


def encode_manifest(manifest: SnapshotManifest) -> bytes:
    return _encode_manifest(manifest)


def decode_manifest(value: bytes) -> SnapshotManifest:
    return _decode_manifest(strip_mark(value, MANIFEST_MARK, "snapshot manifest"))


def encode_chunk(data: bytes) -> bytes:
    """A piece of a snapshot."""
    return CHUNK_MARK + encode_bytes(data)


def decode_chunk(value: bytes) -> bytes:
    data: bytes = _decode_chunk(strip_mark(value, CHUNK_MARK, "snapshot chunk"))["data"]
    return data


def encode_attempt(attempt: Attempt, level: int = VOCABULARY.level) -> bytes:
    return _encode(RecordKind.ATTEMPT, attempt, level)


def decode_attempt(body: bytes, format: int) -> Attempt:  # noqa: A002
    return _decode(Attempt, RecordKind.ATTEMPT, body, format)


def encode_event(event: HistoryEvent, vocabulary: Vocabulary = VOCABULARY) -> bytes:
    """The body of an event as it stands in a turn, beside its kind."""
    return vocabulary.encode_event(event)[1]


def decode_event(kind: int, body: bytes, vocabulary: Vocabulary = VOCABULARY) -> HistoryEvent:
    """The event of a kind; a kind that `vocabulary` does not know gives UnknownEvent (R12)."""
    return vocabulary.decode_event(kind, body)


def _encode(kind: int, body: Any, level: int) -> bytes:
    return _ENCODES[BODIES[kind], format_of(kind, level)](body)


def _decode(cls: type[T], kind: int, body: bytes, format: int) -> T:  # noqa: A002
    if not knows_format(kind, format):
        raise UnknownFormat(kind, format)
    return cast("T", _DECODES[cls, format](body))
