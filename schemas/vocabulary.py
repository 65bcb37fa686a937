"""Which kinds of history event there are, and the format level in which each appeared (R12).

Rules of this file: a kind number names one class and one schema for ever. An event that gains a field comes under a new
number, at a new level, so that a build which does not know it sees an unknown event and not a wrong one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from .avro import RecordSchema, WireError, shipped
from .events import HistoryEvent, UnknownEvent
from .reader import make_decode
from .records import Cursor, Send, SourceMark, TurnBody
from .shapes import shape_of
from .writer import Encode, encode_bytes, encode_long, make_encode

LEVELS: Mapping[int, tuple[type[Any], ...]] = MappingProxyType(
    {1: tuple(cls for cls in get_args(HistoryEvent) if cls is not UnknownEvent)}
)

TURN_FORMATS = (1,)
"""The formats in which the body of a turn was ever written."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event: its number on the wire, also as bytes, the level that brought it, its class, and how it is written and read."""

    number: int
    head: bytes
    level: int
    cls: type[Any]
    encode: Encode
    decode: Callable[[bytes], Any]


def event_kind(cls: type[Any], *, level: int, schema: RecordSchema | None = None) -> EventKind:
    """The kind of `cls`, a dataclass with a KIND, whose schema is in v<level>/ unless given."""
    schema = schema or shipped(cls.__name__, level)
    return EventKind(cls.KIND, encode_long(cls.KIND), level, cls, make_encode(schema), shape_of(cls).decoder(schema))


class Vocabulary:
    """The events that a build knows. Immutable; reads all of them, writes those up to `level`."""

    __slots__ = ("_by_class", "_by_number", "_kinds", "_levels", "decode_turn", "encode_turn", "level")

    def __init__(self, kinds: Iterable[EventKind], level: int) -> None:
        self._kinds = tuple(sorted(kinds, key=lambda kind: (kind.level, kind.number)))
        self.level = level
        self._by_number = {kind.number: kind for kind in self._kinds}
        assert len(self._by_number) == len(self._kinds), "a kind number is used once"
        self._levels = {kind.cls: kind.level for kind in reversed(self._kinds)}
        # Where a class has several numbers, the newest that may be written wins.
        self._by_class = {kind.cls: kind for kind in self._kinds if kind.level <= level}
        self.encode_turn = make_encode(shipped("TurnBody", level), encodes={"TurnEvent": self._encode_in_turn})
        makes = {cls.__name__: cls for cls in (TurnBody, Send, Cursor, SourceMark)}
        self.decode_turn: Mapping[int, Callable[[bytes], TurnBody]] = {
            format_: make_decode(
                shipped("TurnBody", format_),
                makes={**makes, "TurnEvent": self.decode_event},
                converts=dict.fromkeys(("consumed", "locals", "events", "sends", "cursors", "sources"), tuple),
            )
            for format_ in TURN_FORMATS
        }

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """Every kind that this build reads, in the order in which they appeared."""
        return self._kinds

    def at(self, level: int) -> "Vocabulary":
        """The same vocabulary, writing at the hub's level."""
        return Vocabulary(self._kinds, level)

    def extended(self, kind: EventKind) -> "Vocabulary":
        """A vocabulary that also knows `kind`, and writes at its level."""
        return Vocabulary((*self._kinds, kind), max(self.level, kind.level))

    def class_named(self, name: str) -> type[Any] | None:
        """The event class of that name."""
        return next((kind.cls for kind in self._kinds if kind.cls.__name__ == name), None)

    def level_of(self, event: HistoryEvent) -> int:
        """The level that brought this event; one above all that this build knows for what it cannot read."""
        return self._levels.get(type(event), self._kinds[-1].level + 1)

    def encode_event(self, event: HistoryEvent) -> tuple[int, bytes]:
        """The kind number and the body of an event."""
        kind = self._by_class.get(type(event))
        if kind is not None:
            return kind.number, kind.encode(event)
        if isinstance(event, UnknownEvent):
            return event.kind, event.body
        raise WireError("history event", f"a kind of level {self.level} or below", type(event).__name__)

    def decode_event(self, number: int, body: bytes) -> HistoryEvent:
        """The event of a kind number; an unknown number gives UnknownEvent (R12)."""
        kind = self._by_number.get(number)
        if kind is None:
            return UnknownEvent(number, body)
        event: HistoryEvent = kind.decode(body)
        return event

    def _encode_in_turn(self, event: HistoryEvent) -> bytes:
        """An event as it stands in a turn."""
        kind = self._by_class.get(type(event))
        if kind is not None:
            return kind.head + encode_bytes(kind.encode(event))
        number, body = self.encode_event(event)
        return encode_long(number) + encode_bytes(body)


VOCABULARY = Vocabulary(
    (event_kind(cls, level=level) for level, classes in LEVELS.items() for cls in classes), max(LEVELS)
)
