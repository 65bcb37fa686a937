"""Avro writers: from a schema, a function that gives a value's bytes, straight from its attributes.

fastavro knows the schemas, but it does not write: it wants a dict for each record and looks up every field's type anew. Here a
record's schema becomes one Python expression over all its fields. A test holds them to fastavro's bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any, cast

from .avro import RecordSchema, WireError
from .events import Failure

Get = Callable[[Any], Any]
Encode = Callable[[Any], bytes]

FAILURE_LINKS_MAX = 64
_INT_MIN, _INT_END = -(1 << 31), 1 << 31
_LONG_MIN, _LONG_END = -(1 << 63), 1 << 63
_DOUBLE = Struct("<d")
_SMALL_END = 1024


def make_encode(
    schema: RecordSchema,
    *,
    mark: bytes = b"",
    gets: Mapping[str, Get] | None = None,
    encodes: Mapping[str, Encode] | None = None,
) -> Encode:
    """A function from a value to `mark` and its Avro record.

    A field is the attribute of its name, unless `gets` has it; a nested record is an object with such attributes, unless
    `encodes` has its name.
    """
    encode_record = _Plan(schema, encodes or {}).encode_record(schema.parsed, gets or {}, mark)

    def encode(value: Any) -> bytes:
        try:
            return encode_record(value)
        except (TypeError, ValueError, AttributeError) as error:
            raise WireError(
                schema.name, "values that its schema can hold", f"{type(error).__name__}: {error}"
            ) from error

    return encode


def encode_long(number: int) -> bytes:
    """Zigzag, then seven bits a byte, lowest first."""
    return _SMALL[number] if 0 <= number < _SMALL_END else _encode_large(number)


def encode_bytes(data: bytes) -> bytes:
    """Its length and itself."""
    size = len(data)
    return (_SMALL[size] if size < _SMALL_END else _encode_large(size)) + data


def _encode_long(number: int) -> bytes:
    if not _LONG_MIN <= number < _LONG_END:
        raise ValueError(f"{number} does not fit 64 bits")
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


# Lengths, task ids and attempts are small; an epoch and a time are written again and again.
_SMALL = tuple(map(_encode_long, range(_SMALL_END)))
_encode_large = lru_cache(maxsize=1024, typed=True)(_encode_long)


def _encode_int(number: int) -> bytes:
    if not _INT_MIN <= number < _INT_END:
        raise ValueError(f"{number} does not fit 32 bits")
    return encode_long(number)


def _encode_string(text: str) -> bytes:
    return encode_bytes(text.encode())


def _encode_boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def _encode_double(number: float) -> bytes:
    return _DOUBLE.pack(number)


def _encode_tags(tags: Mapping[str, str]) -> bytes:
    if not tags:
        return b"\x00"
    pairs = [_encode_string(text) for pair in tags.items() for text in pair]
    return b"".join((encode_long(len(tags)), *pairs, b"\x00"))


def _array_of(encode: Encode) -> Encode:
    """An array is one block and a zero."""

    def encode_array(values: Sequence[Any]) -> bytes:
        return b"".join((encode_long(len(values)), *map(encode, values), b"\x00")) if values else b"\x00"

    return encode_array


def _optional(encode: Encode) -> Encode:
    """A union of null and one type."""

    def encode_union(value: Any) -> bytes:
        return b"\x00" if value is None else b"\x02" + encode(value)

    return encode_union


_PLAIN: dict[str, Encode] = {
    "int": _encode_int,
    "long": encode_long,
    "bytes": encode_bytes,
    "string": _encode_string,
    "boolean": _encode_boolean,
    "double": _encode_double,
}
# The same in place, without a call: what most fields of most records are. `{}` is the field.
_INLINE = {
    "int": "small[n] if 0 <= (n := {}) < small_end else encode_int(n)",
    "long": "small[n] if 0 <= (n := {}) < small_end else encode_large(n)",
    "bytes": "small[n] if (n := len(d := {})) < small_end else encode_large(n), d",
    "string": "small[n] if (n := len(d := {}.encode())) < small_end else encode_large(n), d",
    "boolean": 'b"\\x01" if {} else b"\\x00"',
    "array": '{encode}(d) if (d := {}) else b"\\x00"',
    "map": '{encode}(d) if (d := {}) else b"\\x00"',
}
_NAMES = {"small": _SMALL, "small_end": _SMALL_END, "encode_large": _encode_large, "encode_int": _encode_int}


class _Plan:
    """One schema while its writer is made."""

    def __init__(self, schema: RecordSchema, encodes: Mapping[str, Encode]) -> None:
        self._named = schema.named
        self._encodes = encodes

    def encode_record(self, record: Any, gets: Mapping[str, Get], mark: bytes = b"") -> Encode:
        """The fields of a record, one after the other."""
        names: dict[str, Any] = {**_NAMES, "join": b"".join}
        pieces = [repr(mark)]
        for field in record["fields"]:
            name, kind = str(field["name"]), field["type"]
            value = f"value.{name}"
            if name in gets:
                names[f"get_{name}"], value = gets[name], f"get_{name}(value)"
            names[f"encode_{name}"] = self._encode(kind)
            inline = _INLINE.get(_kind_of(kind), "{encode}({})")
            pieces.append(inline.format(value, encode=f"encode_{name}"))
        # Nothing in it comes from outside: the names are those of schemas that we ship.
        return cast("Encode", eval(f"lambda value: join(({', '.join(pieces)},))", names))  # noqa: S307

    def _encode(self, kind: Any) -> Encode:
        if isinstance(kind, list):
            return _optional(self._encode(kind[1]))
        name = _kind_of(kind)
        if name in _PLAIN:
            return _PLAIN[name]
        if name == "map":
            return _encode_tags
        if name != "array":
            return self._encode_named(kind["name"] if isinstance(kind, dict) else name)
        encode = _array_of(self._encode(kind["items"]))
        if _name(kind["items"]) == "FailureLink":
            return lambda failure: encode(_links(failure))
        return encode

    def _encode_named(self, name: str) -> Encode:
        encode = self._encodes.get(_name(name))
        return encode or self.encode_record(self._named[name], _PAIR if _name(name) == "NamedPayload" else {})


_PAIR: dict[str, Get] = {"name": itemgetter(0), "payload": itemgetter(1)}


def _kind_of(kind: Any) -> str:
    """The type that Avro gives a field: a plain one, array, map, or the name of a record; `union` of null and another."""
    if isinstance(kind, list):
        return "union"
    return str(kind["type"] if isinstance(kind, dict) else kind)


def _name(kind: Any) -> str:
    name: str = kind["name"] if isinstance(kind, dict) and "name" in kind else str(kind)
    return name.rpartition(".")[2]


def _links(failure: Failure | None) -> list[Failure]:
    """A failure, its cause, the cause's cause: flat, as they are on the wire."""
    links: list[Failure] = []
    while failure is not None:
        if len(links) == FAILURE_LINKS_MAX:
            raise ValueError(f"a failure with more than {FAILURE_LINKS_MAX} causes")
        links.append(failure)
        failure = failure.cause
    return links
