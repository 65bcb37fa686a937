"""Where documents come from: files of JSONL that grow, and exports of conversations, cut into batches by byte ranges.

A batch names a range of whole lines in a file, never the text itself: histories stay small and a repeated step reads the
same bytes. An export is first written out as JSONL, so that all later steps know one format.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import orjson

from workloads.files import digest_of, replace_file

from .documents import BadDocument, Document, decode_chatgpt, decode_line


class SourceKind(StrEnum):
    JSONL = "jsonl"
    CHATGPT = "chatgpt"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to index from byte `start` to `end` (-1: as far as it reaches when it is read). An export is read whole and
    belongs to `person`."""

    path: str
    kind: SourceKind = SourceKind.JSONL
    person: str = ""
    start: int = 0
    end: int = -1


@dataclass(frozen=True, slots=True)
class LineRange:
    """Whole lines of a JSONL file, from byte `start` up to `end`."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is not a document."""

    path: str
    byte: int
    reason: str


class BadSource(ValueError):
    """A source that cannot be read at all; the message says what was expected."""


def write_export_as_lines(source: Source, folder: Path) -> Path:
    """Write the documents of a conversations.json as JSONL into `folder`, unless they are there, and return the file."""
    path = folder / f"{digest_of(source.path)}.jsonl"
    if path.exists():
        return path
    if not source.person or "/" in source.person:
        raise BadSource(f"{source.path}: an export needs the person whose it is (without '/'), found {source.person!r}")
    try:
        conversations = orjson.loads(Path(source.path).read_bytes())
    except orjson.JSONDecodeError as error:
        raise BadSource(f"{source.path}: not JSON: {error}") from None
    if not isinstance(conversations, list):
        raise BadSource(f"{source.path}: expected a list of conversations, found {type(conversations).__name__}")
    lines = []
    for number, conversation in enumerate(conversations):
        try:
            lines += [orjson.dumps(asdict(document)) for document in decode_chatgpt(conversation, source.person)]
        except (BadDocument, AttributeError) as error:
            # Kept as a line that is no document: it is then rejected, counted and shown like any other.
            lines.append(orjson.dumps(f"conversation {number}: {error}"))
    replace_file(path, b"".join(line + b"\n" for line in lines))
    return path


def cut_into_ranges(source: LineRange, lines_each: int) -> Iterator[LineRange]:
    """Yield ranges of at most `lines_each` whole lines; `end` -1 means as far as there are any. A last line without its
    end is still being written, and left for the next time."""
    first, at, count = source.start, source.start, 0
    for line in _read_lines(source):
        at += len(line)
        count += 1
        if count == lines_each:
            yield LineRange(source.path, first, at)
            first, count = at, 0
    if count:
        yield LineRange(source.path, first, at)


def read_documents(lines: LineRange) -> tuple[list[Document], list[Rejected]]:
    """Read the documents of a range, and the lines that are none."""
    documents, rejected, at = [], [], lines.start
    for line in _read_lines(lines):
        if line.strip():
            try:
                documents.append(decode_line(orjson.loads(line)))
            except (BadDocument, orjson.JSONDecodeError) as error:
                rejected.append(Rejected(lines.path, at, str(error)))
        at += len(line)
    return documents, rejected


def _read_lines(lines: LineRange) -> Iterator[bytes]:
    at = lines.start
    with Path(lines.path).open("rb") as file:
        file.seek(at)
        for line in file:
            at += len(line)
            if not line.endswith(b"\n") or 0 <= lines.end < at:
                break
            yield line
