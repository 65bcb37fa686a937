"""The store on RocksDB: one small database for each partition, in one directory for each process slot (R14).

Rules of this file: the write-ahead log is off, because the history is the log; with one column family a flush makes durable
everything up to it, so what a crash leaves is always a state that once was. `rocksdict` raises bare `Exception`s and keeps a
database open while any handle of it lives, so nothing of it leaves this file.
"""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

import structlog
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from ..ports import Change, StoreCorrupt, StoreLocked, StoreUnavailable
from ..private import make_private, open_private
from .manifest import find_damage

FORMAT = "1"
_log = structlog.get_logger("perdure.store")
# Texts of the environment's faults; what is left when a store cannot be opened is a fault of the store itself.
_LOCKED = ("lock hold by current process", "While lock file")
_UNAVAILABLE = (
    "No space left",
    "Permission denied",
    "Too many open files",
    "Read-only file system",
    "quota exceeded",
    "File too large",
)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Memory of one process slot, shared by all its partitions, and the open files of each."""

    cache_bytes_max: int = 64 << 20
    write_buffers_bytes_max: int = 32 << 20
    write_buffer_bytes: int = 4 << 20
    open_files_max: int = 64


class RocksStores:
    """The stores below `directory`, which belongs to this process from the first `open` or `discard` until `close`."""

    def __init__(self, directory: Path, settings: StoreSettings | None = None) -> None:
        self._directory = directory
        self._settings = settings or StoreSettings()
        self._cache = Cache(self._settings.cache_bytes_max)
        # Buffers are charged to the cache, so `cache_bytes_max` bounds both. A writer is never stalled by the bound.
        self._buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            self._settings.write_buffers_bytes_max, allow_stall=False, cache=self._cache
        )
        self._lock: IO[str] | None = None

    def hold(self) -> None:
        """Take the directory now. Raises StoreLocked, NotPrivate, StoreUnavailable."""
        self._hold_slot()

    def open(self, partition: int) -> "RocksStore":
        """Open or create the store of `partition`. Raises StoreLocked, StoreCorrupt or StoreUnavailable."""
        self._hold_slot()
        path = self._path(partition)
        try:
            make_private(path, ("*",))
            _check_format(path)
        except OSError as error:
            raise StoreUnavailable(f"cannot use the store at {path}: {error}") from error
        return RocksStore(path, _open(path, self._options(self._settings.open_files_max), AccessType.read_write()))

    def open_reader(self, partition: int) -> "RocksStore | None":
        """Open read-only what is flushed now, beside the process that owns it; None where there is no store yet."""
        path = self._path(partition)
        if not (path / "CURRENT").exists():
            return None
        _check_format(path)
        # All files are opened at once: the owner may delete them, and an open one stays readable.
        return RocksStore(path, _open(path, self._options(-1), AccessType.read_only(error_if_log_file_exist=False)))

    def discard(self, partition: int) -> None:
        """Delete the store of `partition`, which must be closed."""
        self._hold_slot()
        path = self._path(partition)
        try:
            if path.exists():
                shutil.rmtree(path)
        except OSError as error:
            raise StoreUnavailable(f"cannot delete the store at {path}: {error}") from error

    def close(self) -> None:
        """Let another process have the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _path(self, partition: int) -> Path:
        return self._directory / f"partition-{partition}"

    def _hold_slot(self) -> None:
        if self._lock is not None:
            return
        try:
            make_private(self._directory, ("lock", "partition-*"))
            lock = open(self._directory / "lock", "w", opener=open_private)  # noqa: SIM115 - held until the stores are closed
        except OSError as error:
            raise StoreUnavailable(f"cannot use the store directory {self._directory}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreLocked(
                f"the store directory {self._directory} is in use by another process; give each process a directory of its own"
            ) from error
        self._lock = lock

    def _options(self, open_files_max: int) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(create_if_missing=True)
        options.set_write_buffer_size(self._settings.write_buffer_bytes)
        options.set_write_buffer_manager(self._buffers)
        options.set_compression_type(DBCompressionType.lz4())
        # Each turn writes all over the keys, so that by levels every few buffers a whole level is written again.
        options.set_compaction_style(DBCompactionStyle.universal())
        options.set_max_open_files(open_files_max)
        options.set_max_file_opening_threads(1)  # it starts them all for each open, also where there is no file
        options.set_manifest_preallocation_size(64 << 10)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10, block_based=False)
        table.set_cache_index_and_filter_blocks(v=True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(v=True)
        options.set_block_based_table_factory(table)
        return options


class RocksStore:
    """One partition's store (`partitions.ports.Store`). Closing it ends its scans and flushes it."""

    def __init__(self, path: Path, db: Rdict) -> None:
        self._path = path
        self._db: Rdict | None = db
        self._scans: WeakSet[Any] = WeakSet()
        self._write_options = WriteOptions()
        # A property, which rocksdict's stubs call a method.
        self._write_options.disable_wal = True  # type: ignore[assignment, method-assign]  # pyright: ignore[reportAttributeAccessIssue]

    def get(self, key: bytes) -> bytes | None:
        db = self._db
        if db is None:
            raise self._closed()
        try:
            value: bytes | None = db.get(key)
        except Exception as error:
            raise _fault(self._path, error) from error
        return value

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if self._db is None:
            raise self._closed()
        entries = self._scan_down(self._db, start, end) if reverse else self._scan_up(self._db, start, end)
        # An unfinished scan would keep the database, and its lock, open after `close`.
        self._scans.add(entries)
        return entries

    def write(self, changes: Sequence[Change]) -> None:
        db = self._db
        if db is None:
            raise self._closed()
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in changes:
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            db.write(batch, self._write_options)
        except Exception as error:
            raise _fault(self._path, error) from error

    def flush(self) -> None:
        if self._db is None:
            raise self._closed()
        try:
            self._db.flush(wait=True)
        except Exception as error:
            raise _fault(self._path, error) from error

    def close(self) -> None:
        for entries in list(self._scans):
            entries.close()
        db, self._db = self._db, None
        if db is None:
            return
        try:
            db.close()
        except Exception as error:  # noqa: BLE001 - RocksDB's errors have no common type
            # It flushes first. What a full disk does not take is read from the log again, as after a crash.
            _log.warning("store.not_flushed", reason=str(_fault(self._path, error)))

    # `Rdict.items` would be shorter, but it takes a corrupt block for the end and ignores a lower bound.
    def _scan_up(self, db: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(end)
        try:
            at = db.iter(bounds)
            at.seek(start)
            take_key, take_value, go_on = at.key, at.value, at.next
            while (key := take_key()) is not None:  # None: it is no more `valid`, which would be one call more
                yield key, take_value()
                go_on()
            at.status()
        except Exception as error:
            raise _fault(self._path, error) from error

    def _scan_down(self, db: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            at = db.iter()
            at.seek_for_prev(end)
            if at.valid() and at.key() == end:
                at.prev()
            while at.valid() and (key := at.key()) >= start:
                yield key, at.value()
                at.prev()
            at.status()
        except Exception as error:
            raise _fault(self._path, error) from error

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable(f"the store at {self._path} is closed")


def _open(path: Path, options: Options, access: AccessType) -> Rdict:
    try:
        damage = find_damage(path)
    except OSError as error:
        raise StoreUnavailable(f"cannot use the store at {path}: {error}") from error
    if damage:
        raise StoreCorrupt(f"the store at {path} is corrupt: {damage}")
    try:
        return Rdict(str(path), options, access_type=access)
    except Exception as error:
        fault = _fault(path, error)
        if isinstance(fault, StoreUnavailable) and not any(text in str(error) for text in _UNAVAILABLE):
            raise StoreCorrupt(f"the store at {path} cannot be opened: {error}") from error
        raise fault from error


def _fault(path: Path, error: Exception) -> Exception:
    """What one of `rocksdict`'s errors means; only its text tells."""
    text = str(error)
    if any(part in text for part in _UNAVAILABLE):
        return StoreUnavailable(f"the store at {path} cannot be used: {text}")
    if any(part in text for part in _LOCKED):
        return StoreLocked(f"the store at {path} is in use: {text}")
    if "Corruption" in text:
        return StoreCorrupt(f"the store at {path} is corrupt: {text}")
    return StoreUnavailable(f"the store at {path} cannot be used: {text}")


def _check_format(path: Path) -> None:
    """Write the store's format beside a new store; refuse one that this build does not know."""
    file = path / "FORMAT"
    if not file.exists():
        if (path / "CURRENT").exists():
            raise StoreCorrupt(f"the store at {path} names no format; this build reads {FORMAT}")
        with open(file, "w", opener=open_private) as new:
            new.write(FORMAT + "\n")
    found = file.read_text().strip()
    if found != FORMAT:
        raise StoreCorrupt(f"the store at {path} is of format {found!r}; this build reads {FORMAT}")
