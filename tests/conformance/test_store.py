"""Every store does the same (partitions/ports.py): RocksDB, memory, and an overlay over either."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.partitions.memory.store import MemoryStores
from perdure.partitions.overlay import OverlayStore
from perdure.partitions.ports import Change, Store, Stores, StoreUnavailable
from perdure.partitions.rocksdb import RocksStores

BASE: list[Change] = [(b"a", b"1"), (b"c", b"3"), (b"e", b"5")]


def memory(_: Path) -> Store:
    return MemoryStores().open(0)


def rocks(directory: Path) -> Store:
    return RocksStores(directory).open(0)


def overlay(_: Path) -> Store:
    return OverlayStore(None)


def overlay_over_rocks(directory: Path) -> Store:
    stores = RocksStores(directory)
    owner = stores.open(0)
    owner.write([(b"b", b"below"), (b"e", b"below"), (b"z", b"below")])
    owner.close()
    stores.close()
    base = RocksStores(directory).open_reader(0)
    assert base is not None
    store = OverlayStore(base)
    store.write([(b"b", None), (b"e", None), (b"z", None)])
    return store


@pytest.fixture(params=[memory, rocks, overlay, overlay_over_rocks], ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    make: Callable[[Path], Store] = request.param
    store = make(tmp_path)
    yield store
    store.close()


@pytest.fixture(params=["memory", "rocks"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    stores: Stores = MemoryStores() if request.param == "memory" else RocksStores(tmp_path / "slot")
    yield stores
    stores.close()


def test_what_was_written_is_read(store: Store) -> None:
    store.write(BASE)

    assert (b"1", None) == (store.get(b"a"), store.get(b"b"))


def test_empty_keys_and_values_are_values(store: Store) -> None:
    store.write([(b"", b"root"), (b"k", b"")])

    assert (b"root", b"") == (store.get(b""), store.get(b"k"))
    assert [(b"", b"root"), (b"k", b"")] == list(store.scan(b"", b"\xff"))


def test_later_changes_of_one_write_win(store: Store) -> None:
    store.write([(b"k", b"1"), (b"k", None), (b"k", b"2"), (b"gone", b"x"), (b"gone", None)])

    assert [(b"k", b"2")] == list(store.scan(b"", b"\xff"))


def test_a_none_deletes_and_deleting_nothing_is_fine(store: Store) -> None:
    store.write(BASE)
    store.write([(b"c", None), (b"never", None)])

    assert [(b"a", b"1"), (b"e", b"5")] == list(store.scan(b"", b"\xff"))


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (b"", b"\xff", [b"a", b"c", b"e"]),
        (b"a", b"e", [b"a", b"c"]),
        (b"b", b"d", [b"c"]),
        (b"c", b"c", []),
        (b"d", b"b", []),
        (b"e", b"e\x00", [b"e"]),
        (b"f", b"\xff", []),
    ],
)
def test_a_scan_takes_its_start_and_not_its_end_in_both_directions(
    store: Store, start: bytes, end: bytes, found: list[bytes]
) -> None:
    store.write(BASE)

    assert found == [key for key, _ in store.scan(start, end)]
    assert found[::-1] == [key for key, _ in store.scan(start, end, reverse=True)]


def test_a_scan_is_as_of_its_start(store: Store) -> None:
    store.write(BASE)
    scan = store.scan(b"", b"\xff")
    first = next(scan)
    store.write([(b"b", b"new"), (b"c", None)])

    assert BASE == [first, *scan]


def test_nothing_can_be_done_with_a_closed_store(stores: Stores) -> None:
    store = stores.open(0)
    store.close()

    for use in (lambda: store.get(b"k"), lambda: store.write(BASE), lambda: store.scan(b"", b"z"), store.flush):
        with pytest.raises(StoreUnavailable, match="closed"):
            use()
    store.close()


def test_a_store_survives_close(stores: Stores) -> None:
    store = stores.open(3)
    store.write(BASE)
    store.close()
    again = stores.open(3)
    found = list(again.scan(b"", b"\xff"))
    again.close()

    assert BASE == found


def test_partitions_do_not_see_each_other(stores: Stores) -> None:
    one, two = stores.open(1), stores.open(2)
    one.write(BASE)
    found = list(two.scan(b"", b"\xff"))
    one.close()
    two.close()

    assert [] == found


def test_a_discarded_store_is_empty_again(stores: Stores) -> None:
    store = stores.open(0)
    store.write(BASE)
    store.flush()
    store.close()
    stores.discard(0)
    stores.discard(0)
    store = stores.open(0)
    found = store.get(b"a")
    store.close()

    assert found is None


keys = st.binary(max_size=3)
writes = st.lists(st.lists(st.tuples(keys, st.none() | st.binary(max_size=2)), max_size=6), max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=writes, start=keys, end=keys)
def test_every_store_is_a_sorted_map(store: Store, writes: list[list[Change]], start: bytes, end: bytes) -> None:
    store.write([(key, None) for key, _ in store.scan(b"", b"\xff" * 9)])
    model: dict[bytes, bytes] = {}
    for changes in writes:
        store.write(changes)
        for key, value in changes:
            model.pop(key, None)
            if value is not None:
                model[key] = value
    expected = sorted((key, value) for key, value in model.items() if start <= key < end)

    assert expected == list(store.scan(start, end))
    assert expected[::-1] == list(store.scan(start, end, reverse=True))
    assert all(model.get(key) == store.get(key) for changes in writes for key, _ in changes)
