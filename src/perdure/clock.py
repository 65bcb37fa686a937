"""The one clock (`partitions.ports.Clock`)."""

import time


class SystemClock:
    """The machine's."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
