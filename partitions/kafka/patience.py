"""How long the engine waits for the brokers to answer: its time-out once, and little from then on until they do.

The engine asks on its own thread, on which async activities run as well. While the brokers are away it must not stand still for
each of its partitions in turn.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..ports import LogUnavailable
from .settings import KafkaSettings

SHORT_SECONDS = 1.0
PAUSE_SECONDS = 2.0


class Patience:
    """`asking` surrounds each question, and gives it the settings with the time-out that it has now."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._short = replace(settings, request_seconds_max=min(SHORT_SECONDS, settings.request_seconds_max))
        self._away: LogUnavailable | None = None
        self._ask_again_at = 0.0

    @contextmanager
    def asking(self) -> Iterator[KafkaSettings]:
        """Raises LogUnavailable at once where the brokers were found away a moment ago."""
        if self._away is not None and time.monotonic() < self._ask_again_at:
            raise type(self._away)(str(self._away))
        try:
            yield self._settings if self._away is None else self._short
        except LogUnavailable as error:
            self._away = error.with_traceback(None)
            self._ask_again_at = time.monotonic() + PAUSE_SECONDS
            raise
        self._away = None
