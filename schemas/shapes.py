"""How the dataclasses of the vocabulary become Avro data and back, derived from their annotations, once for each class.

| annotation                      | Avro                                                              |
|---------------------------------|-------------------------------------------------------------------|
| int, float, str, bytes, bool    | itself                                                            |
| an IntEnum                      | int                                                               |
| Mapping[str, str]               | map of string                                                     |
| tuple[X, ...]                   | array of X                                                        |
| tuple[str, bytes]               | record NamedPayload                                               |
| a dataclass, or one that may be None | record, or union of null and the record (tagged)             |
| Failure, Failure or None        | array of FailureLink: the failure, its cause, the cause's cause … |

A failure is flat on the wire, because a decoder that follows a million nested causes has no stack left to say so.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .avro import NAMESPACE, WireError
from .events import NO_TAGS, Failure

FAILURE_LINKS_MAX = 64
T = TypeVar("T")
Convert = Callable[[Any], Any]
_PLAIN = (int, float, str, bytes, bool)
_LINK = ("type", "message", "stack", "retriable", "details")


class Shape(Generic[T]):
    """One dataclass on the wire. Fields that a writer of an older level did not know take their defaults."""

    __slots__ = ("_cls", "_get", "_names", "_reads", "_writes")

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls
        self._names: tuple[str, ...] = tuple(field.name for field in fields(cast("Any", cls)))
        self._get = attrgetter(*self._names) if len(self._names) > 1 else _get_one(self._names[0])
        hints = get_type_hints(cls)
        converts = [(name, *_convert(hints[name])) for name in self._names]
        self._writes = tuple((name, write) for name, write, _ in converts if write is not None)
        self._reads = tuple((name, read) for name, _, read in converts if read is not None)

    def write(self, value: T) -> dict[str, Any]:
        """The Avro datum of `value`."""
        datum = dict(zip(self._names, self._get(value), strict=True))
        for name, convert in self._writes:
            datum[name] = convert(datum[name])
        return datum

    def read(self, datum: dict[str, Any]) -> T:
        """The value of an Avro datum. Raises ValueError where no such value exists."""
        for name, convert in self._reads:
            if name in datum:
                datum[name] = convert(datum[name])
        return self._cls(**datum)


def _get_one(name: str) -> Callable[[Any], tuple[Any]]:
    get = attrgetter(name)
    return lambda value: (get(value),)


_SHAPES: dict[type[Any], Shape[Any]] = {}


def shape_of(cls: type[T]) -> Shape[T]:
    """The shape of a dataclass, made once."""
    shape = _SHAPES.get(cls)
    if shape is None:
        shape = _SHAPES[cls] = Shape(cls)
    return shape


def _convert(hint: Any) -> tuple[Convert | None, Convert | None]:
    """How a value of this annotation is written and read; None where Avro takes it as it is."""
    if hint in _PLAIN:
        return None, None
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return None, hint
    if hint is Failure:
        return write_failure, _read_failure
    if isinstance(hint, type) and is_dataclass(hint):
        shape = shape_of(hint)
        return shape.write, shape.read
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _convert_optional(next(part for part in arguments if part is not NoneType))
    if origin is Mapping:
        return dict, _read_tags
    if arguments == (str, bytes):
        return _write_pair, _read_pair
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return _convert_array(*_convert(arguments[0]))
    raise TypeError(f"no place on the wire for {hint!r}")


def _convert_optional(cls: type[Any]) -> tuple[Convert, Convert]:
    if cls is Failure:
        return lambda failure: [] if failure is None else write_failure(failure), _read_failure_or_none
    shape, tag = shape_of(cls), f"{NAMESPACE}.{cls.__name__}"
    return (
        lambda value: None if value is None else (tag, shape.write(value)),
        lambda datum: None if datum is None else shape.read(datum),
    )


def _convert_array(write: Convert | None, read: Convert | None) -> tuple[Convert | None, Convert]:
    return (
        None if write is None else lambda values: [write(value) for value in values],
        tuple if read is None else lambda data: tuple(read(datum) for datum in data),
    )


def _read_tags(datum: dict[str, str]) -> Mapping[str, str]:
    return datum or NO_TAGS


def _write_pair(pair: tuple[str, bytes]) -> dict[str, Any]:
    return {"name": pair[0], "payload": pair[1]}


def _read_pair(datum: dict[str, Any]) -> tuple[str, bytes]:
    return datum["name"], datum["payload"]


def write_failure(failure: Failure) -> list[dict[str, Any]]:
    """A failure and its causes, outermost first."""
    links: list[dict[str, Any]] = []
    link: Failure | None = failure
    while link is not None:
        if len(links) == FAILURE_LINKS_MAX:
            raise WireError("Failure", f"at most {FAILURE_LINKS_MAX} causes", "more")
        links.append({name: getattr(link, name) for name in _LINK})
        link = link.cause
    return links


def _read_failure_or_none(links: list[dict[str, Any]]) -> Failure | None:
    if len(links) > FAILURE_LINKS_MAX:
        raise ValueError(f"a failure with {len(links)} causes; at most {FAILURE_LINKS_MAX} are read")
    failure: Failure | None = None
    for link in reversed(links):
        failure = Failure(**link, cause=failure)
    return failure


def _read_failure(links: list[dict[str, Any]]) -> Failure:
    failure = _read_failure_or_none(links)
    if failure is None:
        raise ValueError("no failure where there must be one")
    return failure
