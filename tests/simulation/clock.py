"""Virtual time: the world's, and each machine's idea of it."""

START_MS = 1_790_000_000_000


class WorldClock:
    """True time in milliseconds (`partitions.ports.Clock`): the brokers' clock."""

    def __init__(self) -> None:
        self.now = 0

    def wall_ms(self) -> int:
        return START_MS + self.now

    def monotonic(self) -> float:
        return self.now / 1000


class MachineClock:
    """A machine's clocks (`partitions.ports.Clock`): the wall clock is off by `skew_ms`, the monotonic one began at boot."""

    def __init__(self, world: WorldClock, skew_ms: int = 0) -> None:
        self._world = world
        self._booted = world.now
        self.skew_ms = skew_ms

    def wall_ms(self) -> int:
        return START_MS + self._world.now + self.skew_ms

    def monotonic(self) -> float:
        return (self._world.now - self._booted) / 1000
