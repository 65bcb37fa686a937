"""A store over another that is never written: to look at a directory, and fold what is newer, without touching it."""

from collections.abc import Iterator, Sequence

from sortedcontainers import SortedDict

from .ports import Change, Store


class OverlayStore:
    """`base` with every write kept in memory above it (`partitions.ports.Store`). No base: an empty one."""

    def __init__(self, base: Store | None) -> None:
        self._base = base
        self._overlay: SortedDict = SortedDict()

    def get(self, key: bytes) -> bytes | None:
        if key in self._overlay:
            value: bytes | None = self._overlay[key]
            return value
        return None if self._base is None else self._base.get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        keys = self._overlay.irange(start, end, inclusive=(True, False), reverse=reverse)
        above: list[Change] = [(key, self._overlay[key]) for key in keys]
        below = iter(()) if self._base is None else self._base.scan(start, end, reverse=reverse)
        return _merge(above, below, reverse=reverse)

    def write(self, changes: Sequence[Change]) -> None:
        self._overlay.update(changes)

    def flush(self) -> None:
        """Nothing to make durable: the overlay is not meant to last."""

    def close(self) -> None:
        """Close the base as well."""
        self._overlay.clear()
        if self._base is not None:
            self._base.close()


def _merge(
    above: Sequence[Change], below: Iterator[tuple[bytes, bytes]], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Both in order of key; `above` wins where both have a key, and hides it where its value is None."""
    lower = next(below, None)
    for key, value in above:
        while lower is not None and (lower[0] > key if reverse else lower[0] < key):
            yield lower
            lower = next(below, None)
        if lower is not None and lower[0] == key:
            lower = next(below, None)
        if value is not None:
            yield key, value
    if lower is not None:
        yield lower
        yield from below
