"""Structured logs: hub, partition, instance and turn on every line that the engine writes; JSON where nobody watches."""

import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from perdure.partitions.place import PLACE

from .config import Settings


def configure_logs(level: str = "info", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Write logs to `stream` (stderr), the standard library's too. `json` is decided by whether that is a terminal."""
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        add_place,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    # What others log through the standard library (an activity, librdkafka's wrapper) gets the same form.
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[drop_meta, *renderer])
    standard = logging.StreamHandler(out)
    standard.setFormatter(formatter)
    logging.basicConfig(handlers=[standard], level=number, force=True)
    logging.getLogger("uvicorn").setLevel(max(number, logging.WARNING))


def start_logs(settings: Settings) -> None:
    """Write logs as the configuration wants them."""
    configure_logs(settings.log_level, json={"json": True, "text": False}.get(settings.log_format))


def add_place(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say where the engine is, on lines that its thread writes; what the line says itself wins."""
    if threading.get_ident() == PLACE.engine:
        for name, value in PLACE.fields().items():
            event.setdefault(name, value)
    elif PLACE.hub:
        event.setdefault("hub", PLACE.hub)
    return event
