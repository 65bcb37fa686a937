"""A hub's history in a file: JSON lines, one record each, offsets kept, so that an audit of the file is one of the log."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import orjson

from perdure.partitions.bases import Base, base_of, named_base
from perdure.partitions.ports import HubIdentity, LogRecord, LogSpan, LogTruncated
from perdure.partitions.state import NO_BASE

Records = Mapping[int, Iterable[LogRecord]]


class ExportError(Exception):
    """A line of an export that is none; the message names file and line."""


class NotAnExport(Exception):
    """The file is another one of ours; the message says which, and what it is for."""


class ExportTrimmed(Exception):
    """A partition's history was trimmed while it was written to where nothing can be taken back."""


class History(Protocol):
    """Where a history can be read: any log, or a reader of one."""

    @property
    def identity(self) -> HubIdentity: ...

    def span_history(self, partition: int, /) -> LogSpan: ...

    def read_history(self, partition: int, start: int, end: int, /) -> Iterator[LogRecord]: ...


@runtime_checkable
class Living(Protocol):
    """Records of a log whose owner may trim it while they are read."""

    def __iter__(self) -> Iterator[LogRecord]: ...

    def look_again(self) -> bool: ...


class _Stretch:
    """One partition's history as it was at first, to be read as often as it takes."""

    def __init__(self, history: History, partition: int) -> None:
        self._history = history
        self._partition = partition
        self._span = history.span_history(partition)

    def __iter__(self) -> Iterator[LogRecord]:
        return self._history.read_history(self._partition, self._span.start, self._span.end)

    def look_again(self) -> bool:
        """From here on it is as it is now; True if some of it was let go of since (R15)."""
        before, self._span = self._span, self._history.span_history(self._partition)
        return self._span.start > before.start


def read_log(history: History, partitions: Iterable[int] | None = None) -> dict[int, Iterable[LogRecord]]:
    """The history of these partitions (of all), as far as it goes now. Reading blocks."""
    wanted = range(history.identity.partition_count) if partitions is None else partitions
    return {partition: _Stretch(history, partition) for partition in wanted}


def find_beginning(records: Iterable[LogRecord]) -> Base | None:
    """The base at which the evidence begins, where a log was trimmed: the highest that is named in what is left of it (R15)."""
    first = next(iter(records), None)
    if first is None or first.offset == 0:
        return None
    base = max((named_base(record.value) for record in records), default=NO_BASE)
    return next((found for record in records if record.offset == base and (found := base_of(record))), None)


def write_export(records: Records, out: TextIO, *, rewinds: bool = True) -> int:
    """Write all records; return how many. A partition that its owner trims meanwhile (R15) is written anew, from where it begins
    then; raises ExportTrimmed where `out` cannot be rewound."""
    return sum(_write_partition(partition, records[partition], out, rewinds=rewinds) for partition in sorted(records))


def _write_partition(partition: int, stretch: Iterable[LogRecord], out: TextIO, *, rewinds: bool) -> int:
    start = out.tell() if rewinds else 0
    while True:
        count = 0
        try:
            for record in stretch:
                out.write(_line(partition, record))
                count += 1
        except LogTruncated as error:
            if not isinstance(stretch, Living) or not stretch.look_again():
                raise
            if rewinds:
                out.seek(start)
                out.truncate()
            elif count:
                raise ExportTrimmed(
                    f"the history of partition {partition} was trimmed while it was exported, and what was written of it "
                    "cannot be taken back; export to a file, where it is written anew"
                ) from error
        else:
            return count


def _line(partition: int, record: LogRecord) -> str:
    line = {
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _show_key(record.key),
        "value": None if record.value is None else b64encode(record.value).decode(),
    }
    return orjson.dumps(line).decode() + "\n"


def _show_key(key: bytes | None) -> Any:
    """Keys are text, but a stranger's may be anything."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(key or b"").decode()}


def read_export(path: Path) -> dict[int, list[LogRecord]]:
    """The records of an export by partition, in the order of the file. Raises ExportError, NotAnExport, OSError."""
    records: dict[int, list[LogRecord]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                partition, record = _parse(orjson.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                if number == 1 and _is_saved_history(path):
                    raise NotAnExport(
                        "that is one instance's history: replay it with perdure.testing.replay; `perdure audit --export` makes exports"
                    ) from None
                raise ExportError(f"{path.name}, line {number}: expected an exported record, found {error}") from error
            records.setdefault(partition, []).append(record)
    return records


def _is_saved_history(path: Path) -> bool:
    """Whether `perdure history ID --json` wrote it."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() == {"instance", "turns"}


def _parse(line: Any) -> tuple[int, LogRecord]:
    if not isinstance(line, dict):
        raise ValueError(f"a {type(line).__name__}")
    record = LogRecord(
        offset=_whole(line, "offset"),
        key=_read_key(line["key"]),
        value=None if line["value"] is None else b64decode(line["value"], validate=True),
        timestamp_ms=_whole(line, "timestamp_ms"),
    )
    return _whole(line, "partition"), record


def _whole(line: dict[str, Any], name: str) -> int:
    number = line[name]
    if type(number) is not int:
        raise ValueError(f"{number!r:.40} as its {name}")
    return number


def _read_key(key: Any) -> bytes | None:
    if isinstance(key, dict):
        return b64decode(key["base64"], validate=True)
    if key is not None and not isinstance(key, str):
        raise ValueError(f"{key!r:.40} as its key")
    return None if key is None else key.encode()
