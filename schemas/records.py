"""Log records: what may stand on `<hub>.history` (R1, R2, R8, R15), as values.

The envelope is frozen for ever. A record's body is decoded only by whoever needs it; `Envelope.body` is its bytes.
"""

from enum import IntEnum

from .events import HistoryEvent
from .frozen import dataclass

DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)
FIRST_LEVEL = 1
"""The format level of a new hub, and of what is written before the hub's level is known: claims (R12)."""
LEVEL = 1
"""The newest format level that this build reads and can write."""
DEAD_LETTER = -1


class RecordKind(IntEnum):
    """Kinds of history record; the numbers are on the wire and never reused."""

    CLAIM = 1
    TURN = 2
    PARTITION = 3
    CHECKPOINT = 4
    CARRIED = 5
    FORGOTTEN = 6
    LEVEL = 7
    TURNS = 8  # several turns in one record: reserved (R1)
    ATTEMPT = 9


@dataclass(frozen=True, slots=True)
class Opening:
    """Stated by the first record after a claim: the last accepted record before that claim, and the digest up to it (R2)."""

    last_offset: int
    last_digest: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every history record states. `offset` is where the writer expects it to land; a claim cannot know (both -1).

    `digest` is the running digest of all that was accepted before this record, the epoch's claim included.
    """

    kind: int
    format: int
    epoch: int
    offset: int
    digest: bytes
    instance_id: str
    body: bytes
    part: int = 0
    parts: int = 1
    opening: Opening | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """A message decided by a turn. `target` is a partition, or DEAD_LETTER; `sequence` is dense for each target, from 1."""

    target: int
    sequence: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Cursor:
    """All sends to `target` up to and including `acked` are delivered."""

    target: int
    acked: int


@dataclass(frozen=True, slots=True)
class SourceMark:
    """The highest sequence taken from one source (R7)."""

    topic_id: str
    partition: int
    sequence: int


@dataclass(frozen=True, slots=True)
class TurnBody:
    """The body of a TURN, PARTITION or FORGOTTEN record.

    `consumed`: inbox offsets taken by this record; with it, every inbox offset below `inbox_mark` is taken (R8).
    `locals`: sequences of sends to the own partition taken by this record. `decided`: the code saw the events; where false
    they are facts without a decision (held, suspended or deferred) and the next deciding turn delivers them.
    `released`: the owner stopped in order; nothing that it dispatched is lost (last record of an epoch).
    """

    time_ms: int
    consumed: tuple[int, ...] = ()
    inbox_mark: int = 0
    locals: tuple[int, ...] = ()
    decided: bool = True
    events: tuple[HistoryEvent, ...] = ()
    sends: tuple[Send, ...] = ()
    cursors: tuple[Cursor, ...] = ()
    sources: tuple[SourceMark, ...] = ()
    released: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Who takes the partition, when and from where (R2). `level` is the newest format level that its owner reads (R12)."""

    owner: str
    time_ms: int
    address: str
    partition_count: int
    hash: str = "murmur2"
    level: int = LEVEL
    base: int = -1


@dataclass(frozen=True, slots=True)
class TargetState:
    """The outbox towards one target: the highest sequence decided, and up to which all is delivered."""

    target: int
    decided: int
    acked: int


@dataclass(frozen=True, slots=True)
class Tried:
    """The owners that tried an instance, among others and alone, and were not seen since (R13)."""

    instance_id: str
    among: tuple[str, ...]
    alone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tip at this place in the run (R15). `owner` states it, to be reached at `address`; `tried` are the instances that owners may have died of (R13)."""

    time_ms: int
    inbox_mark: int
    consumed_above: tuple[int, ...] = ()
    sources: tuple[SourceMark, ...] = ()
    targets: tuple[TargetState, ...] = ()
    level: int = LEVEL
    base: int = -1
    owner: str = ""
    address: str = ""
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class CarriedTurn:
    """One turn as its own record had it: `offset` is where that stood, `body` is a TurnBody of that format."""

    offset: int
    format: int
    body: bytes


@dataclass(frozen=True, slots=True)
class CarriedHistory:
    """An execution's whole history again, complete up to `as_of`, so that what is older can be trimmed (R15)."""

    instance_id: str
    as_of: int
    turns: tuple[CarriedTurn, ...]


@dataclass(frozen=True, slots=True)
class LevelRaised:
    """Every worker of the hub reads `level` now; records may be written at it (R12)."""

    level: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """Turns of these instances are about to be taken, by an owner that recovers with care; they survived once the same owner
    states the next attempt (R13)."""

    time_ms: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotManifest:
    """What a snapshot is of (R14). `offset` is that of a checkpoint, and `digest` covers the log up to and including it. `format`
    is the store's, `checksum` that of the `chunks` pieces of the store's content, which has `entries` entries."""

    cluster_id: str
    topic_id: str
    partition: int
    epoch: int
    offset: int
    digest: bytes
    format: int
    checksum: bytes
    chunks: int
    entries: int
