"""The store in memory, for simulation: `crash` loses what RocksDB would lose."""

from collections.abc import Iterator, Sequence
from itertools import islice

from sortedcontainers import SortedDict

from ..ports import Change, StoreLocked, StoreUnavailable


class MemoryStores:
    """Stores that live as long as this object; each partition's survives `close` and loses unflushed writes in a `crash`."""

    def __init__(self) -> None:
        self._content: dict[int, SortedDict] = {}
        self._opened: dict[int, MemoryStore] = {}

    def open(self, partition: int) -> "MemoryStore":
        if partition in self._opened:
            raise StoreLocked(f"the store of partition {partition} in memory is in use")
        content = self._content.setdefault(partition, SortedDict())
        store = self._opened[partition] = self._make(partition, content)
        return store

    def _make(self, partition: int, content: SortedDict) -> "MemoryStore":
        return MemoryStore(partition, content, self._opened)

    def discard(self, partition: int) -> None:
        if partition in self._opened:
            raise StoreLocked(f"the store of partition {partition} in memory is in use")
        self._content.pop(partition, None)

    def crash(self, partition: int, writes_kept: int = 0) -> None:
        """End the open store as a dying process would: of the writes since its flush only the first `writes_kept` stay."""
        if (store := self._opened.pop(partition, None)) is not None:
            store.lose_unflushed(writes_kept)

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryStore:
    """One partition's store (`partitions.ports.Store`)."""

    def __init__(self, partition: int, content: SortedDict, opened: "dict[int, MemoryStore]") -> None:
        self._partition = partition
        self._opened = opened
        self._content: SortedDict | None = content
        # What each unflushed write replaced: [(key, value before)], oldest write first.
        self._undo: list[list[Change]] = []

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._map().get(key)
        return value

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        content = self._map()
        # As of now, like an iterator of RocksDB: a write during the scan is not seen.
        keys = list(content.irange(start, end, inclusive=(True, False), reverse=reverse))
        return iter([(key, content[key]) for key in keys])

    def write(self, changes: Sequence[Change]) -> None:
        content = self._map()
        self._undo.append([(key, content.get(key)) for key, _ in changes])
        _apply_changes(content, changes)

    def flush(self) -> None:
        self._map()
        self._undo.clear()

    def close(self) -> None:
        if self._content is not None:
            self._content = None
            self._opened.pop(self._partition, None)

    def lose_unflushed(self, writes_kept: int) -> None:
        """Undo all unflushed writes but the first `writes_kept`, and end."""
        content = self._map()
        for before in reversed(list(islice(self._undo, writes_kept, None))):
            _apply_changes(content, before[::-1])
        self._content = None

    def _map(self) -> SortedDict:
        if self._content is None:
            raise StoreUnavailable(f"the store of partition {self._partition} in memory is closed")
        return self._content


def _apply_changes(content: SortedDict, changes: Sequence[Change]) -> None:
    for key, value in changes:
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
