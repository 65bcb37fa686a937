"""The shape of JSON in a local format: whether what is read is what was written."""

from typing import Any

Shape = type | list[Any] | tuple[Any, ...]
"""A type: a value of just that type. A list of one shape: a list of such values. A tuple: a list with one value of each shape."""


def has_shape(value: object, shape: Shape) -> bool:
    """True if `value`, which orjson read, has the shape."""
    if isinstance(shape, type):
        return type(value) is shape
    if not isinstance(value, list):
        return False
    if isinstance(shape, list):
        return all(has_shape(each, shape[0]) for each in value)
    return len(value) == len(shape) and all(has_shape(each, part) for each, part in zip(value, shape, strict=True))
