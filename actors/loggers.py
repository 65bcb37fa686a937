"""Loggers whose records carry the ids of an execution or attempt; one of them is silent during replay."""

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any


class IdLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds ids to what the caller gives as `extra`."""

    def __init__(self, logger: logging.Logger, ids: Mapping[str, object]) -> None:
        super().__init__(logger, ids)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge both; before Python 3.13 an adapter drops what the caller gave."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class ReplaySafeLogger(IdLogger):
    """A logger that is silent while the orchestration is replayed."""

    def __init__(self, logger: logging.Logger, is_replaying: Callable[[], bool], ids: Mapping[str, object]) -> None:
        super().__init__(logger, ids)
        self._is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """False while replaying, so that no message is even made."""
        return not self._is_replaying() and self.logger.isEnabledFor(level)
