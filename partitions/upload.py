"""Upload: one snapshot on its way to the hub's topic, a little at each step, beside the turns that go on (R14)."""

from collections.abc import Iterator
from enum import Enum, auto
from hashlib import blake2b

from perdure.schemas.codec import encode_chunk, encode_manifest
from perdure.schemas.records import SnapshotManifest
from perdure.schemas.writer import encode_bytes

from .keys import LAST_KEY
from .ports import BufferFull, SnapshotTopic, Store
from .snapshots import SNAPSHOTS_KEPT, Kept, Shelf, chunk_key, manifest_key
from .state import STORE_FORMAT, Anchor

CHUNK_BYTES_MAX = 256 << 10
_CHUNK_OVERHEAD_BYTES = 16
CHUNKS_OUT_MAX = 8
ENTRIES_PER_STEP_MAX = 2_000
CHECKSUM_BYTES = 32


class _Pause(Enum):
    """Where an upload waits: until the next step, or until all that was sent is there."""

    STEP = auto()
    DELIVERED = auto()


_Sending = tuple[str, bytes | None] | _Pause


class Upload:
    """A snapshot of `store` as it is when the upload begins; `anchor` is that of the checkpoint that was written last."""

    def __init__(self, topic: SnapshotTopic, store: Store, anchor: Anchor, shelf: Shelf) -> None:
        self._topic = topic
        self._anchor = anchor
        self._shelf = shelf
        # The scan is of the store as it is now, whatever is written while it goes on.
        self._plan = self._sendings(store.scan(b"", LAST_KEY))
        self._next: _Sending | None = None
        self._out = 0
        self._entries = 0
        self.manifest: SnapshotManifest | None = None
        self.failure = ""
        self.done = False

    @property
    def after(self) -> Shelf:
        """What the topic holds when it is done."""
        assert self.manifest is not None
        return Shelf((Kept(self.manifest, -1), *self._shelf.kept[: SNAPSHOTS_KEPT - 1]))

    def step(self) -> bool:
        """Go on; true if anything was sent. At the end `done` is true or `failure` says why not."""
        sent = False
        while not self.done and not self.failure:
            if self._next is None:
                self._next = next(self._plan, None)
            sending = self._next
            if sending is None:
                self.done = not self._out
                break
            if sending is _Pause.STEP:
                self._next = None
                break
            if sending is _Pause.DELIVERED:
                if self._out:
                    break
                self._next = None
                continue
            if self._out >= CHUNKS_OUT_MAX or not self._publish(*sending):
                break
            self._next, sent = None, True
        return sent

    def _publish(self, key: str, value: bytes | None) -> bool:
        try:
            self._topic.publish(self._anchor.partition, key, value, self._take_report)
        except BufferFull:
            return False
        self._out += 1
        return True

    def _take_report(self, error: str | None) -> None:
        self._out -= 1
        # What is old and was not deleted takes space until the next snapshot; anything else makes it no snapshot.
        if error is not None:
            self.failure = self.failure or error

    def _sendings(self, entries: Iterator[tuple[bytes, bytes]]) -> Iterator[_Sending]:
        # 1. The pieces.
        checksum, chunks = blake2b(digest_size=CHECKSUM_BYTES), 0
        size = min(CHUNK_BYTES_MAX, self._topic.record_bytes_max - _CHUNK_OVERHEAD_BYTES)
        for piece in self._read_pieces(entries, size):
            if not piece:
                yield _Pause.STEP
                continue
            checksum.update(piece)
            yield chunk_key(self._anchor.partition, self._anchor.offset, chunks), encode_chunk(piece)
            chunks += 1
        # 2. All of them are there before the manifest says so.
        yield _Pause.DELIVERED
        self.manifest = self._describe(checksum.digest(), chunks)
        yield manifest_key(self._anchor.partition, self._anchor.offset), encode_manifest(self.manifest)
        # 3. It is there before an older one goes.
        yield _Pause.DELIVERED
        for key in self._shelf.superseded():
            yield key, None

    def _read_pieces(self, entries: Iterator[tuple[bytes, bytes]], size: int) -> Iterator[bytes]:
        """The content as pieces of one size, the last one apart; an empty one says that enough was read for one step."""
        out = bytearray()
        for count, (key, value) in enumerate(entries, 1):
            out += encode_bytes(key)
            out += encode_bytes(value)
            while len(out) >= size:
                yield bytes(out[:size])
                del out[:size]
            if not count % ENTRIES_PER_STEP_MAX:
                yield b""
            self._entries = count
        if out:
            yield bytes(out)

    def _describe(self, checksum: bytes, chunks: int) -> SnapshotManifest:
        anchor = self._anchor
        return SnapshotManifest(
            anchor.cluster_id,
            anchor.topic_id,
            anchor.partition,
            anchor.epoch,
            anchor.offset,
            anchor.digest,
            STORE_FORMAT,
            checksum,
            chunks,
            self._entries,
        )
