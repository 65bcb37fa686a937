"""Silence: whether a client that ran out of time had an answer to nothing for all that time, and so may have stalled (stalls.py)."""

import time


class Silence:
    """Of one client, from when it is made: it needs time to find the brokers."""

    def __init__(self) -> None:
        self.is_stalled = False
        """Another client is to take its place."""
        self._heard_at = time.monotonic()

    def break_off(self) -> None:
        """An answer came. What was said before it stands: where one partition alone is away others are heard."""
        self._heard_at = time.monotonic()

    def note_timeout(self, seconds: float) -> None:
        """Something waited for `seconds` and had no answer."""
        self.is_stalled |= time.monotonic() - self._heard_at >= seconds
