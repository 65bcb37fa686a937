"""Producers of the history that are made before they are needed: an idempotent one cannot send before a broker has numbered it, and
librdkafka asks for that again only half a second later where its first connection was not there yet."""

from collections import deque
from collections.abc import Callable

from confluent_kafka import Producer

SPARES_MAX = 8
# One after the other, since who has just taken some is busy.
REFILL_SECONDS = 0.1


class SpareProducers:
    """At most `count` of them, the oldest first. What is left is the caller's to end (`take_all`)."""

    def __init__(self, make: Callable[[], Producer], count: int) -> None:
        self._make = make
        self._count = count
        self._ready = deque(make() for _ in range(count))
        self._refill_at = 0.0

    def take(self) -> Producer:
        return self._ready.popleft() if self._ready else self._make()

    def refill(self, now: float) -> None:
        """Make the next one, if one is missing and its time has come."""
        if len(self._ready) < self._count and now >= self._refill_at:
            self._refill_at = now + REFILL_SECONDS
            self._ready.append(self._make())

    def take_all(self) -> list[Producer]:
        self._count, spares = 0, list(self._ready)
        self._ready.clear()
        return spares
