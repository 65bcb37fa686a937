"""What librdkafka writes about its connections, at most once in a while: it tries again twenty times a second, and says so each time."""

import logging
import re
import time

EVERY_SECONDS = 10.0
KINDS_MAX = 1_000
_VARYING = re.compile(r"\d+")


class OnceInAWhile(logging.Filter):
    """Lets a line pass unless one that differs in numbers only did so within the last `EVERY_SECONDS`."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, kind = time.monotonic(), _VARYING.sub("", record.getMessage())
        if now - self._passed.get(kind, -EVERY_SECONDS) < EVERY_SECONDS:
            return False
        if len(self._passed) >= KINDS_MAX:
            self._passed.clear()
        self._passed[kind] = now
        return True


LOGGER = logging.getLogger("perdure.kafka")
"""Where librdkafka's own lines go."""
LOGGER.addFilter(OnceInAWhile())
