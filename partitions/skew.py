"""How far a machine's clock is off the log's: a worker whose is far off claims nothing (R11)."""

from .ports import Clock, Log
from .recovery import PartitionRefused


class ClockOff(PartitionRefused):
    """The wall clock here is too far off the log's time; the message says by how much."""


def check_clock(log: Log, clock: Clock, skew_ms_max: int) -> None:
    """Compare the two. Blocks for a round trip. Raises ClockOff and LogUnavailable."""
    before_ms = clock.wall_ms()
    log_ms = log.read_clock_ms()
    # The log looked at its clock at some moment in between; the nearer end is what can be held against us.
    skew_ms = min((ours - log_ms for ours in (before_ms, clock.wall_ms())), key=abs)
    if abs(skew_ms) > skew_ms_max:
        raise ClockOff(
            f"this machine's clock is {skew_ms} ms {'ahead of' if skew_ms > 0 else 'behind'} the log's ({log_ms} ms since 1970); at most "
            f"{skew_ms_max} ms are allowed: set the clock, or let NTP keep it"
        )


def lead_ms(clock: Clock) -> int:
    """The wall clock's reading less the monotonic one's: what it gains from here on is a leap, and no time that has passed."""
    return clock.wall_ms() - round(clock.monotonic() * 1000)
