"""Recovery: a store brought up to a claim, from where it stands or from the start of the log (R6, R14).

Rules of this file: a store is trusted only after the record that it names was read and its digest compared; whatever does not
fit is discarded and rebuilt; every record goes through the one reader (R3) and the one ledger.
"""

from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass

from perdure.actors.instance import InstanceState, apply_turn
from perdure.schemas.codec import decode_checkpoint, decode_claim, decode_level, decode_turn, extend_digest
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.records import NO_DIGEST, Opening, RecordKind, TurnBody

from .header import InstanceHeader, header_of, read_header
from .index import index_changes
from .instances import execution_part, read_state
from .keys import ANCHOR, outbox_key
from .ledger import Confirmed, take_changes
from .overlay import OverlayStore
from .ports import Change, HubIdentity, Log, LogRecord, Store, StoreCorrupt, Stores
from .reader import Accepted, RunState, Void, read_record
from .state import Anchor, PartitionState, decode_anchor, encode_anchor

BATCH_RECORDS = 500
STATES_CACHED = 2_000


class PartitionRefused(Exception):
    """This worker must not own the partition: another partition count or hash, a record or level that it cannot read, a
    clock that is off. The message says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A partition as of its claim. `before` is the accepted log before the claim, `digest` has the claim in it (R2)."""

    store: Store
    state: PartitionState
    anchor: Anchor
    opening: Opening
    digest: bytes
    records_read: int


class Fold:
    """Confirmed records on their way into a store, in batches. The owner has one live; recovery has one for the tail."""

    def __init__(
        self, store: Store, identity: HubIdentity, partition: int, anchor: Anchor | None, state: PartitionState
    ) -> None:
        self.store = store
        self.state = state
        self.partition = partition
        self._identity = identity
        self.anchor = anchor
        self._changes: list[Change] = []
        self._headers: dict[str, tuple[InstanceHeader | None, InstanceHeader | None]] = {}

    def take(self, turn: Confirmed) -> None:
        """Add one accepted TURN, PARTITION or FORGOTTEN record."""
        for cursor in turn.body.cursors:
            self._acknowledge(cursor.target, cursor.acked)
        self.state.apply_body(turn.body)
        self._changes.extend(take_changes(turn, self.partition))

    def _acknowledge(self, target: int, acked: int) -> None:
        known = self.state.acked.get(target, 0)
        self._changes.extend((outbox_key(target, sequence), None) for sequence in range(known + 1, acked + 1))

    def take_checkpoint(self, targets: dict[int, int]) -> None:
        """Add what a checkpoint says about delivery."""
        for target, acked in targets.items():
            if acked > self.state.acked.get(target, 0):
                self._acknowledge(target, acked)
                self.state.acked[target] = acked

    def show(self, instance_id: str, old: InstanceHeader | None, new: InstanceHeader | None) -> None:
        """State what readers see of an instance after this batch; the first `old` and the last `new` count."""
        first = self._headers.get(instance_id)
        self._headers[instance_id] = (first[0] if first is not None else old, new)

    def write(self, epoch: int, offset: int, previous: bytes, digest: bytes) -> list[Change]:
        """Write the batch with the place that it brings the store to (R5); return what was written."""
        for old, new in self._headers.values():
            self._changes.extend(index_changes(old, new))
        self._headers.clear()
        identity = self._identity
        self.anchor = Anchor(
            identity.cluster_id, identity.history_topic_id, self.partition, epoch, offset, previous, digest
        )
        self._changes.append((ANCHOR, encode_anchor(self.anchor, self.state)))
        changes, self._changes = self._changes, []
        self.store.write(changes)
        return changes


def read_only(log: Log, partition: int, base: Store | None) -> tuple[Store, int]:
    """The partition's state as of the end of the log, folded in memory over `base` where that can be trusted; for looking on
    while nobody owns it. Also the last accepted offset, -1 for none."""
    found = decode_anchor(value) if base is not None and (value := base.get(ANCHOR)) is not None else None
    if found is None or not _is_anchored(log, partition, found[0]):
        found = None
        if base is not None:
            base.close()
    anchor, state = found if found is not None else (None, PartitionState())
    store = OverlayStore(base if found is not None else None)
    tail = _Tail(log, Fold(store, log.identity, partition, anchor, state))
    start = anchor.offset + 1 if anchor is not None else 0
    for record in log.read_history(partition, start, log.span_history(partition).end):
        tail.take(record)
    tail.write()
    return store, tail.fold.anchor.offset if tail.fold.anchor is not None else -1


def open_store(log: Log, stores: Stores, partition: int) -> tuple[Store, Anchor | None, PartitionState]:
    """The partition's store if it can be trusted (R14), else a new one."""
    try:
        store = stores.open(partition)
        value = store.get(ANCHOR)
        if value is None:
            return store, None, PartitionState()
        found = decode_anchor(value)
        if found is not None and _is_anchored(log, partition, found[0]):
            return store, *found
        store.close()
    except StoreCorrupt:
        pass
    stores.discard(partition)
    return stores.open(partition), None, PartitionState()


def _is_anchored(log: Log, partition: int, anchor: Anchor) -> bool:
    """Read the record that the store names and compare identity and digest (R14)."""
    identity, span = log.identity, log.span_history(partition)
    if (anchor.cluster_id, anchor.topic_id, anchor.partition) != (
        identity.cluster_id,
        identity.history_topic_id,
        partition,
    ):
        return False
    if not span.start <= anchor.offset < span.end:
        return False
    record = next(iter(log.read_history(partition, anchor.offset, anchor.offset + 1)))
    return record.value is not None and extend_digest(anchor.previous, record.value) == anchor.digest


