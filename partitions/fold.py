"""Fold: confirmed records on their way into a store, in batches. The owner has one live; catching up has one for the log's tail.

Rules of this file: the store changes by whole batches, each with the place in the log that it brings the store to (R5, I5).
"""

from collections.abc import Sequence
from dataclasses import replace

import orjson

from perdure.actors.instance import InstanceState, apply_turn
from perdure.schemas.codec import decode_turn
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.records import CarriedHistory, Checkpoint, Claim

from .header import InstanceHeader, progress_change
from .index import index_changes
from .instances import execution_part
from .keys import ANCHOR, CHECKPOINT, checkpoint_key, end_of, outbox_key, parse_checkpoint_key
from .ledger import Confirmed, carry_changes, instance_changes, take_changes
from .ports import Change, HubIdentity, Store
from .state import NO_BASE, Anchor, PartitionState, encode_anchor

# Of two checkpoints that lie closer together than this part of their age, one is forgotten: a base may be that much too old.
AGE_PARTS = 8


class Fold:
    """`state` is the partition's as of the last record taken, `epoch` the one that it is of."""

    def __init__(
        self, store: Store, identity: HubIdentity, partition: int, anchor: Anchor | None, state: PartitionState
    ) -> None:
        self.store = store
        self.state = state
        self.partition = partition
        self.anchor = anchor
        self.epoch = anchor.epoch if anchor is not None else -1
        self._identity = identity
        self._checkpoints = [parse_checkpoint_key(key) for key, _ in store.scan(CHECKPOINT, end_of(CHECKPOINT))]
        self._changes: dict[bytes, bytes | None] = {}
        self._headers: dict[str, tuple[InstanceHeader | None, InstanceHeader | None]] = {}

    def take(self, turn: Confirmed) -> None:
        """Add one accepted TURN, PARTITION or FORGOTTEN record."""
        for cursor in turn.body.cursors:
            self._acknowledge(cursor.target, cursor.acked, self.state.decided.get(cursor.target, 0))
        self.state.apply_body(turn.body)
        self.state.deaths.take_body(turn.instance_id, turn.body, forgotten=turn.after is None)
        self._changes.update(take_changes(turn, self.partition))

    def _acknowledge(self, target: int, acked: int, decided: int) -> None:
        """Forget what is delivered. Raises ValueError for more than was ever sent, which no owner states."""
        known = self.state.acked.get(target, 0)
        if acked > decided:
            raise ValueError(f"{acked} messages to target {target} are said to be delivered, and {decided} were sent")
        self._changes.update((outbox_key(target, sequence), None) for sequence in range(known + 1, acked + 1))

    def take_claim(self, offset: int, claim: Claim) -> None:
        """Add a claim: its epoch is its offset."""
        self.epoch = offset
        if not self.state.released and claim.owner != self.state.deaths.owner:
            self.state.alive_since = offset
        self.state.deaths.take_claim(claim.owner, claim.time_ms, released=self.state.released)
        self.state.base = max(self.state.base, claim.base)
        self.state.address = claim.address

    def take_checkpoint(self, offset: int, checkpoint: Checkpoint, *, names_base: bool) -> None:
        """Add what a checkpoint says about delivery, and that it might be a base itself."""
        for target in checkpoint.targets:
            if target.acked > self.state.acked.get(target.target, 0):
                self._acknowledge(target.target, target.acked, self.state.decided.get(target.target, 0))
                self.state.acked[target.target] = target.acked
        self.state.time_ms = max(self.state.time_ms, checkpoint.time_ms)
        if names_base:
            self.state.base = max(self.state.base, checkpoint.base)
        decided = [[target.target, target.decided] for target in checkpoint.targets]
        self._changes[checkpoint_key(offset, checkpoint.time_ms)] = orjson.dumps(decided)
        self._checkpoints.append((offset, checkpoint.time_ms))
        gone = thin_checkpoints(self._checkpoints, self.state.base)
        self._checkpoints = [each for each in self._checkpoints if each not in gone]
        self._changes.update((checkpoint_key(*each), None) for each in gone)

    def take_level(self, level: int) -> None:
        """Add that the partition is written at `level` from here on (R12)."""
        self.state.level = max(self.state.level, level)

    def take_carried(self, before: InstanceState, offset: int) -> InstanceState:
        """Add that a history which is whole here was appended again at `offset`; return the instance's state."""
        self._changes.update(carry_changes(before, offset))
        return replace(before, carried_at=offset)

    def take_carried_whole(self, carried: CarriedHistory, offset: int) -> InstanceState:
        """Add a history of which nothing was known here. Its sends are the partition's, and told by a checkpoint."""
        state: InstanceState | None = None
        for turn in carried.turns:
            body = decode_turn(turn.body, turn.format)
            decided, events = execution_part(body.decided, body.events)
            before = None if events and isinstance(events[0], ExecutionStarted) else state
            state = apply_turn(before, events, instance_id=carried.instance_id, time_ms=body.time_ms, decided=decided)
            confirmed = Confirmed(carried.instance_id, turn.offset, turn.format, body, turn.body, before, state)
            self._changes.update(instance_changes(confirmed))
        assert state is not None, f"a carried history of {carried.instance_id!r} without a turn"
        return self.take_carried(state, offset)

    def take_attempt(self, instances: Sequence[str]) -> None:
        """Add what an owner is about to try (R13)."""
        self.state.deaths.take_attempt(instances)

    def show(self, instance_id: str, old: InstanceHeader | None, new: InstanceHeader | None) -> None:
        """State what readers see of an instance after this batch; the first `old` and the last `new` count."""
        first = self._headers.get(instance_id)
        self._headers[instance_id] = (first[0] if first is not None else old, new)

    def show_progress(self, standing: bytes, state: InstanceState) -> None:
        """State that of an instance which this batch shows only once nothing but its progress has changed."""
        key, value = progress_change(standing, state)
        self._changes[key] = value

    def write(self, epoch: int, offset: int, previous: bytes, digest: bytes) -> list[Change]:
        """Write the batch with the place that it brings the store to (R5); return what was written."""
        for old, new in self._headers.values():
            self._changes.update(index_changes(old, new))
        self._headers.clear()
        identity = self._identity
        self.anchor = Anchor(
            identity.cluster_id, identity.history_topic_id, self.partition, epoch, offset, previous, digest
        )
        self._changes[ANCHOR] = encode_anchor(self.anchor, self.state)
        changes, self._changes = list(self._changes.items()), {}
        self.store.write(changes)
        return changes


def thin_checkpoints(checkpoints: Sequence[tuple[int, int]], base: int) -> list[tuple[int, int]]:
    """Which of these (offset, time), oldest first, to forget: those below the base, and those that others stand in for."""
    gone = [each for each in checkpoints if base != NO_BASE and each[0] < base]
    left = [each for each in checkpoints if base == NO_BASE or each[0] >= base]
    newest = left[-1][1] if left else 0
    kept: list[tuple[int, int]] = []
    for each in left:
        # The middle one of three goes when its neighbours lie close together for their age.
        if len(kept) >= 2 and (each[1] - kept[-2][1]) * AGE_PARTS < newest - each[1]:
            gone.append(kept.pop())
        kept.append(each)
    return gone
