"""Watchers: the clients who wait for an instance to end, to be told when it does.

They are in memory only, so whoever waits asks again every few seconds; who has not asked for long has gone, and is forgotten.
"""

from collections import OrderedDict

from perdure.schemas.messages import ReplyTo

from .ports import Clock

WATCHERS_MAX = 100_000
WATCH_SECONDS = 120.0


class Watchers:
    """Those of one partition, at most `count_max`: beyond it who asked longest ago is forgotten, and asks again."""

    def __init__(self, clock: Clock, count_max: int = WATCHERS_MAX) -> None:
        self._clock = clock
        self._count_max = count_max
        # Who asked longest ago comes first.
        self._asked_at: OrderedDict[tuple[str, ReplyTo, str], float] = OrderedDict()
        self._of: dict[str, dict[tuple[ReplyTo, str], None]] = {}

    def __len__(self) -> int:
        return len(self._asked_at)

    def add(self, instance_id: str, to: ReplyTo, request_id: str) -> None:
        key, now = (instance_id, to, request_id), self._clock.monotonic()
        self._asked_at[key] = now
        self._asked_at.move_to_end(key)
        self._of.setdefault(instance_id, {})[to, request_id] = None
        while len(self._asked_at) > self._count_max or next(iter(self._asked_at.values())) < now - WATCH_SECONDS:
            oldest, _ = self._asked_at.popitem(last=False)
            self._forget(*oldest)

    def take(self, instance_id: str) -> list[tuple[ReplyTo, str]]:
        """Who waits for this one; they wait no more."""
        asked = list(self._of.pop(instance_id, ()))
        for to, request_id in asked:
            del self._asked_at[instance_id, to, request_id]
        return asked

    def _forget(self, instance_id: str, to: ReplyTo, request_id: str) -> None:
        asked = self._of[instance_id]
        del asked[to, request_id]
        if not asked:
            del self._of[instance_id]
