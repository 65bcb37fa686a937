"""How far a machine's clock is off the log's: a worker whose is far off claims nothing (R11)."""

from .ports import Clock, Log
from .recovery import PartitionRefused

ADMISSION_SECONDS = 0.1


class ClockOff(PartitionRefused):
    """The wall clock here is too far off the log's time; the message says by how much."""


def check_clock(log: Log, clock: Clock, skew_ms_max: int) -> int:
    """Compare the two, and return by how much ours is ahead. Blocks for a round trip. Raises ClockOff and LogUnavailable."""
    before_ms = clock.wall_ms()
    log_ms = log.read_clock_ms()
    # The log looked at its clock at some moment in between; the nearer end is what can be held against us.
    skew_ms = min((ours - log_ms for ours in (before_ms, clock.wall_ms())), key=abs)
    if abs(skew_ms) > skew_ms_max:
        raise ClockOff(
            f"this machine's clock is {skew_ms} ms {'ahead of' if skew_ms > 0 else 'behind'} the log's ({log_ms} ms since 1970); at most "
            f"{skew_ms_max} ms are allowed: set the clock, or let NTP keep it"
        )
    return skew_ms


def lead_ms(clock: Clock) -> int:
    """The wall clock's reading less the monotonic one's: what it gains from here on is a leap, and no time that has passed."""
    return clock.wall_ms() - round(clock.monotonic() * 1000)


class Admission:
    """What is asked of the log before a claim: whether it is the hub that was opened (R14), and what time it is there (R11).

    An heir claims several partitions at once, and one answer does for all of them; what our wall clock has gained since counts too.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._skew_less_lead_ms = 0

    def ask(self, log: Log, clock: Clock, skew_ms_max: int) -> None:
        """Blocks for two round trips. Raises ClockOff, HubMissing, HubRefused, LogUnavailable."""
        now = clock.monotonic()
        if now < self._until and abs(self._skew_less_lead_ms + lead_ms(clock)) <= skew_ms_max:
            return
        log.check_identity()
        self._skew_less_lead_ms = check_clock(log, clock, skew_ms_max) - lead_ms(clock)
        self._until = now + ADMISSION_SECONDS
