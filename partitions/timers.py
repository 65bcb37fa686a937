"""TimerQueue: the durable timers that come due soon, in memory; all others only in the store, so that sleepers cost nothing.

A timer enters the queue when it is confirmed and due before the horizon, or when the horizon passes it. The horizon is a minute
away, or nearer where very many are due before it. The store decides: a key that is no longer there was cancelled.
"""

import heapq
from collections.abc import Iterable
from itertools import islice

from .keys import TIMER, TimerKey, parse_timer_key, timers_until
from .ports import Change, Store

HORIZON_MS = 60_000
TIMERS_MAX = 50_000


class TimerQueue:
    """Due times of one partition, soonest first; about `timers_max` of them in memory, twice as many at most."""

    def __init__(self, store: Store, now_ms: int, timers_max: int = TIMERS_MAX) -> None:
        self._store = store
        self._timers_max = timers_max
        self._heap: list[bytes] = []
        self._known: set[bytes] = set()
        # All timers of the store before this key are in memory, or were taken.
        self._horizon = TIMER
        self._extend(now_ms)

    def __len__(self) -> int:
        return len(self._heap)

    def _extend(self, now_ms: int) -> None:
        end = timers_until(now_ms + HORIZON_MS)
        found = [key for key, _ in islice(self._store.scan(self._horizon, end), self._timers_max)]
        for key in found:
            self._push(key)
        self._horizon = found[-1] + b"\0" if len(found) == self._timers_max else end

    def _push(self, key: bytes) -> None:
        if key not in self._known:
            self._known.add(key)
            heapq.heappush(self._heap, key)

    def confirm(self, changes: Iterable[Change]) -> None:
        """Take over the timers that were just written to the store."""
        for key, value in changes:
            if value is not None and key[0] == TIMER[0] and key < self._horizon:
                self._push(key)
        if len(self._heap) > 2 * self._timers_max:
            self._shrink()

    def _shrink(self) -> None:
        """Leave the later ones to the store again."""
        self._heap = heapq.nsmallest(self._timers_max, self._heap)
        self._known = set(self._heap)
        self._horizon = self._heap[-1] + b"\0"

    def take_due(self, now_ms: int, count_max: int) -> list[TimerKey]:
        """At most `count_max` timers due at `now_ms` that were not taken before, soonest first."""
        limit = timers_until(now_ms)
        due: list[TimerKey] = []
        self._refill(now_ms)
        while self._heap and self._heap[0] < limit and len(due) < count_max:
            key = heapq.heappop(self._heap)
            self._known.discard(key)
            if self._store.get(key) is not None:
                due.append(parse_timer_key(key))
            self._refill(now_ms)
        return due

    def _refill(self, now_ms: int) -> None:
        """As long as one is in memory, it is the soonest; without any it must be known that none is near."""
        while not self._heap and self._horizon < timers_until(now_ms + HORIZON_MS // 2):
            self._extend(now_ms)

    def next_due_ms(self) -> int | None:
        """When the soonest timer is due; None if none is within the horizon."""
        return int.from_bytes(self._heap[0][1:9], "big") if self._heap else None
