"""TimerQueue: the durable timers that come due soon, in memory; all others only in the store, so that sleepers cost nothing.

A timer enters the queue when it is confirmed and due before the horizon, or when the horizon passes it. The store decides: a
key that is no longer there was cancelled.
"""

import heapq
from collections.abc import Iterable

from .keys import TIMER, TimerKey, parse_timer_key, timers_until
from .ports import Change, Store

HORIZON_MS = 60_000


class TimerQueue:
    """Due times of one partition, soonest first."""

    def __init__(self, store: Store, now_ms: int) -> None:
        self._store = store
        self._heap: list[bytes] = []
        self._known: set[bytes] = set()
        self._horizon_ms = 0
        self._extend(now_ms)

    def _extend(self, now_ms: int) -> None:
        start = timers_until(self._horizon_ms) if self._horizon_ms else TIMER
        self._horizon_ms = now_ms + HORIZON_MS
        for key, _ in self._store.scan(start, timers_until(self._horizon_ms)):
            self._push(key)

    def _push(self, key: bytes) -> None:
        if key not in self._known:
            self._known.add(key)
            heapq.heappush(self._heap, key)

    def confirm(self, changes: Iterable[Change]) -> None:
        """Take over the timers that were just written to the store."""
        limit = timers_until(self._horizon_ms)
        for key, value in changes:
            if value is not None and key[0] == TIMER[0] and key < limit:
                self._push(key)

    def take_due(self, now_ms: int, count_max: int) -> list[TimerKey]:
        """At most `count_max` timers due at `now_ms` that were not taken before, soonest first."""
        if now_ms + HORIZON_MS // 2 > self._horizon_ms:
            self._extend(now_ms)
        due: list[TimerKey] = []
        limit = timers_until(now_ms)
        while self._heap and self._heap[0] < limit and len(due) < count_max:
            key = heapq.heappop(self._heap)
            self._known.discard(key)
            if self._store.get(key) is not None:
                due.append(parse_timer_key(key))
        return due

    def next_due_ms(self) -> int | None:
        """When the soonest timer is due; None if none is within the horizon."""
        return int.from_bytes(self._heap[0][1:9], "big") if self._heap else None
