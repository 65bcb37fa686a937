"""Retention: what an owner lets go of, when its hub does not keep histories for ever (R15).

An instance leaves by a record, once its time after its end is over. The log is let go of up to a base: a confirmed checkpoint of
that age, after everything that is still wanted and began before it was carried forward, and all that was sent before it
was acknowledged. What is carried is what outlives the retention; the rest costs nothing.

Rules of this file: it looks at the confirmed state to see what is done, and at the tip to see what is under way; it decides, and
`Tenure` appends.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import orjson

from perdure.actors.instance import InstanceState
from perdure.schemas.events import NEVER

from .fold import Fold
from .instances import Slot
from .keys import (
    BEGINNING,
    CHECKPOINT,
    ENDED,
    LOCAL,
    beginnings_before,
    end_of,
    ended_before,
    parse_beginning_key,
    parse_checkpoint_key,
    parse_ended_key,
)
from .ledger import begins_at
from .state import NO_BASE, PartitionState

FORGET_MAX = 200
CARRY_MAX = 50
LOOKS_PER_RETENTION = 20
LOOK_MS_MIN, LOOK_MS_MAX = 100, 60_000


@dataclass(frozen=True, slots=True)
class Target:
    """A checkpoint that is to become the base, and the sends that were decided before it, by target."""

    offset: int
    decided: dict[int, int]


class Retention:
    """What is to be let go of on one owned partition. `get` finds an instance on the tip."""

    def __init__(self, fold: Fold, tip: PartitionState, get: Callable[[str], Slot], ms: int) -> None:
        self._store = fold.store
        self._partition = fold.partition
        self._confirmed = fold.state
        self._tip = tip
        self._get = get
        self._ms = ms
        self._every_ms = max(LOOK_MS_MIN, min(LOOK_MS_MAX, ms // LOOKS_PER_RETENTION))
        self._forget_at_ms = 0
        self._carry_at_ms = 0
        self._target: Target | None = None
        self.ready = NO_BASE
        """The base that the next checkpoint may name."""
        self.waits_for_acks = False

    def take_expired(self, now_ms: int) -> list[str]:
        """Ended instances whose time is over, a few at a time."""
        if now_ms < self._forget_at_ms:
            return []
        entries = list(islice(self._store.scan(ENDED, ended_before(now_ms - self._ms)), FORGET_MAX))
        if len(entries) < FORGET_MAX:
            self._forget_at_ms = now_ms + self._every_ms
        names = [parse_ended_key(key) for key, _ in entries]
        return [name for ended_ms, name in names if self._has_ended(self._get(name).state, ended_ms)]

    def _has_ended(self, state: InstanceState | None, ended_ms: int) -> bool:
        """The entry is of what is there on the tip: not forgotten already, nor begun anew."""
        return state is not None and state.status.terminal and state.updated_at_ms == ended_ms

    def take_uncarried(self, now_ms: int) -> Iterator[Slot]:
        """Instances to carry forward now; when there is nothing left to wait for, `ready` names the base. One at a time: each is to
        have its record before the next is looked up, since a slot without one may be evicted then (I9)."""
        if now_ms < self._carry_at_ms or self.ready != NO_BASE:
            return
        target = self._target = self._target or self._choose(now_ms)
        if target is None:
            self._carry_at_ms = now_ms + self._every_ms
            return
        entries = list(islice(self._store.scan(BEGINNING, beginnings_before(target.offset)), CARRY_MAX))
        for key, _ in entries:
            offset, name = parse_beginning_key(key)
            slot = self._get(name)
            if slot.state is not None and begins_at(slot.state) == offset:
                yield slot
        if entries:
            return
        self._carry_at_ms = now_ms + LOOK_MS_MIN
        self.waits_for_acks = not self._all_acknowledged(target)
        if not self.waits_for_acks and self._all_taken(target):
            self.ready = target.offset

    def take_base(self) -> None:
        """A checkpoint that names `ready` is on its way."""
        self._target, self.ready, self.waits_for_acks = None, NO_BASE, False

    def _choose(self, now_ms: int) -> Target | None:
        """The newest checkpoint that is old enough, if it is newer than the base."""
        for key, value in self._store.scan(CHECKPOINT, end_of(CHECKPOINT), reverse=True):
            offset, time_ms = parse_checkpoint_key(key)
            if offset <= self._tip.base:
                return None
            if time_ms <= now_ms - self._ms:
                return Target(offset, dict(orjson.loads(value)))
        return None

    def _all_acknowledged(self, target: Target) -> bool:
        """As confirmed records state it, so that a reader hears of it which begins at the base, also where what names it is void."""
        others = ((number, decided) for number, decided in target.decided.items() if number != self._partition)
        return all(self._confirmed.acked.get(number, 0) >= decided for number, decided in others)

    def _all_taken(self, target: Target) -> bool:
        """Sends to the own partition are taken by turns, and never acknowledged."""
        first = next(iter(self._store.scan(LOCAL, end_of(LOCAL))), None)
        oldest = int.from_bytes(first[0][1:], "big") if first is not None else NEVER
        return oldest == NEVER or oldest > target.decided.get(self._partition, 0)
