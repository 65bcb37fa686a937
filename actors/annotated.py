"""Values of annotated types, by pydantic. One adapter for each annotation, made at definition time."""

import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator

from .errors import ValueRefused
from .exactness import DEPTH_MAX, Path, depth_of, find_change, refuse
from .wire_schema import CONFIG, wire_schema

# What comes back from JSON as it was, by construction. All else is read back and compared before it is written.
_EXACT = frozenset(
    {"str", "int", "bool", "none", "float", "bytes", "list", "tuple", "set", "frozenset", "nullable", "uuid"}
)
_UNWRITABLE = (PydanticSerializationError, ValueError, TypeError, OverflowError, RecursionError, AttributeError)
_NO_NUMBER = re.compile(rb"NaN|Infinity")


class Annotated:
    """Encode and decode values of one annotation."""

    __slots__ = ("_annotation", "_deep", "_reader", "_verify", "_writer")

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        schema = _schema_of(annotation)
        kinds = _kinds(schema)
        self._verify = not kinds <= _EXACT
        self._deep = bool(kinds & {"any", "definition-ref"})
        # A model's own reader and writer were made without the changes to its schema.
        written = wire_schema(schema)
        self._writer = SchemaSerializer(written, CONFIG, _use_prebuilt=False)
        self._reader = SchemaValidator(written, CONFIG, _use_prebuilt=False)

    def encode(self, value: Any) -> bytes:
        """The JSON of `value`, after making sure that it reads back as `value`."""
        try:
            data = self._dump(value)
        except _UNWRITABLE as error:
            if isinstance(error, RecursionError) or "depth exceeded" in str(error):
                raise refuse(f"nested more than {DEPTH_MAX} deep", None) from error
            # Pydantic's own words are in ours, or ours say the same in one line.
            cause = None if isinstance(error, PydanticSerializationError) else error
            raise _misfit(self._annotation, value, error) from cause
        if _NO_NUMBER.search(data):
            _refuse_nan(self._annotation, value, data)
        if self._deep and data.count(b"[") + data.count(b"{") > DEPTH_MAX and depth_of(orjson.loads(data)) > DEPTH_MAX:
            raise refuse(f"nested more than {DEPTH_MAX} deep", None)
        if self._verify:
            self._read_back(value, data)
        return data

    def decode(self, data: bytes) -> Any:
        """The value of JSON `data`."""
        try:
            return self._load(data)
        except ValidationError as error:
            raise _first(error) from None

    def _dump(self, value: Any) -> bytes:
        # What is computed from other fields is not written: it would not be read.
        return self._writer.to_json(value, warnings="error", round_trip=True)

    def _load(self, data: bytes) -> Any:
        return self._reader.validate_json(data, by_alias=True, by_name=True)

    def _read_back(self, value: Any, data: bytes) -> None:
        try:
            back = self._load(data)
        except ValidationError as error:
            refusal = _first(error)
            raise ValueRefused(f"{refusal} (as JSON it could not be read back)", refusal.path) from None
        found = find_change(value, back, None)
        if found is not None:
            where, before, after = found
            raise refuse(
                f"{before!r:.80} ({_kind(before)}) would come back as {after!r:.80} ({_kind(after)}); annotate it, or where it is "
                "one of several types that look alike in JSON, give each a Literal field of its own",
                where,
            )


def _kind(value: Any) -> str:
    return type(value).__qualname__


def _schema_of(annotation: Any) -> Any:
    try:
        adapter = TypeAdapter(annotation)
        if not isinstance(adapter.core_schema, dict):  # a model some of whose types were not there when it was defined
            adapter.rebuild(force=True)
        return adapter.core_schema
    except PydanticUserError as error:
        text = str(error).split("\n", 1)[0]
        raise TypeError(
            f"values of {annotation!r} have no JSON; use a dataclass or a pydantic model ({text})"
        ) from error


def _kinds(schema: Any) -> set[str]:
    """The kinds of schema that occur in a core schema."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            kind = node.get("type")
            if kind == "definitions":
                waiting.extend((node["schema"], node["definitions"]))
                continue
            if isinstance(kind, str):
                found.add(kind)
            waiting.extend(value for value in node.values() if isinstance(value, dict | list))
        elif isinstance(node, list | tuple):
            waiting.extend(node)
    return found


def _first(error: ValidationError) -> ValueRefused:
    first = error.errors(include_url=False, include_context=False)[0]
    path: Path = None
    for step in first["loc"]:
        path = (path, step)
    return refuse(f"{first['msg']}, found {first['input']!r:.80}", path)


def _refuse_nan(annotation: Any, value: Any, data: bytes) -> None:
    try:
        orjson.loads(data)  # only the word in a string, then
    except ValueError as error:
        raise _misfit(annotation, value, ValueError("a float that is not finite has no JSON")) from error


def _misfit(annotation: Any, value: Any, error: Exception) -> ValueRefused:
    """The innermost part of `value` that does not fit its annotation."""
    path: Path = None
    while True:
        inner = next((part for part in _parts(annotation, value) if not _fits(part[0], part[1])), None)
        if inner is None:
            break
        annotation, value, step = inner
        path = (path, step)
    if isinstance(error, PydanticSerializationError) and "Unexpected" in str(error):
        named = getattr(annotation, "__qualname__", None) or str(annotation)
        return refuse(f"expected {named}, found {value!r:.80} ({_kind(value)})", path)
    return refuse(str(error), path)


def _fits(annotation: Any, value: Any) -> bool:
    try:
        Annotated(annotation).encode(value)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is here
        return False
    return True


def _parts(annotation: Any, value: Any) -> list[tuple[Any, Any, str | int]]:
    """The parts of a value with their annotations and names; none for what has no parts."""
    arguments = get_args(annotation)
    origin = get_origin(annotation) or annotation
    if is_dataclass(origin) and isinstance(origin, type) and isinstance(value, origin):
        hints = get_type_hints(origin, include_extras=True)
        return [(hints[field.name], getattr(value, field.name, None), field.name) for field in fields(origin)]
    if isinstance(origin, type) and issubclass(origin, BaseModel) and isinstance(value, origin):
        return [(field.annotation, getattr(value, name, None), name) for name, field in origin.model_fields.items()]
    if isinstance(value, list | set | frozenset) and len(arguments) == 1:
        return [(arguments[0], item, index) for index, item in enumerate(value)]
    if isinstance(value, tuple) and origin is tuple:
        inner = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return [(a, item, index) for index, (a, item) in enumerate(zip(inner, value, strict=False))]
    if isinstance(value, dict) and len(arguments) == 2:
        return [(arguments[1], item, str(key)) for key, item in value.items()]
    return []
