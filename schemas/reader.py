"""Avro readers: from a schema, a function from bytes to a value, with no call for a field.

fastavro knows the schemas, but it does not read: it makes a stream of the bytes, calls itself for each field, and hands out dicts to make
values of. Here a record's schema becomes the statements that read its fields. A test holds them to what fastavro reads.

Rules of this file: who wrote the bytes may be anybody. A length is compared with what is left before anything is taken; a count is worth
no more than the items that follow it; bytes that are left over are an error.
"""

from collections.abc import Callable, Mapping
from itertools import count
from struct import Struct
from typing import Any, cast

from .avro import RecordSchema, WireError

Make = Callable[..., Any]
Decode = Callable[[bytes], Any]

_DOUBLE = Struct("<d")
_LONG_BITS = 64
_INDENT = "    "


def make_decode(
    schema: RecordSchema,
    *,
    makes: Mapping[str, Make] | None = None,
    converts: Mapping[str, Make] | None = None,
    items_max: int | None = None,
) -> Decode:
    """A function from a record's bytes to its value: what `makes` has under the name of the record, or of one within it, called with the
    fields in their order; any other is a dict. `converts` are called with outermost fields, by name. It raises WireError, also where an
    array or a map has more than `items_max`: an item of two bytes takes hundreds in memory."""
    plan = _Plan(schema, makes or {}, items_max)
    plan.say(0, "def decode(data):")
    plan.say(1, "at, end = 0, len(data)", "try:")
    fields = [(str(field["name"]), plan.read(field["type"], 2)) for field in schema.parsed["fields"]]
    plan.say(1, "except (IndexError, ValueError) as error:")
    plan.say(2, "found = f'{type(error).__name__}: {error} at byte {at} of {end}'")
    plan.say(2, "raise WireError(where, 'an Avro record', found) from error")
    plan.say(1, "if at != end:", "    raise WireError(where, f'{at} bytes', f'{end} bytes')")
    for name, convert in (converts or {}).items():
        plan.names[f"convert_{name}"] = convert
    converted = [(name, f"convert_{name}({read})" if name in (converts or {}) else read) for name, read in fields]
    plan.say(1, "try:", f"    return {plan.make(schema.name, converted)}")
    plan.say(1, "except ValueError as error:")
    plan.say(2, "raise WireError(where, f'values of {where}', str(error)) from error")
    # Nothing in it comes from outside: the names are those of schemas that we ship.
    exec("\n".join(plan.lines), plan.names)  # noqa: S102
    return cast("Decode", plan.names["decode"])


def _read_more(data: bytes, number: int, at: int) -> tuple[int, int]:
    """The rest of a number whose first byte says that more follow, and where it ends."""
    number, shift = number & 127, 7
    while shift < _LONG_BITS:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128 and number < 1 << _LONG_BITS:
            return number, at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def _refuse(what: str) -> None:
    raise ValueError(what)


