"""Snapshots on the hub's topic: a partition's whole store as of a checkpoint, for a machine with an empty disk (R14).

A snapshot is the store's content as one stream of bytes, cut into pieces (`upload.py`), and a manifest, which comes last and
names what it is of. Keys hold the checkpoint's offset, so that a stale owner overwrites nothing; the two newest are kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from perdure.schemas.codec import UnknownFormat, WireError, decode_envelope, decode_manifest, extend_digest
from perdure.schemas.records import RecordKind, SnapshotManifest

from .ports import Log, LogRecord, SnapshotTopic
from .state import STORE_FORMAT

SNAPSHOTS_KEPT = 2
WINDOW_RECORDS = 64
_MANIFEST = "/manifest"
# Some 25 GB; what a manifest states is counted through before a piece of it was seen.
CHUNKS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Kept:
    """One snapshot on the topic: its manifest and where that stands."""

    manifest: SnapshotManifest
    position: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the end of a partition's snapshot topic holds: whole snapshots, the newest first, and the keys of all else."""

    kept: tuple[Kept, ...] = ()
    stray: tuple[str, ...] = field(default_factory=tuple)

    def superseded(self) -> Iterator[str]:
        """The keys to delete once another snapshot is there."""
        yield from self.stray
        for kept in self.kept[SNAPSHOTS_KEPT - 1 :]:
            yield from keys_of(kept.manifest)


def chunk_key(partition: int, offset: int, number: int) -> str:
    return f"{partition}/{offset:020d}/{number:08d}"


def manifest_key(partition: int, offset: int) -> str:
    return f"{partition}/{offset:020d}{_MANIFEST}"


def keys_of(manifest: SnapshotManifest) -> Iterator[str]:
    """Every key of a snapshot; the manifest's first, since without it the others are no snapshot."""
    yield manifest_key(manifest.partition, manifest.offset)
    for number in range(manifest.chunks):
        yield chunk_key(manifest.partition, manifest.offset, number)


def text_of(key: bytes | None) -> str:
    """A key of the topic; a stranger's may be anything."""
    return (key or b"").decode(errors="replace")


Wanted = Callable[[SnapshotManifest], bool]


def wanted_of(cluster_id: str, topic_id: str) -> Wanted:
    """Those of one history that this build can load. Any other spares nobody anything: it must not count as the newest."""
    home = (cluster_id, topic_id, STORE_FORMAT)
    return lambda manifest: (manifest.cluster_id, manifest.topic_id, manifest.format) == home


def read_shelf(topic: SnapshotTopic, partition: int, wanted: Wanted) -> Shelf:
    """What the topic's end holds: the newest whole snapshots, and what was left by uploads that did not end. Blocks."""
    span = topic.span(partition)
    end, size = span.end, WINDOW_RECORDS
    seen: dict[str, tuple[int, bytes | None]] = {}
    shelf = Shelf()
    while end > span.start:
        start = max(span.start, end - size)
        window = {
            text_of(record.key): (record.offset, _looked_at(record)) for record in topic.read(partition, start, end)
        }
        # The windows go from the end to the start, and the latest record of a key is the one that counts.
        seen = {**window, **seen}
        shelf = _shelf_of(partition, seen, wanted)
        if len(shelf.kept) >= SNAPSHOTS_KEPT:
            break
        end, size = start, 4 * size
    return shelf


def _looked_at(record: LogRecord) -> bytes | None:
    """A manifest whole; of a piece only that it is there, since all of them together are a store."""
    if record.value is None or text_of(record.key).endswith(_MANIFEST):
        return record.value
    return record.value[:1]


def _shelf_of(partition: int, seen: dict[str, tuple[int, bytes | None]], wanted: Wanted) -> Shelf:
    kept: list[Kept] = []
    stray: list[str] = []
    for key, (position, value) in seen.items():
        if value is None or not key.endswith(_MANIFEST):
            continue
        try:
            manifest = decode_manifest(value)
        except (WireError, UnknownFormat):
            stray.append(key)
            continue
        if not 0 < manifest.chunks <= CHUNKS_MAX or not wanted(manifest):
            stray.append(key)
        elif key == manifest_key(partition, manifest.offset):
            kept.append(Kept(manifest, position))
    kept.sort(key=lambda each: each.manifest.offset, reverse=True)
    whole = {key for each in kept for key in keys_of(each.manifest)}
    stray += [key for key, (_, value) in seen.items() if value and not key.endswith(_MANIFEST) and key not in whole]
    return Shelf(tuple(kept), tuple(stray))


def is_of(manifest: SnapshotManifest, log: Log, partition: int, end: int) -> bool:
    """Whether a wanted snapshot is of this log before `end`: its partition, and the checkpoint that it names with its digest (R14)."""
    span = log.span_history(partition)
    if manifest.partition != partition or not span.start <= manifest.offset < min(end, span.end):
        return False
    value = next(iter(log.read_history(partition, manifest.offset, manifest.offset + 1))).value or b""
    try:
        envelope = decode_envelope(value)
    except WireError:
        return False
    stated_place = (RecordKind.CHECKPOINT, manifest.epoch, manifest.digest)
    return (envelope.kind, envelope.epoch, extend_digest(envelope.digest, value)) == stated_place
