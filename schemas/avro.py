"""Avro records: their schemas, read from `v<level>/<Name>.avsc` and parsed once, and the two errors of the wire.

Rule of this file: a schema that shipped is never changed, only followed by one of a higher level (R12).
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

from fastavro import parse_schema
from fastavro.repository.base import AbstractSchemaRepository
from fastavro.schema import load_schema

NAMESPACE = "perdure"
_FOLDER = Path(__file__).parent


class WireError(Exception):
    """Bytes that are not what they should be, or a value that cannot be written. Says what was expected, what was found, where."""

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found


class UnknownFormat(Exception):
    """A history record of a kind or format that this build does not know: refuse the partition, loudly (R12)."""

    def __init__(self, kind: int, format: int) -> None:  # noqa: A002 (the envelope's own word)
        super().__init__(
            f"history record of kind {kind}, format {format}: this build does not know it; "
            "run a build at least as new as the one that wrote it"
        )
        self.kind = kind
        self.format = format


class RecordSchema:
    """One Avro record: `parsed`, the names of its `fields`, and the named types in it by full name."""

    __slots__ = ("fields", "name", "named", "parsed")

    def __init__(self, schema: dict[str, Any]) -> None:
        self.named: dict[str, Any] = {}
        self.parsed = cast("dict[str, Any]", parse_schema(schema, self.named))
        self.name = str(schema["name"]).rpartition(".")[2]
        self.fields = [str(field["name"]) for field in self.parsed["fields"]]


class _Levels(AbstractSchemaRepository):
    """A name means the newest schema of that name which is not above `level`."""

    def __init__(self, level: int) -> None:
        self._level = level

    def load(self, name: str) -> Any:
        short = name.rpartition(".")[2]
        for level in range(self._level, 0, -1):
            path = _FOLDER / f"v{level}" / f"{short}.avsc"
            if path.exists():
                return json.loads(path.read_text(encoding="utf-8"))
        raise LookupError(f"no schema {short} at level {self._level} or below in {_FOLDER.name}/")


@cache
def shipped(name: str, level: int) -> RecordSchema:
    """The schema of record `name` as it is at `level`."""
    return RecordSchema(cast("dict[str, Any]", load_schema(f"{NAMESPACE}.{name}", repo=_Levels(level))))
