"""From pydantic's schema of an annotation to the one that values are written and read by, so that more of them come back as they
were and equal values have equal bytes.

Rules of this file: only how a value is written and read changes, never what is valid; a node that the author gave a serializer
of its own is left alone.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, cast

from pydantic_core import PydanticSerializationUnexpectedValue, core_schema, to_jsonable_python

Node = dict[str, Any]

CONFIG = core_schema.CoreConfig(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
# What holds values that are no schemas, whatever they look like.
_OPAQUE = frozenset(
    {"cls", "config", "context", "default", "expected", "function", "members", "metadata", "serialization"}
)
_JSON_KEYS = frozenset({"str", "int", "float", "bool", "bytes", "uuid", "decimal", "date", "time", "datetime", "timedelta", "enum", "literal", "any", "url"})  # fmt: skip
_MINUTE = timedelta(minutes=1)


def wire_schema(schema: Any) -> Any:
    """The schema to write and read by, for a core schema of pydantic's."""
    if isinstance(schema, list | tuple):
        return type(schema)(wire_schema(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    node: Node = {
        key: value if key in _OPAQUE or not isinstance(value, dict | list | tuple) else wire_schema(value)
        for key, value in schema.items()
    }
    kind = node.get("type")
    rewrite = _REWRITE.get(kind) if isinstance(kind, str) and "serialization" not in node else None
    if rewrite is None:
        return node
    written = rewrite(node)
    return {**written, "ref": node["ref"]} if "ref" in node else written


def _write_sorted(node: Node) -> Node:
    """A set in an order of its own, not in that of this process's hashes."""
    kind = set if node["type"] == "set" else frozenset

    def write(value: Any, items: Callable[[Any], Any]) -> list[Any]:
        if not isinstance(value, kind):
            raise PydanticSerializationUnexpectedValue(f"expected {kind.__name__}, found {type(value).__qualname__}")
        return sorted(items(value), key=repr)

    return {**node, "serialization": core_schema.wrap_serializer_function_ser_schema(write, when_used="json")}


def _write_whole_minutes(node: Node) -> Node:
    """An offset with seconds, as all had before 1900, has no place in the text: such a time is written in UTC."""

    def write(value: Any, text: Callable[[Any], Any]) -> Any:
        if not isinstance(value, datetime):
            raise PydanticSerializationUnexpectedValue(f"expected datetime, found {type(value).__qualname__}")
        offset = value.utcoffset()
        return text(value.astimezone(UTC) if offset is not None and offset % _MINUTE else value)

    return {**node, "serialization": core_schema.wrap_serializer_function_ser_schema(write, when_used="json")}


def _write_bytes_as_base64(node: Node) -> Node:
    """A model has a configuration of its own; what it does not say is as everywhere here."""
    return {**node, "config": {**CONFIG, **node.get("config", {})}}


def _write_names(node: Node) -> Node:
    """An enum by name, where its values are no scalars of JSON."""
    if all(isinstance(member.value, str | int | float) for member in node["members"]):
        return node
    return _by_text({member.name: member for member in node["members"]}, node["cls"])


def _write_forms(node: Node) -> Node:
    """A literal by what its values are in JSON, where enum members and bytes are among them."""
    if not any(isinstance(value, Enum | bytes) for value in node["expected"]):
        return node
    forms = [(to_jsonable_python(value, bytes_mode="base64"), value) for value in node["expected"]]

    def read(found: Any) -> Any:
        for form, value in forms:
            if type(found) is type(form) and found == form:
                return value
        raise ValueError(f"expected one of {[form for form, _ in forms]}")

    return {**core_schema.no_info_plain_validator_function(read), "serialization": {"type": "any"}}


def _write_entries(node: Node) -> Node:
    """A mapping whose keys cannot be text, as a list of pairs."""
    keys: Node = node.get("keys_schema") or {"type": "any"}
    if keys.get("type") == "enum":
        named = {str(to_jsonable_python(member)): member for member in keys["members"]}
        texts = all(isinstance(member.value, str) for member in keys["members"])
        return (
            node
            if texts or len(named) < len(keys["members"])
            else {**node, "keys_schema": _by_text(named, keys["cls"])}
        )
    if _is_text(keys):
        return node
    values: Node = node.get("values_schema") or {"type": "any"}
    pairs = core_schema.list_schema(core_schema.tuple_schema(cast("list[core_schema.CoreSchema]", [keys, values])))

    def entries(value: Any) -> list[Any]:
        if not isinstance(value, dict):
            raise PydanticSerializationUnexpectedValue(f"expected dict, found {type(value).__qualname__}")
        return list(value.items())

    serialization = core_schema.plain_serializer_function_ser_schema(entries, return_schema=pairs, when_used="json")
    return {**core_schema.no_info_after_validator_function(dict, pairs), "serialization": serialization}


def _is_text(keys: Node) -> bool:
    """True where JSON's keys can stand for such keys. A reference may lead anywhere, so it cannot."""
    if keys.get("type") in ("function-after", "function-before", "function-wrap", "default"):
        return _is_text(keys["schema"])
    return keys.get("type") in _JSON_KEYS or "function" in str(keys.get("type"))


def _write_list(node: Node) -> Node:
    """An Iterable is written as a list, and read as one: there is no stream in a record."""
    return dict(core_schema.list_schema(node.get("items_schema")))


def _by_text(members: dict[str, Any], kind: type[Any]) -> Node:
    texts = {member: text for text, member in members.items()}

    def read(text: Any) -> Any:
        if text not in members:
            raise ValueError(f"expected one of {', '.join(members)}")
        return members[text]

    def write(value: Any) -> str:
        if not isinstance(value, kind):
            raise PydanticSerializationUnexpectedValue(
                f"expected {kind.__qualname__}, found {type(value).__qualname__}"
            )
        return texts[value]

    serialization = core_schema.plain_serializer_function_ser_schema(
        write, return_schema=core_schema.str_schema(), when_used="json"
    )
    return {**core_schema.no_info_plain_validator_function(read), "serialization": serialization}


_REWRITE: dict[str, Callable[[Node], Node]] = {
    "set": _write_sorted,
    "frozenset": _write_sorted,
    "datetime": _write_whole_minutes,
    "model": _write_bytes_as_base64,
    "dataclass": _write_bytes_as_base64,
    "typed-dict": _write_bytes_as_base64,
    "enum": _write_names,
    "literal": _write_forms,
    "dict": _write_entries,
    "generator": _write_list,
}
