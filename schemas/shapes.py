"""How Avro data become the dataclasses of the vocabulary, derived from their annotations, once for each class.

| annotation                          | Avro                                                              |
|-------------------------------------|-------------------------------------------------------------------|
| int, float, str, bytes, bool        | itself                                                            |
| an IntEnum                          | int                                                               |
| Mapping[str, str]                   | map of string                                                     |
| tuple[X, ...]                       | array of X                                                        |
| tuple[str, bytes]                   | record NamedPayload                                               |
| a dataclass, or one that may be None| record, or union of null and the record                           |
| Failure, or one that may be None    | array of FailureLink: the failure, its cause, the cause's cause … |

A failure is flat on the wire, because a decoder that follows a million nested causes has no stack left to say so.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .avro import RecordSchema, WireError
from .events import NO_TAGS, Failure
from .reader import make_decode
from .writer import FAILURE_LINKS_MAX

T = TypeVar("T")
Convert = Callable[[Any], Any]
_PLAIN = (int, float, str, bytes, bool)


class Shape(Generic[T]):
    """One dataclass on the wire. Fields that a writer of an older level did not know take their defaults."""

    __slots__ = ("_cls", "_converts", "_names")

    def __init__(self, cls: type[T]) -> None:
        hints = get_type_hints(cls)
        self._names = [field.name for field in fields(cast("Any", cls))]
        converts = [(name, _convert(hints[name])) for name in self._names]
        self._cls = cls
        self._converts = {name: convert for name, convert in converts if convert is not None}

    def make(self, datum: dict[str, Any]) -> T:
        """The value of an Avro datum, which is used up. Raises ValueError where no such value exists."""
        for name, convert in self._converts.items():
            if name in datum:
                datum[name] = convert(datum[name])
        return self._cls(**datum)

    def decoder(self, schema: RecordSchema, items_max: int | None = None) -> Callable[[bytes], T]:
        """What reads values of this class, written with `schema`. It raises WireError."""
        if schema.fields == self._names:
            return make_decode(schema, makes={schema.name: self._cls}, converts=self._converts, items_max=items_max)
        decode = make_decode(schema, items_max=items_max)

        def decode_older(data: bytes) -> T:
            try:
                return self.make(decode(data))
            except ValueError as error:
                raise WireError(schema.name, f"values of {self._cls.__name__}", str(error)) from error

        return decode_older


_SHAPES: dict[type[Any], Shape[Any]] = {}


def shape_of(cls: type[T]) -> Shape[T]:
    """The shape of a dataclass, made once."""
    shape = _SHAPES.get(cls)
    if shape is None:
        shape = _SHAPES[cls] = Shape(cls)
    return shape


def _convert(hint: Any) -> Convert | None:
    """How a value of this annotation is made; None where Avro's is the same."""
    if hint in _PLAIN:
        return None
    if hint is Failure:
        return _make_failure
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint
    if isinstance(hint, type) and is_dataclass(hint):
        return shape_of(hint).make
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _convert_optional(next(part for part in arguments if part is not NoneType))
    if origin is Mapping:
        return _make_tags
    if arguments == (str, bytes):
        return _make_pair
    if origin is tuple and arguments[1:] == (Ellipsis,):
        make = _convert(arguments[0])
        return tuple if make is None else lambda data: tuple([make(datum) for datum in data])
    raise TypeError(f"no place on the wire for {hint!r}")


def _convert_optional(cls: type[Any]) -> Convert:
    if cls is Failure:
        return _make_failure_or_none
    make = shape_of(cls).make
    return lambda datum: None if datum is None else make(datum)


def _make_tags(datum: dict[str, str]) -> Mapping[str, str]:
    return datum or NO_TAGS


def _make_pair(datum: dict[str, Any]) -> tuple[str, bytes]:
    return datum["name"], datum["payload"]


def _make_failure_or_none(links: list[dict[str, Any]]) -> Failure | None:
    if len(links) > FAILURE_LINKS_MAX:
        raise ValueError(f"a failure with {len(links)} links; at most {FAILURE_LINKS_MAX} are read")
    failure: Failure | None = None
    for link in reversed(links):
        failure = Failure(**link, cause=failure)
    return failure


def _make_failure(links: list[dict[str, Any]]) -> Failure:
    failure = _make_failure_or_none(links)
    if failure is None:
        raise ValueError("no failure where there must be one")
    return failure
