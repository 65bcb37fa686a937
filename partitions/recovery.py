"""Recovery: a store brought up to a claim, from the best place there is: where it stands, a snapshot, a base, or the log's start
(R6, R14, R15).

Rules of this file: a store or snapshot is trusted only after the record that it names was read and its digest compared;
whatever does not fit is discarded, and the next best place is taken; below the start of the log nothing is read.
"""

from collections.abc import Generator
from dataclasses import dataclass

import structlog

from perdure.schemas.codec import extend_digest
from perdure.schemas.records import Opening

from .bases import find_base
from .catch_up import CatchUp, PartitionRefused
from .download import SnapshotBroken, load_snapshot
from .fold import Fold
from .keys import ANCHOR, LAST_KEY
from .overlay import OverlayStore
from .ports import Log, LogSpan, LogTruncated, Store, StoreCorrupt, Stores
from .reader import RunState
from .snapshots import is_of, read_shelf, wanted_of
from .state import Anchor, PartitionState, decode_anchor

BATCH_RECORDS = 500

_log = structlog.get_logger("perdure.recovery")


@dataclass(frozen=True, slots=True)
class Recovered:
    """A partition as of its claim. `opening` is the accepted log before the claim, `digest` has the claim in it (R2)."""

    store: Store
    state: PartitionState
    anchor: Anchor
    opening: Opening
    digest: bytes
    records_read: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """What there is of the history, up to the claim that a recovery goes up to (or any last record), how far the clocks of owner and log may be
    apart, and how many records a snapshot must spare to be worth its download."""

    span: LogSpan
    clock_skew_ms_max: int
    snapshot_ahead_records: int

    @property
    def offset(self) -> int:
        return self.span.end - 1


def restore(log: Log, stores: Stores, partition: int, claimed: Claimed) -> Generator[Recovered | int, None, None]:
    """Fold the history up to the claim. Yields between batches how much is left, so that the caller can do other things, and at last
    the result. Raises PartitionRefused, LogUnavailable, LogTruncated, StoreUnavailable."""
    caught_up = yield from catch_up_to(log, stores, partition, claimed)
    catch_up = caught_up.catch_up
    try:
        _check_clock(catch_up, claimed.clock_skew_ms_max)
        catch_up.check_whole()
    except BaseException:
        caught_up.store.close()
        raise
    fold = catch_up.fold
    assert fold.anchor is not None, f"no claim at offset {claimed.offset}"
    assert catch_up.opening is not None, f"no claim at offset {claimed.offset}"
    read = caught_up.records_read
    yield Recovered(caught_up.store, fold.state, fold.anchor, catch_up.opening, fold.anchor.digest, read)


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A store that is as of some end of the log, and the reader that brought it there and can go on."""

    store: Store
    catch_up: CatchUp
    records_read: int


def catch_up_to(log: Log, stores: Stores, partition: int, claimed: Claimed) -> Generator[int, None, CaughtUp]:
    """Open the best place there is and fold up to `claimed.offset`, that record included. Yields the records that are left, or the
    entries of a snapshot. Raises as `restore` does."""
    place = _StorePlace(stores, partition)
    try:
        opened = yield from _open_best(log, place, partition, claimed)
        catch_up, start = _begin(log, opened, partition, claimed.span)
        yield claimed.span.end - start
        for count, record in enumerate(log.read_history(partition, start, claimed.span.end)):
            catch_up.take(record)
            if catch_up.full:
                catch_up.write()
            if count % BATCH_RECORDS == BATCH_RECORDS - 1:
                yield claimed.offset - record.offset
        catch_up.write()
    except BaseException:
        place.close()
        raise
    return CaughtUp(opened.store, catch_up, claimed.span.end - start)


def read_only(log: Log, partition: int, base: Store | None) -> tuple[Store, int]:
    """The partition's state as of the end of the log, folded in memory over `base` where that can be trusted; for looking on
    while nobody owns it. Also the last accepted offset, -1 for none."""
    span = log.span_history(partition)
    found = _trusted(log, partition, base, span)
    if found is None and base is not None:
        base.close()
    store = OverlayStore(base if found is not None else None)
    catch_up, start = _begin(log, _Opened(store, *(found or (None, PartitionState()))), partition, span)
    for record in log.read_history(partition, start, span.end):
        catch_up.take(record)
    catch_up.check_whole()
    catch_up.write()
    anchor = catch_up.fold.anchor
    return store, anchor.offset if anchor is not None else -1


@dataclass(frozen=True, slots=True)
class _Opened:
    """A store and where it stands; no anchor: it is empty."""

    store: Store
    anchor: Anchor | None
    state: PartitionState


class _StorePlace:
    """Where the partition's store is: one is open at most, and whatever goes wrong it can be closed."""

    def __init__(self, stores: Stores, partition: int) -> None:
        self._stores = stores
        self._partition = partition
        self._store: Store | None = None

    def open(self) -> Store:
        self.close()
        self._store = self._stores.open(self._partition)
        return self._store

    def open_empty(self) -> Store:
        self.close()
        self._stores.discard(self._partition)
        return self.open()

    def close(self) -> None:
        if self._store is not None:
            store, self._store = self._store, None
            store.close()


