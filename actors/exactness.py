"""What JSON would change: found before it is written, and named by its path."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TypeAlias

from .errors import ValueRefused
from .limits import is_unicode

DEPTH_MAX = 64
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_SCALARS = frozenset({str, int, bool, type(None)})

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Where in a value: the way from the root, innermost last; None is the root. Made text only when something is wrong."""


def path_text(path: Path) -> str:
    """A path as `$.items[3].price`."""
    if path is None:
        return "$"
    parent, step = path
    if isinstance(step, str) and step.isidentifier():
        return f"{path_text(parent)}.{step}"
    return f"{path_text(parent)}[{step!r}]"


def refuse(reason: str, path: Path) -> ValueRefused:
    where = path_text(path)
    return ValueRefused(f"{where}: {reason}", where)


def check_plain(value: Any, path: Path = None, depth: int = 0, *, deep: bool = False) -> None:
    """Raise ValueRefused where JSON would change `value`. `deep` also looks into strings and at the size of integers."""
    kind = type(value)
    if kind is list or kind is dict:
        _check_items(value, path, depth, deep=deep)
    elif kind is float:
        if not isfinite(value):
            raise refuse(f"{value} has no JSON", path)
    elif kind not in _SCALARS:
        raise refuse(_why_not(value), path)
    elif deep:
        _check_scalar(value, path)


def _check_items(value: Any, path: Path, depth: int, *, deep: bool) -> None:
    if depth >= DEPTH_MAX:
        raise refuse(f"nested more than {DEPTH_MAX} deep", path)
    if type(value) is list:
        for index, item in enumerate(value):
            check_plain(item, (path, index), depth + 1, deep=deep)
        return
    for key, item in value.items():
        if type(key) is not str:
            raise refuse(f"a key that is not a string: {key!r:.60}", path)
        if deep:
            _check_scalar(key, path)
        check_plain(item, (path, key), depth + 1, deep=deep)


def _check_scalar(value: Any, path: Path) -> None:
    if type(value) is str and not is_unicode(value):
        raise refuse(f"a string with a lone surrogate, which UTF-8 cannot hold: {value!r:.60}", path)
    if type(value) is int and not _INT_MIN <= value <= _INT_MAX:
        raise refuse(f"an integer beyond 64 bits: {str(value)[:40]}; annotate it as int, or send it as a string", path)


def _why_not(value: Any) -> str:
    if isinstance(value, tuple):
        return "a tuple, which JSON would make a list; use a list, or annotate it"
    if isinstance(value, set | frozenset):
        return "a set, which JSON does not have; use a list, or annotate it"
    return f"a value of type {type(value).__qualname__}, which JSON does not have; annotate it, so that it can be written and read"


def depth_of(value: Any) -> int:
    """How deep parsed JSON is nested."""
    depth, level = 0, [value]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        depth, level = (depth + 1, inner) if any(isinstance(item, dict | list) for item in level) else (depth, [])
    return depth


def find_change(before: Any, after: Any, path: Path) -> tuple[Path, Any, Any] | None:
    """Where a value that went through JSON differs from what it was, and both there; None if it is the same."""
    if isinstance(after, list | tuple):
        if type(before) is not type(after) or len(before) != len(after):
            return path, before, after
        return _first_change(((index, before[index], item) for index, item in enumerate(after)), path)
    if isinstance(after, dict):
        if not isinstance(before, dict) or before.keys() != after.keys():
            return path, before, after
        return _first_change(((str(key), before[key], item) for key, item in after.items()), path)
    names = _attributes(after) if type(before) is type(after) else ()
    if names:
        parts = ((name, getattr(before, name, None), getattr(after, name, None)) for name in names)
        return _first_change(parts, path)
    return None if _equal(before, after) else (path, before, after)


def _first_change(parts: Iterable[tuple[str | int, Any, Any]], path: Path) -> tuple[Path, Any, Any] | None:
    return next((found for step, before, after in parts if (found := find_change(before, after, (path, step)))), None)


def _equal(before: Any, after: Any) -> bool:
    if type(before) is type(after) and getattr(type(after), "__eq__", None) is getattr(object, "__eq__", None):
        return True  # of a type without equality there is nothing to compare
    if isinstance(before, datetime) and isinstance(after, datetime) and before.tzinfo and after.tzinfo:
        # In the hour that a clock shows twice, times of different zones are never equal, though they are the same moment.
        return before.astimezone(UTC) == after.astimezone(UTC)
    try:
        return bool(before == after)
    except Exception:  # noqa: BLE001 - the author's __eq__ may do anything; what cannot be compared is taken as it is
        return True


def _attributes(value: Any) -> tuple[str, ...]:
    if is_dataclass(value):
        return tuple(field.name for field in fields(value) if field.init)
    return tuple(getattr(type(value), "model_fields", ()))
