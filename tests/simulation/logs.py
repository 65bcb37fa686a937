"""What the engine logs in a run. An error fails the run, unless a fault of the run is what it tells of."""

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

import structlog


class Listener(Protocol):
    def take_log(self, level: str, event: str, fields: MutableMapping[str, Any]) -> None: ...


class _Handler(logging.Handler):
    def __init__(self, listener: Listener) -> None:
        super().__init__(logging.WARNING)
        self._listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        self._listener.take_log(record.levelname.lower(), record.getMessage(), {})


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand everything that is logged to `listener`, and write none of it."""

    def take(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        listener.take_log(method, str(event.pop("event", "")), event)
        raise structlog.DropEvent

    before = structlog.get_config()
    handler, root = _Handler(listener), logging.getLogger()
    structlog.configure(
        processors=[take],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        structlog.configure(**before)
