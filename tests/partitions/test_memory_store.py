"""A crash of the store in memory loses what one of RocksDB may lose."""

import pytest

from perdure.partitions.memory.store import MemoryStores
from perdure.partitions.ports import StoreUnavailable


@pytest.mark.parametrize(("kept", "found"), [(0, b"flushed"), (1, b"one"), (2, None), (3, b"three"), (9, b"three")])
def test_a_crash_keeps_a_prefix_of_the_unflushed_writes(kept: int, found: bytes | None) -> None:
    stores = MemoryStores()
    store = stores.open(0)
    store.write([(b"k", b"flushed"), (b"stays", b"")])
    store.flush()
    store.write([(b"k", b"never seen"), (b"k", b"one")])
    store.write([(b"k", None), (b"stays", None), (b"stays", b"")])
    store.write([(b"k", b"three")])
    stores.crash(0, writes_kept=kept)
    again = stores.open(0)

    assert (found, b"") == (again.get(b"k"), again.get(b"stays"))


def test_a_store_is_dead_after_a_crash_and_its_successor_is_not() -> None:
    stores = MemoryStores()
    dead = stores.open(0)
    stores.crash(0)
    store = stores.open(0)
    dead.close()
    store.write([(b"k", b"v")])

    with pytest.raises(StoreUnavailable, match="closed"):
        dead.get(b"k")
    assert b"v" == store.get(b"k")
