"""Filling an empty store with a snapshot from the hub's topic (R14).

Rules of this file: the store names its own place last, and only when the checksum is right, so that half a snapshot is no store.
"""

from collections.abc import Generator, Iterator
from hashlib import blake2b

from perdure.schemas.codec import WireError, decode_chunk

from .keys import ANCHOR
from .ports import Change, SnapshotTopic, Store
from .snapshots import WINDOW_RECORDS, Kept, chunk_key, text_of
from .upload import CHECKSUM_BYTES

BATCH_ENTRIES = 1_000
ENTRY_BYTES_MAX = 64 << 20
_LONG_BITS = 70


class SnapshotBroken(Exception):
    """A snapshot that cannot be used: take an older one, or the log. The message says why."""


def load_snapshot(topic: SnapshotTopic, kept: Kept, store: Store) -> Generator[int, None, None]:
    """Fill `store`, which is empty, a batch at a time; yields the entries that are left. Raises SnapshotBroken: the store is then to be discarded."""
    manifest = kept.manifest
    checksum, entries = blake2b(digest_size=CHECKSUM_BYTES), Entries()
    batch: list[Change] = []
    anchor: list[Change] = []
    for piece in _read_pieces(topic, kept):
        checksum.update(piece)
        for entry in entries.take(piece):
            (anchor if entry[0] == ANCHOR else batch).append(entry)
        if len(batch) >= BATCH_ENTRIES:
            store.write(batch)
            batch = []
            yield max(0, manifest.entries - entries.count)
    if (checksum.digest(), entries.count, entries.rest) != (manifest.checksum, manifest.entries, b"") or not anchor:
        raise SnapshotBroken(
            f"the snapshot of partition {manifest.partition} as of offset {manifest.offset} is not what its manifest says"
        )
    store.write(batch)
    store.flush()
    store.write(anchor)
    store.flush()


def _read_pieces(topic: SnapshotTopic, kept: Kept) -> Iterator[bytes]:
    """The pieces, in order: that is how they were written, before the manifest. Others may have written in between."""
    manifest, span, wanted = kept.manifest, topic.span(kept.manifest.partition), 0
    near = max(span.start, kept.position - 2 * manifest.chunks - WINDOW_RECORDS)
    for start in dict.fromkeys((near, span.start)):
        for record in topic.read(manifest.partition, start, kept.position):
            if record.value is not None and text_of(record.key) == chunk_key(
                manifest.partition, manifest.offset, wanted
            ):
                yield _decode(record.value, wanted, kept)
                wanted += 1
        if wanted:
            break
    if wanted != manifest.chunks:
        raise SnapshotBroken(
            f"the snapshot of partition {manifest.partition} as of offset {manifest.offset} has {manifest.chunks} pieces, found {wanted}"
        )


def _decode(value: bytes, number: int, kept: Kept) -> bytes:
    try:
        return decode_chunk(value)
    except WireError as error:
        raise SnapshotBroken(f"piece {number} of the snapshot as of offset {kept.manifest.offset}: {error}") from error


class Entries:
    """Keys and values out of a stream that is cut anywhere. `rest` is what waits for the next piece."""

    def __init__(self) -> None:
        self.rest = b""
        self.count = 0

    def take(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """The entries that are whole now."""
        data, at = self.rest + piece, 0
        whole: list[tuple[bytes, bytes]] = []
        while (key := _take_sized(data, at)) is not None and (value := _take_sized(data, key[1])) is not None:
            whole.append((key[0], value[0]))
            at = value[1]
        self.rest = data[at:]
        if len(self.rest) > ENTRY_BYTES_MAX:
            raise SnapshotBroken(f"an entry of more than {ENTRY_BYTES_MAX} bytes")
        self.count += len(whole)
        return whole


def _take_sized(data: bytes, at: int) -> tuple[bytes, int] | None:
    """A length (an Avro long) and as many bytes, and where they end; None where not all of them are there."""
    size, shift = 0, 0
    while at < len(data):
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > _LONG_BITS:
            raise SnapshotBroken("a length that no entry has")
        if byte < 0x80:
            end = at + (size >> 1)
            return (data[at:end], end) if end <= len(data) else None
    return None
