"""Which kinds of history event there are, and the format level in which each appeared (R12).

Rules of this file: a kind number names one class and one schema for ever. An event that gains a field comes under a new
number, at a new level, so that a build which does not know it sees an unknown event and not a wrong one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from .avro import RecordSchema, WireError, shipped
from .events import HistoryEvent, UnknownEvent
from .shapes import Shape, shape_of

LEVELS: Mapping[int, tuple[type[Any], ...]] = MappingProxyType(
    {1: tuple(cls for cls in get_args(HistoryEvent) if cls is not UnknownEvent)}
)


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event: its number on the wire, the level that brought it, its class and how to write and read it."""

    number: int
    level: int
    cls: type[Any]
    shape: Shape[Any]
    schema: RecordSchema


class Vocabulary:
    """The events that a build knows. Immutable; reads all of them, writes those up to `level`."""

    __slots__ = ("_by_class", "_by_number", "_kinds", "level")

    def __init__(self, kinds: Iterable[EventKind], level: int) -> None:
        self._kinds = tuple(sorted(kinds, key=lambda kind: (kind.level, kind.number)))
        self.level = level
        self._by_number = {kind.number: kind for kind in self._kinds}
        assert len(self._by_number) == len(self._kinds), "a kind number is used once"
        # Where a class has several numbers, the newest that may be written wins.
        self._by_class = {kind.cls: kind for kind in self._kinds if kind.level <= level}

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """Every kind that this build reads, in the order in which they appeared."""
        return self._kinds

    def at(self, level: int) -> "Vocabulary":
        """The same vocabulary, writing at the hub's level."""
        return Vocabulary(self._kinds, level)

    def with_event(self, cls: type[Any], *, level: int, schema: RecordSchema | None = None) -> "Vocabulary":
        """A vocabulary that also knows the event `cls` (a dataclass with a KIND), and writes at `level`."""
        kind = EventKind(cls.KIND, level, cls, shape_of(cls), schema or shipped(cls.__name__, level))
        return Vocabulary((*self._kinds, kind), level)

    def write_event(self, event: HistoryEvent) -> dict[str, Any]:
        """An event as the Avro datum that stands in a turn."""
        if type(event) is UnknownEvent:
            return {"kind": event.kind, "body": event.body}
        kind = self._by_class.get(type(event))
        if kind is None:
            raise WireError("history event", f"a kind of level {self.level} or below", type(event).__name__)
        return {"kind": kind.number, "body": kind.schema.write(kind.shape.write(event))}

    def read_event(self, number: int, body: bytes) -> HistoryEvent:
        """The event of a kind number; an unknown number gives UnknownEvent."""
        kind = self._by_number.get(number)
        if kind is None:
            return UnknownEvent(number, body)
        try:
            event: HistoryEvent = kind.shape.read(kind.schema.read(body))
        except ValueError as error:
            raise WireError(kind.schema.name, "values of its class", str(error)) from error
        return event


def _shipped_kinds() -> list[EventKind]:
    return [
        EventKind(cls.KIND, level, cls, shape_of(cls), shipped(cls.__name__, level))
        for level, classes in LEVELS.items()
        for cls in classes
    ]


VOCABULARY = Vocabulary(_shipped_kinds(), max(LEVELS))
