"""History as JSON, for people, `--json` and saved histories: exact both ways.

Payloads are shown as the values that they hold. One whose text is not what orjson would write (or is no JSON at all) stands
as `{"$text": ...}` or, where it is not even UTF-8, `{"$base64": ...}`, so that reading the view back gives the same bytes.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import NoneType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import orjson

from .events import NO_TAGS, HistoryEvent, UnknownEvent
from .vocabulary import VOCABULARY, Vocabulary

_ESCAPES = ("$text", "$base64")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class HistoryTurn:
    """One turn of an instance as a view holds it; `offset` is where it stands in the history."""

    offset: int
    time_ms: int
    decided: bool
    events: tuple[HistoryEvent, ...]


def payload_to_json(payload: bytes) -> Any:
    """The value that a payload holds, or an escape that keeps its bytes."""
    try:
        value = orjson.loads(payload)
        if orjson.dumps(value) == payload and not _is_escape(value):
            return value
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        return {"$text": payload.decode()}
    except UnicodeDecodeError:
        return {"$base64": b64encode(payload).decode()}


def payload_from_json(value: Any) -> bytes:
    """The payload that `payload_to_json` showed as `value`."""
    if not _is_escape(value):
        return orjson.dumps(value)
    [(escape, text)] = value.items()
    return str(text).encode() if escape == "$text" else b64decode(text)


def _is_escape(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _ESCAPES


def event_to_json(event: HistoryEvent) -> dict[str, Any]:
    """An event as `{"type": its class, ...its fields}`."""
    return {"type": type(event).__name__, **_show(event)}


def event_from_json(view: Mapping[str, Any], vocabulary: Vocabulary = VOCABULARY) -> HistoryEvent:
    """The event that `event_to_json` showed. Raises ValueError, which says where the view is wrong."""
    name = view.get("type")
    cls = UnknownEvent if name == UnknownEvent.__name__ else vocabulary.class_named(str(name))
    if cls is None:
        raise ValueError(f"no history event is called {name!r}")
    event: HistoryEvent = _make(cls, {key: value for key, value in view.items() if key != "type"}, str(name))
    return event


def turn_to_json(turn: HistoryTurn) -> dict[str, Any]:
    """A turn as `{"offset", "time", "decided", "events"}`; the time is ISO 8601, UTC, to the millisecond."""
    return {
        "offset": turn.offset,
        "time": time_to_json(turn.time_ms),
        "decided": turn.decided,
        "events": [event_to_json(event) for event in turn.events],
    }


def turn_from_json(view: Mapping[str, Any], vocabulary: Vocabulary = VOCABULARY) -> HistoryTurn:
    """The turn that `turn_to_json` showed. Raises ValueError."""
    missing = sorted({"offset", "time", "decided", "events"} - view.keys())
    if missing:
        raise ValueError(f"a turn lacks {', '.join(missing)}")
    events = tuple(event_from_json(event, vocabulary) for event in view["events"])
    return HistoryTurn(int(view["offset"]), time_from_json(view["time"]), bool(view["decided"]), events)


def time_to_json(time_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds. Raises OverflowError outside the years 1 to 9999."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_from_json(text: str) -> int:
    """Milliseconds since the Unix epoch. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time needs its zone, as in 2026-01-31T12:00:00.000Z; found {text}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _show(value: Any) -> Any:
    if isinstance(value, bytes):
        return payload_to_json(value)
    if isinstance(value, IntEnum):
        return value.name
    if is_dataclass(value):
        return {field.name: _show(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_show(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _make(hint: Any, shown: Any, path: str) -> Any:
    """The value that `_show` showed, given its annotation."""
    if hint is bytes:
        return payload_from_json(shown)
    if hint in (int, float, str, bool):
        return _expect((int, float) if hint is float else hint, shown, path)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _make_enum(hint, shown, path)
    if isinstance(hint, type) and is_dataclass(hint):
        return _make_dataclass(hint, shown, path)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        items = _expect(list, shown, path)
        return tuple(_make(arguments[0], item, f"{path}[{at}]") for at, item in enumerate(items))
    if origin is Mapping:
        return {
            name: _expect(str, text, f"{path}.{name}") for name, text in _expect(dict, shown, path).items()
        } or NO_TAGS
    present = next(part for part in arguments if part is not NoneType)
    return None if shown is None else _make(present, shown, path)


def _make_dataclass(cls: type[Any], shown: Any, path: str) -> Any:
    hints = _hints(cls)
    values = {}
    for name, value in _expect(dict, shown, path).items():
        if name not in hints:
            raise ValueError(f"{path}: no field is called {name!r}")
        values[name] = _make(hints[name], value, f"{path}.{name}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def _make_enum(cls: type[IntEnum], shown: Any, path: str) -> IntEnum:
    if shown not in cls.__members__:
        raise ValueError(f"{path}: expected one of {', '.join(cls.__members__)}, found {shown!r}")
    return cls[shown]


def _expect(kind: Any, shown: Any, path: str) -> Any:
    if not isinstance(shown, kind) or (kind is not bool and isinstance(shown, bool)):
        raise ValueError(f"{path}: expected {getattr(kind, '__name__', 'number')}, found {shown!r}")
    return shown


def _hints(cls: Any) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(cls).items() if get_origin(hint) is not ClassVar}