class _Plan:
    """The statements of a reader while they are made. `read` adds those that read one value, and returns the expression for it."""

    def __init__(self, schema: RecordSchema, makes: Mapping[str, Make], items_max: int | None) -> None:
        self._named = schema.named
        self._items_max = items_max
        self._makes = makes
        self._numbers = count(1)
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            **{f"make_{name}": make for name, make in makes.items()},
            "WireError": WireError,
            "where": schema.name,
            "more": _read_more,
            "refuse": _refuse,
            "unpack": _DOUBLE.unpack,
        }

    def say(self, depth: int, *lines: str) -> None:
        self.lines.extend(_INDENT * depth + line for line in lines)

    def make(self, name: str, fields: list[tuple[str, str]]) -> str:
        """The expression for a record of these fields."""
        if name in self._makes:
            return f"make_{name}({', '.join(value for _, value in fields)})"
        return f"{{{', '.join(f'{field!r}: {value}' for field, value in fields)}}}"

    def read(self, kind: Any, depth: int) -> str:
        if isinstance(kind, list):
            return self._read_optional(kind[1], depth)
        kind = self._named.get(kind, kind) if isinstance(kind, str) else kind
        name = str(kind["type"] if isinstance(kind, dict) else kind)
        if name == "record":
            fields = [(str(field["name"]), self.read(field["type"], depth)) for field in kind["fields"]]
            return self.make(str(kind["name"]).rpartition(".")[2], fields)
        value = f"v{next(self._numbers)}"
        _READS[name](self, kind, value, depth)
        return value

    def _read_optional(self, kind: Any, depth: int) -> str:
        """A union of null and one type."""
        value = f"v{next(self._numbers)}"
        self.say(depth, "branch = data[at]", "at += 1", f"{value} = None", "if branch:")
        self.say(depth + 1, "if branch != 2: refuse(f'branch {branch} of a union of two')")
        self.say(depth + 1, f"{value} = {self.read(kind, depth + 1)}")
        return value

    def _number(self, name: str, depth: int) -> None:
        """A number as it is on the wire, its sign in the lowest bit."""
        self.say(depth, f"{name} = data[at]", "at += 1", f"if {name} > 127: {name}, at = more(data, {name}, at)")

    def _read_long(self, _kind: Any, value: str, depth: int) -> None:
        self._number("n", depth)
        self.say(depth, f"{value} = n >> 1 ^ -(n & 1)")

    def _read_bytes(self, _kind: Any, value: str, depth: int) -> None:
        self._number("n", depth)
        self.say(depth, "to = at + (n >> 1)", "if n & 1 or to > end: refuse('a length beyond the end')")
        self.say(depth, f"{value} = data[at:to]", "at = to")

    def _read_string(self, kind: Any, value: str, depth: int) -> None:
        self._read_bytes(kind, value, depth)
        self.say(depth, f"{value} = {value}.decode()")

    def _read_boolean(self, _kind: Any, value: str, depth: int) -> None:
        self.say(depth, "n = data[at]", "if n > 1: refuse(f'{n} is neither true nor false')")
        self.say(depth, f"{value} = n == 1", "at += 1")

    def _read_double(self, _kind: Any, value: str, depth: int) -> None:
        self.say(depth, "if at + 8 > end: refuse('a number beyond the end')")
        self.say(depth, f"{value}, = unpack(data[at:at + 8])", "at += 8")

    def _read_array(self, kind: Any, value: str, depth: int) -> None:
        self.say(depth, f"{value} = []")
        self._read_blocks(value, depth)
        self.say(depth + 2, f"{value}.append({self.read(kind['items'], depth + 2)})")

    def _read_map(self, kind: Any, value: str, depth: int) -> None:
        self.say(depth, f"{value} = {{}}")
        self._read_blocks(value, depth)
        key = self.read("string", depth + 2)
        self.say(depth + 2, f"{value}[{key}] = {self.read(kind['values'], depth + 2)}")

    def _read_blocks(self, value: str, depth: int) -> None:
        """Blocks of items up to an empty one; each has a count, and after a negative one its size in bytes. An item has a byte at least,
        so that no count is endless."""
        number = f"n{value}"
        self.say(depth, "while True:")
        self._number(number, depth + 1)
        self.say(depth + 1, f"if not {number}: break", f"if {number} & 1:")
        self._number("n", depth + 2)
        if (most := self._items_max) is not None:
            self.say(depth + 1, f"if len({value}) + ({number} + 1 >> 1) > {most}: refuse('more than {most:,} items')")
        self.say(depth + 1, f"for _ in range(({number} + 1) >> 1):")


_READS: dict[str, Callable[[_Plan, Any, str, int], None]] = {
    "int": _Plan._read_long,
    "long": _Plan._read_long,
    "bytes": _Plan._read_bytes,
    "string": _Plan._read_string,
    "boolean": _Plan._read_boolean,
    "double": _Plan._read_double,
    "array": _Plan._read_array,
    "map": _Plan._read_map,
}
