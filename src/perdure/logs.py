"""Structured logs: hub, partition, instance and turn on every line that the engine writes; JSON where nobody watches."""

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from perdure.partitions.place import PLACE

from .config import Settings
from .masking import masked, visible

_log = structlog.get_logger("perdure.logs")
# An exception's frames hold whatever the code had in hand, passwords and payloads too; only their places are told.
_TRACEBACKS = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))


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
        [_TRACEBACKS, structlog.processors.JSONRenderer(), mask_line]
        if as_json
        else [
            show_controls,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=write_traceback),
            mask_line,
        ]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,  # lines are rare, and a cached logger cannot be configured again
    )
    # What others log through the standard library (an activity, librdkafka's wrapper) gets the same form.
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[drop_meta, *renderer])
    standard = logging.StreamHandler(out)
    standard.setFormatter(formatter)
    logging.basicConfig(handlers=[standard], level=number, force=True)
    logging.getLogger("uvicorn").setLevel(max(number, logging.WARNING))


def start_logs(settings: Settings) -> None:
    """Write logs as the configuration wants them, each line with the hub, also before it is found."""
    PLACE.hub = settings.hub
    configure_logs(settings.log_level, json={"json": True, "text": False}.get(settings.log_format))
    threading.excepthook = tell_end_of_thread
    sys.unraisablehook = tell_unraisable


def tell_end_of_thread(end: threading.ExceptHookArgs) -> None:
    """What ends a thread is a line of the log as any other; Python by itself writes it as it is."""
    if end.exc_type is not SystemExit:
        name = end.thread.name if end.thread is not None else ""
        _log.error("thread.failed", thread=name, exc_info=end.exc_value)


def tell_unraisable(fault: "sys.UnraisableHookArgs") -> None:
    """The same for what nobody can be told, as of a finalizer. One may run in the middle of a line that its thread writes, and structlog's
    lock would wait for that; the standard library's lets it in."""
    raised = fault.exc_value
    about = (type(raised), raised, raised.__traceback__) if raised is not None else None
    logging.getLogger(__name__).error("unraisable", exc_info=about, extra={"of": f"{fault.object!r:.200}"})


def add_place(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say where the engine is, on lines that its thread writes; what the line says itself wins."""
    if threading.get_ident() == PLACE.engine:
        for name, value in PLACE.fields().items():
            event.setdefault(name, value)
    elif PLACE.hub:
        event.setdefault("hub", PLACE.hub)
    return event


def show_controls(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Text of others begins no line of its own and steers no terminal; in JSON it is escaped by itself."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = visible(value)
    return event


def write_traceback(out: TextIO, exc_info: Any) -> None:
    """A traceback, indented so that no line of it can be taken for a line of the log."""
    text = visible("".join(traceback.format_exception(*exc_info)).rstrip("\n"), keep="\n\t")
    out.write("".join(f"\n    {line}" for line in text.split("\n")))


def mask_line(_logger: Any, _method: str, line: Any) -> str:
    """The finished line without secrets."""
    return masked(str(line))
