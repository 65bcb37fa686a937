"""Durations: how long something took, how often: a histogram that costs the engine two additions."""

from bisect import bisect_left
from collections.abc import Iterator

# From what a turn takes to what is an outage; each is 2 to 2.5 times the one before.
BOUNDS_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


class Durations:
    """Written by the engine's thread; others read it as it is."""

    __slots__ = ("_counts", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Each bound with how many did not exceed it; the last one is infinite."""
        total = 0
        for bound, count in zip((*BOUNDS_SECONDS, float("inf")), tuple(self._counts), strict=True):
            total += count
            yield bound, total
