"""Virtual time: it stands still until somebody moves it."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class VirtualClock:
    """A clock (`partitions.ports.Clock`) that a test moves."""

    def __init__(self, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError(f"virtual time needs a zone, as in datetime(2026, 1, 1, tzinfo=UTC); found {now!r}")
        self._began_ms = self._now_ms = (now - _EPOCH) // _MILLISECOND

    def wall_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return (self._now_ms - self._began_ms) / 1000

    @property
    def now(self) -> datetime:
        """Virtual time, UTC."""
        return _EPOCH + timedelta(milliseconds=self._now_ms)

    def pass_until(self, time_ms: int) -> None:
        """Let time pass; a time that is over changes nothing."""
        self._now_ms = max(self._now_ms, time_ms)