def _open_best(log: Log, place: _StorePlace, partition: int, claimed: Claimed) -> Generator[int, None, _Opened]:
    """The partition's store where it can be trusted; a snapshot of another machine where that is much newer; else an empty one."""
    opened, end = _open_own(log, place, partition, claimed.span), claimed.offset
    there = opened.anchor.offset + 1 if opened.anchor is not None else 0
    readable = opened.anchor is not None or claimed.span.start == 0
    if log.snapshots is None or (readable and end - there < claimed.snapshot_ahead_records):
        return opened
    spoiled = False  # something of a snapshot is in the store
    wanted = wanted_of(log.identity.cluster_id, log.identity.history_topic_id)
    for kept in read_shelf(log.snapshots, partition, wanted).kept:
        if readable and kept.manifest.offset - there < claimed.snapshot_ahead_records:
            break
        if not is_of(kept.manifest, log, partition, end):
            continue
        # To open a store waits for the disk several times, so one that is empty already is taken as it is.
        fresh = opened.store if opened.anchor is None and not spoiled else place.open_empty()
        opened, spoiled = _Opened(fresh, None, PartitionState()), True
        try:
            yield from load_snapshot(log.snapshots, kept, fresh)
        except SnapshotBroken as error:
            _log.warning("snapshot discarded", partition=partition, reason=str(error))
            continue
        found = _trusted(log, partition, fresh, claimed.span)
        if found is not None:
            return _Opened(fresh, *found)
    return _Opened(place.open_empty(), None, PartitionState()) if spoiled else opened


def _open_own(log: Log, place: _StorePlace, partition: int, span: LogSpan) -> _Opened:
    """The store that this process has, if it can be trusted (R14), else an empty one."""
    try:
        store = place.open()
        found = _trusted(log, partition, store, span)
        if found is not None:
            return _Opened(store, *found)
        if next(store.scan(b"", LAST_KEY), None) is None:
            return _Opened(store, None, PartitionState())
    except StoreCorrupt as error:
        _log.warning("store discarded", partition=partition, reason=str(error))
    return _Opened(place.open_empty(), None, PartitionState())


def _trusted(log: Log, partition: int, store: Store | None, span: LogSpan) -> tuple[Anchor, PartitionState] | None:
    """Where a store stands, by its own word and the log's, of which `span` is there."""
    value = store.get(ANCHOR) if store is not None else None
    found = decode_anchor(value) if value is not None else None
    return found if found is not None and _is_anchored(log, partition, found[0], span) else None


def _is_anchored(log: Log, partition: int, anchor: Anchor, span: LogSpan) -> bool:
    """Read the record that the store names and compare identity and digest (R14)."""
    identity = log.identity
    theirs = (identity.cluster_id, identity.history_topic_id, partition)
    if (anchor.cluster_id, anchor.topic_id, anchor.partition) != theirs:
        _log.warning("store discarded", partition=partition, reason="it is of another partition, topic or cluster")
        return False
    if anchor.offset < span.start:
        return False
    if anchor.offset < span.end:
        record = next(iter(log.read_history(partition, anchor.offset, anchor.offset + 1)), None)
        if record is not None and extend_digest(anchor.previous, record.value or b"") == anchor.digest:
            return True
    # Only what was acknowledged is in a store. The log is the truth all the same.
    _log.error("history.records_gone", partition=partition, store=anchor.offset, end=span.end)
    return False


def _begin(log: Log, opened: _Opened, partition: int, span: LogSpan) -> tuple[CatchUp, int]:
    """A reader at the place where the store stands; at a base or the log's start where it is empty."""
    fold = Fold(opened.store, log.identity, partition, opened.anchor, opened.state)
    if opened.anchor is not None:
        anchor = opened.anchor
        run = RunState.after(anchor.offset, anchor.epoch, anchor.digest)
        return CatchUp(fold, log.identity, run), anchor.offset + 1
    if span.start == 0:
        return CatchUp(fold, log.identity, RunState()), 0
    base = find_base(log, partition, span.end)
    if base is None:
        raise LogTruncated(
            f"partition {partition}: the history begins at offset {span.start}, and what is left of it names no base to begin at; "
            "records were deleted that no owner let go of (retention, or DeleteRecords by hand)"
        )
    return CatchUp(fold, log.identity, base.run, from_base=True), base.offset


def _check_clock(catch_up: CatchUp, skew_ms_max: int) -> None:
    """Compare our clock with the log's, by the last claim, which is ours (R11)."""
    if abs(catch_up.clock_skew_ms) > skew_ms_max:
        raise PartitionRefused(
            f"partition {catch_up.fold.partition}: this machine's clock is {catch_up.clock_skew_ms} ms off the log's; at most {skew_ms_max} ms are allowed"
        )


__all__ = ["CaughtUp", "Claimed", "PartitionRefused", "Recovered", "catch_up_to", "read_only", "restore"]
