"""Values and their JSON. An annotation says how a value is written and read; without one only what JSON holds exactly may pass.

Rules of this file: what is decoded equals what was encoded, or encoding refuses it and names the path. So the code sees the
same value in its first run and in every replay.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from math import isfinite
from typing import Any

import orjson

from perdure.schemas.events import NULL

from .errors import ValueRefused
from .exactness import check_plain, refuse

UNANNOTATED: Any = type("Unannotated", (), {"__repr__": lambda _: "no annotation"})()

JSON_DEPTH_MAX = 200
# orjson makes a float of an integer beyond 64 bits.
_LONG_NUMBER = re.compile(rb"\d{19}")
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


class Codec:
    """Values of one annotation at one place; `what` names the place in errors."""

    __slots__ = ("_decode", "_encode", "annotation", "what")

    def __init__(self, annotation: Any, what: str) -> None:
        self.annotation = annotation
        self.what = what
        self._encode, self._decode = coder_of(annotation, what)

    def encode(self, value: Any) -> bytes:
        """The JSON of `value`. Raises ValueRefused."""
        try:
            return self._encode(value)
        except ValueRefused as refusal:
            raise ValueRefused(f"{self.what}: {refusal}", refusal.path) from refusal.__cause__
        except Exception as error:
            raise self._author_raised(error) from error

    def decode(self, data: bytes) -> Any:
        """The value of JSON `data`. Raises ValueRefused."""
        try:
            return self._decode(data)
        except ValueRefused as refusal:
            raise ValueRefused(f"{self.what}: {refusal}", refusal.path) from refusal.__cause__
        except Exception as error:
            raise self._author_raised(error) from error

    def _author_raised(self, error: Exception) -> ValueRefused:
        """The author's own validators, serializers and constructors may raise anything."""
        return ValueRefused(f"{self.what}: {type(error).__name__} while it was read or written: {error!s:.200}")


def coder_of(annotation: Any, what: str) -> tuple[Encode, Decode]:
    """How values of `annotation` are written and read; made once for each annotation."""
    try:
        return _coder(annotation)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise TypeError(f"{what}: {error}") from error
        return _make_coder(annotation)


@cache
def _coder(annotation: Any) -> tuple[Encode, Decode]:
    return _make_coder(annotation)


def _make_coder(annotation: Any) -> tuple[Encode, Decode]:
    if annotation is UNANNOTATED or annotation is Any or annotation is object:
        return encode_plain, decode_plain
    scalar = _SCALARS.get(annotation) if isinstance(annotation, type) or annotation is None else None
    if scalar is not None:
        return scalar(annotation)
    return _annotated(annotation)


def _annotated(annotation: Any) -> tuple[Encode, Decode]:
    # pydantic is slow to import and an app of plain values never needs it.
    from .annotated import Annotated

    coder = Annotated(annotation)
    return coder.encode, coder.decode


def encode_plain(value: Any) -> bytes:
    """The JSON of an unannotated value: None, bool, int, float, str, and lists and string-keyed dicts of them, exactly."""
    if type(value) not in _EXACT:
        check_plain(value)
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError) as error:
        # What orjson alone sees: a lone surrogate, an integer beyond 64 bits.
        check_plain(value, deep=True)
        raise ValueRefused(str(error)) from error


def decode_plain(data: bytes) -> Any:
    """What JSON says, integers of any size included."""
    try:
        if len(data) >= _LONG_DIGITS and _LONG in data.translate(_DIGITS):
            # orjson may make a float of it, and say nothing.
            return json.loads(data, parse_constant=_refuse_constant)
        return orjson.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueRefused(f"not JSON: {error}") from error


def payload_of(value: Any) -> bytes:
    """The JSON of a value that came as JSON, from a producer or a request: integers of any size stay as they are. Raises
    ValueRefused for what JSON cannot hold, and for what is nested so deep that others could not read it."""
    try:
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueRefused(f"no JSON can hold it: {error}") from error
    if is_too_deep(data):
        raise ValueRefused(f"nested more than {JSON_DEPTH_MAX} deep")
    return data


def is_too_deep(data: bytes) -> bool:
    """True for JSON that is nested deeper than all who read it can follow."""
    return data.count(b"[") + data.count(b"{") > JSON_DEPTH_MAX and _depth(data) > JSON_DEPTH_MAX


def _depth(data: bytes) -> int:
    deepest = depth = 0
    for token in _BRACKETS.finditer(data):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_LONG_DIGITS = 19
_LONG = b"0" * _LONG_DIGITS
_DIGITS = bytes(ord("0") if chr(code) in "0123456789" else ord(" ") for code in range(256))


_EXACT = frozenset({str, bool, type(None)})


def _text_coder(annotation: Any) -> tuple[Encode, Decode]:
    slow = _Lazy(annotation)

    def encode(value: Any) -> bytes:
        if isinstance(value, str):
            try:
                return orjson.dumps(value if type(value) is str else str.__str__(value))
            except TypeError as error:
                raise ValueRefused(f"a string with a lone surrogate, which UTF-8 cannot hold: {value!r:.60}") from error
        return slow.encode(value)

    def decode(data: bytes) -> Any:
        value = decode_plain(data)
        return value if type(value) is str else slow.decode(data)

    return encode, decode


def _int_coder(annotation: Any) -> tuple[Encode, Decode]:
    slow = _Lazy(annotation)

    def encode(value: Any) -> bytes:
        try:
            return b"%d" % value if isinstance(value, int) else slow.encode(value)
        except ValueError as error:  # of so many digits that Python does not write them
            raise ValueRefused(str(error)) from error

    def decode(data: bytes) -> Any:
        value = decode_plain(data)
        return value if type(value) is int else slow.decode(data)

    return encode, decode


def _float_coder(annotation: Any) -> tuple[Encode, Decode]:
    slow = _Lazy(annotation)

    def encode(value: Any) -> bytes:
        if type(value) is float:
            if not isfinite(value):
                raise refuse(f"{value} has no JSON", None)
            return orjson.dumps(value)
        return slow.encode(value)

    def decode(data: bytes) -> Any:
        value = decode_plain(data)
        return value if type(value) is float else slow.decode(data)

    return encode, decode


def _bool_coder(annotation: Any) -> tuple[Encode, Decode]:
    slow = _Lazy(annotation)

    def encode(value: Any) -> bytes:
        if value is True:
            return b"true"
        return b"false" if value is False else slow.encode(value)

    def decode(data: bytes) -> Any:
        if data == b"true":
            return True
        return False if data == b"false" else slow.decode(data)

    return encode, decode


def _none_coder(annotation: Any) -> tuple[Encode, Decode]:
    slow = _Lazy(annotation)

    def encode(value: Any) -> bytes:
        return NULL if value is None else slow.encode(value)

    def decode(data: bytes) -> Any:
        return None if data == NULL else slow.decode(data)

    return encode, decode


class _Lazy:
    """The slow way of a scalar, for values that are not quite of its type; made when the first such value comes."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._made: tuple[Encode, Decode] | None = None

    def encode(self, value: Any) -> bytes:
        return self._coder()[0](value)

    def decode(self, data: bytes) -> Any:
        return self._coder()[1](data)

    def _coder(self) -> tuple[Encode, Decode]:
        if self._made is None:
            self._made = _annotated(self._annotation)
        return self._made


_SCALARS: dict[Any, Callable[[Any], tuple[Encode, Decode]]] = {
    str: _text_coder,
    int: _int_coder,
    float: _float_coder,
    bool: _bool_coder,
    type(None): _none_coder,
    None: _none_coder,
}
