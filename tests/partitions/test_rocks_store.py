"""What only a store on disk has: locks, crashes, corruption, a full disk, readers beside the owner."""

import subprocess
import sys
from pathlib import Path

import pytest

from perdure.partitions.ports import StoreCorrupt, StoreLocked, StoreUnavailable
from perdure.partitions.rocksdb import RocksStores

ALL = (b"", b"\xff")


def run(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `program` in another process, with `stores` there."""
    prelude = f"""
import os, resource, signal
from pathlib import Path
from perdure.partitions.ports import *
from perdure.partitions.rocksdb import RocksStores
stores = RocksStores(Path({str(directory)!r}))
"""
    return subprocess.run([sys.executable, "-c", prelude + program], capture_output=True, text=True, timeout=60)


def filled(directory: Path, entries: int = 2000) -> Path:
    """Leave a closed store with some blocks on disk, and return its path."""
    stores = RocksStores(directory)
    store = stores.open(0)
    store.write([(b"%08d" % at, b"%064d" % (at * 7919)) for at in range(entries)])
    store.close()
    stores.close()
    return directory / "partition-0"


def test_a_directory_in_use_is_refused_with_its_path(tmp_path: Path) -> None:
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    other = run("try: stores.open(1)\nexcept StoreLocked as error: print(error)", tmp_path)
    store.close()
    stores.close()
    after = run("stores.open(1).close(); print('opened')", tmp_path)

    assert f"the store directory {tmp_path} is in use by another process" in other.stdout
    assert "opened\n" == after.stdout


def test_a_store_opened_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    stores = RocksStores(tmp_path)
    store = stores.open(0)

    with pytest.raises(StoreLocked, match="partition-0"):
        stores.open(0)
    store.close()
    stores.close()


def test_an_unfinished_scan_keeps_nothing_locked(tmp_path: Path) -> None:
    filled(tmp_path)
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    scan = store.scan(*ALL)
    next(scan)
    store.close()
    stores.open(0).close()
    stores.close()

    assert [] == list(scan)


def test_a_killed_process_leaves_a_state_that_once_was(tmp_path: Path) -> None:
    killed = run(
        """
store = stores.open(0)
for count in range(30000):
    store.write([(b"count", b"%d" % count), (b"row%d" % count, bytes(200))])
    if count == 1000: store.flush()
os.kill(os.getpid(), signal.SIGKILL)
""",
        tmp_path,
    )
    store = RocksStores(tmp_path).open(0)
    count = int(store.get(b"count") or b"-1")
    rows = len(list(store.scan(b"row", b"rox")))
    store.close()

    assert -9 == killed.returncode
    assert count >= 1000
    assert count + 1 == rows


def test_a_corrupt_block_is_noticed_by_get_and_by_scan(tmp_path: Path) -> None:
    path = filled(tmp_path)
    (file,) = path.glob("*.sst")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 64] = bytes(64)
    file.write_bytes(content)
    store = RocksStores(tmp_path).open(0)

    with pytest.raises(StoreCorrupt, match="partition-0"):
        list(store.scan(*ALL))
    with pytest.raises(StoreCorrupt, match="partition-0"):
        list(store.scan(*ALL, reverse=True))
    with pytest.raises(StoreCorrupt, match="partition-0"):
        [store.get(b"%08d" % at) for at in range(2000)]
    store.close()


FLIP_EACH = """
import struct
path = Path({path!r})
pristine = {{file.name: file.read_bytes() for file in path.iterdir()}}
(name,) = [name for name in pristine if name.startswith("MANIFEST-")]
at, bits = 0, []
while at + 7 <= len(pristine[name]):
    bits += range(8 * at, 8 * (at + 7))
    at += 7 + struct.unpack_from("<H", pristine[name], at + 4)[0]
found = 0
for bit in bits:
    for file in path.iterdir():
        file.unlink()
    for each, content in pristine.items():
        (path / each).write_bytes(content)
    damaged = bytearray(pristine[name])
    damaged[bit // 8] ^= 1 << bit % 8
    (path / name).write_bytes(damaged)
    try:
        stores.open(0).close()
    except StoreCorrupt:
        found += 1
print(found, len(bits))
"""


def test_no_bit_that_is_flipped_in_a_manifest_keeps_a_store_from_being_opened_or_found_corrupt(tmp_path: Path) -> None:
    """RocksDB spins for ever on one bit of each record's header, with the interpreter's lock in its hand."""
    path = filled(tmp_path)
    found, bits = map(int, run(FLIP_EACH.format(path=str(path)), tmp_path).stdout.split())

    assert bits >= 5 * 7 * 8
    assert found >= bits * 0.9


@pytest.mark.parametrize("missing", ["*.sst", "MANIFEST-*", "CURRENT", "FORMAT"])
def test_a_store_with_a_file_missing_is_corrupt_and_can_be_discarded(tmp_path: Path, missing: str) -> None:
    path = filled(tmp_path)
    for file in path.glob(missing):
        file.unlink()
    stores = RocksStores(tmp_path)

    with pytest.raises(StoreCorrupt, match="partition-0"):
        stores.open(0)
    stores.discard(0)
    store = stores.open(0)
    assert [] == list(store.scan(*ALL))
    store.close()
    stores.close()


def test_a_store_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    (path / "FORMAT").write_text("99\n")
    stores = RocksStores(tmp_path)

    with pytest.raises(StoreCorrupt, match="format '99'; this build reads 1"):
        stores.open(0)
    with pytest.raises(StoreCorrupt, match="format '99'"):
        stores.open_reader(0)
    stores.close()


def test_a_full_disk_makes_the_store_unavailable_and_keeps_what_was_flushed(tmp_path: Path) -> None:
    # A limit on the size of files stands for the full disk: no mount is needed.
    other = run(
        """
store = stores.open(0)
store.write([(b"kept", b"1")])
store.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    for count in range(64):
        store.write([(b"%d" % count, os.urandom(200_000))])
        store.flush() if count % 16 == 15 else None
except StoreUnavailable as error: print(error)
""",
        tmp_path,
    )
    store = RocksStores(tmp_path).open(0)
    kept = store.get(b"kept")
    store.close()

    assert f"the store at {tmp_path}/partition-0 cannot be used" in other.stdout
    assert b"1" == kept


def test_a_directory_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(StoreUnavailable, match="file"):
        RocksStores(tmp_path / "file").open(0)


def test_a_reader_sees_what_is_flushed_while_the_owner_writes(tmp_path: Path) -> None:
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    store.write([(b"flushed", b"1")])
    store.flush()
    store.write([(b"not yet", b"2")])
    seen = run("reader = stores.open_reader(0); print(list(reader.scan(b'', b'z'))); reader.close()", tmp_path)
    reader = RocksStores(tmp_path).open_reader(0)
    assert reader is not None
    with pytest.raises(StoreUnavailable):
        reader.write([(b"k", b"v")])
    reader.close()
    store.close()
    stores.close()

    assert "[(b'flushed', b'1')]\n" == seen.stdout


def test_a_reader_of_no_store_creates_nothing(tmp_path: Path) -> None:
    assert RocksStores(tmp_path / "none").open_reader(0) is None
    assert not (tmp_path / "none").exists()