def restore(
    log: Log, stores: Stores, partition: int, claim_offset: int, clock_skew_ms_max: int
) -> Generator[Recovered | None, None, None]:
    """Fold the history up to the claim. Yields None between batches, so that the caller can do other things, and at last the
    result. Raises PartitionRefused, LogUnavailable, LogTruncated, StoreUnavailable."""
    store, anchor, state = open_store(log, stores, partition)
    try:
        tail = _Tail(log, Fold(store, log.identity, partition, anchor, state))
        start = anchor.offset + 1 if anchor is not None else 0
        for count, record in enumerate(log.read_history(partition, start, claim_offset + 1)):
            tail.take(record)
            if count % BATCH_RECORDS == BATCH_RECORDS - 1:
                tail.write()
                yield None
        tail.check_clock(clock_skew_ms_max)
        tail.write()
    except BaseException:
        store.close()
        raise
    assert tail.fold.anchor is not None, f"no claim at offset {claim_offset}"
    assert tail.opening is not None, f"no claim at offset {claim_offset}"
    yield Recovered(
        store, tail.fold.state, tail.fold.anchor, tail.opening, tail.fold.anchor.digest, claim_offset + 1 - start
    )


class _Tail:
    """Records of the log on their way into a fold."""

    def __init__(self, log: Log, fold: Fold) -> None:
        self.fold = fold
        self.opening: Opening | None = None
        self._skew_ms = 0
        self._identity = log.identity
        anchor = fold.anchor
        self._run = RunState() if anchor is None else RunState.after(anchor.offset, anchor.epoch, anchor.digest)
        self._place = (
            (-1, -1, NO_DIGEST, NO_DIGEST)
            if anchor is None
            else (anchor.epoch, anchor.offset, anchor.previous, anchor.digest)
        )
        self._states: OrderedDict[str, InstanceState | None] = OrderedDict()
        self._written: dict[str, InstanceHeader | None] = {}

    def take(self, record: LogRecord) -> None:
        before, offset = self._run, record.offset
        self._run, verdict = read_record(before, offset, record.value)
        if isinstance(verdict, Void) and verdict.broken:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {offset}: the log is broken, {verdict.reason.value}; run `perdure audit`"
            )
        if not isinstance(verdict, Accepted):
            return
        if verdict.kind == RecordKind.CLAIM:
            self._check_claim(verdict, record.timestamp_ms)
            self.opening = Opening(before.offset, before.digest)
        elif verdict.kind in (RecordKind.TURN, RecordKind.PARTITION, RecordKind.FORGOTTEN):
            self._take_turn(verdict, decode_turn(verdict.body, verdict.format))
        elif verdict.kind == RecordKind.CHECKPOINT:
            checkpoint = decode_checkpoint(verdict.body, verdict.format)
            self.fold.take_checkpoint({target.target: target.acked for target in checkpoint.targets})
        elif verdict.kind == RecordKind.LEVEL:
            self.fold.state.level = decode_level(verdict.body, verdict.format).level
        else:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {offset}: record kind {verdict.kind} is not known to this build"
            )
        self._place = (self._run.epoch, verdict.offset, verdict.previous, verdict.digest)

    def _check_claim(self, verdict: Accepted, timestamp_ms: int) -> None:
        claim = decode_claim(verdict.body, verdict.format)
        self._skew_ms = claim.time_ms - timestamp_ms
        expected = (self._identity.partition_count, "murmur2")
        if (claim.partition_count, claim.hash) != expected:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {verdict.offset}: the claim of {claim.owner} is for {claim.partition_count} partitions "
                f"by {claim.hash}, this hub has {expected[0]} by {expected[1]}; a hub's partition count never changes"
            )

    def check_clock(self, skew_ms_max: int) -> None:
        """Compare our clock with the log's, by the last claim, which is ours (R11)."""
        if abs(self._skew_ms) > skew_ms_max:
            raise PartitionRefused(
                f"partition {self.fold.partition}: this machine's clock is {self._skew_ms} ms off the log's; at most {skew_ms_max} ms are allowed"
            )

    def _take_turn(self, verdict: Accepted, body: TurnBody) -> None:
        name = verdict.instance_id
        before = self._state(name) if name else None
        after: InstanceState | None = None
        if name and verdict.kind != RecordKind.FORGOTTEN:
            decided, events = execution_part(body.decided, body.events)
            base = None if events and isinstance(events[0], ExecutionStarted) else before
            after = apply_turn(base, events, instance_id=name, time_ms=body.time_ms, decided=decided)
        self.fold.take(Confirmed(name, verdict.first_offset, verdict.format, body, verdict.body, before, after))
        if name:
            self._states[name] = after
            self._states.move_to_end(name)
            old = self._written[name] if name in self._written else read_header(self.fold.store, name)
            self._written[name] = new = header_of(after) if after is not None else None
            self.fold.show(name, old, new)

    def _state(self, name: str) -> InstanceState | None:
        # What is not here was trimmed by `write`, so the store has it.
        if name not in self._states:
            self._states[name] = (
                read_state(self.fold.store, name) if read_header(self.fold.store, name) is not None else None
            )
        return self._states[name]

    def write(self) -> None:
        epoch, offset, previous, digest = self._place
        if offset >= 0:
            self.fold.write(epoch, offset, previous, digest)
        self._written.clear()
        while len(self._states) > STATES_CACHED:
            self._states.popitem(last=False)
