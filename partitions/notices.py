"""Notices: what operators are told of instances, activities and messages that did not go well, a line each, and of a flood its beginning.

Rules of this file: a line is of what happened here and now, never of what is replayed or recovered; it has ids, names and the words
of an error, and no input and no result.
"""

import structlog

from .ports import Clock

LINES_MAX = 50
FLOOD_SECONDS = 10.0

_log = structlog.get_logger("perdure.partitions")


class _Flow:
    """One event's lines in the seconds since `began`."""

    __slots__ = ("began", "left_out", "lines")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.left_out = 0


class Notices:
    """Writes at most LINES_MAX lines of an event in FLOOD_SECONDS. That lines are left out is said once, and the next line says how
    many were; metrics count all. Each line says what all of them are `about`."""

    def __init__(self, clock: Clock, **about: int) -> None:
        self._clock = clock
        self._about = about
        self._flows: dict[str, _Flow] = {}

    def tell(self, event: str, stack: str = "", /, **fields: str | int) -> None:
        """Write a line; with `stack`, another one at level debug."""
        fields |= self._about
        now = self._clock.monotonic()
        flow = self._flows.setdefault(event, _Flow(now))
        if now - flow.began >= FLOOD_SECONDS:
            if flow.left_out:
                fields["left_out"] = flow.left_out
            flow = self._flows[event] = _Flow(now)
        flow.lines += 1
        if flow.lines <= LINES_MAX:
            _log.warning(event, **fields)
            if stack:
                _log.debug("activity.stack", stack=stack, **fields)
            return
        flow.left_out += 1
        if flow.left_out == 1:
            _log.warning("notices.left_out", of=event, seconds_max=FLOOD_SECONDS, **self._about)
