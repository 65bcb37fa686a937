"""A feed: a folder of JSONL files to which conversations are appended, and how far behind it the index is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .sources import LineRange, cut_into_ranges, read_documents

_LINES_LOOKED_AT = 10_000
_LINES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Freshness:
    """How long the newest and the oldest message that is not indexed yet has waited; None when nothing waits.

    `waiting` counts messages, and stops at ten thousand.
    """

    waiting: int
    newest_age_seconds: float | None
    oldest_age_seconds: float | None


def find_new_lines(folder: Path, done: Mapping[str, int]) -> tuple[LineRange, ...]:
    """Return what each file of the feed holds beyond the bytes that are `done`, whole lines only."""
    found: list[LineRange] = []
    for path in sorted(folder.glob("*.jsonl")):
        start = done.get(path.name, 0)
        # One range of all the lines there are: its end is the end of the last whole line.
        found += cut_into_ranges(LineRange(str(path), start, -1), lines_each=1 << 62)
    return tuple(found)


def measure_freshness(folder: Path, done: Mapping[str, int], now: datetime) -> Freshness:
    """Say how old the messages are that the index does not have. A message without a time counts as waiting, not as old."""
    waiting, ages = 0, []
    for lines in find_new_lines(folder, done):
        for part in cut_into_ranges(lines, _LINES_AT_ONCE):
            documents, _ = read_documents(part)
            waiting += len(documents)
            ages += [
                (now - datetime.fromisoformat(document.at)).total_seconds() for document in documents if document.at
            ]
            if waiting >= _LINES_LOOKED_AT:
                return Freshness(waiting, min(ages, default=None), max(ages, default=None))
    return Freshness(waiting, min(ages, default=None), max(ages, default=None))
