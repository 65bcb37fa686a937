"""What stands in a segment file: a head, then batches of records, each batch one group commit under one checksum.

Rules of this file: pure. A batch is written only after the one before it was synced, so a whole batch behind a broken place
proves that the broken place had been acknowledged: that is corruption. With nothing whole behind it, it is a torn tail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, error
from typing import NamedTuple
from zlib import crc32

from ..ports import LogRecord

FORMAT = 1
HEAD_MAGIC = b"PDS1"
BATCH_MAGIC = b"PDB1"
NO_BYTES = -1
_HEAD = Struct("<4sIII")  # magic, checksum of the rest, format, partitions; then for each its next offset and its start
_BATCH = Struct("<4sII")  # magic, checksum of the rest, bytes of the body
_ENTRY = Struct("<BIqqiiI")  # kind, partition, offset, timestamp, bytes of key, of value, of headers; then these
_HEADER = Struct("<Ii")  # bytes of name and value; then these
BATCH_HEAD_BYTES = _BATCH.size


class EntryKind(IntEnum):
    RECORD = 0
    TRIM = 1  # `offset` is the partition's new start


class Entry(NamedTuple):
    """One record, or the trimming of a partition to `offset`."""

    kind: EntryKind
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """Where each partition stands at the beginning of a segment."""

    ends: tuple[int, ...]
    starts: tuple[int, ...]


class Broken(Exception):
    """These bytes are not what was written."""


def head_bytes(partition_count: int) -> int:
    return _HEAD.size + 16 * partition_count


def encode_head(head: SegmentHead) -> bytes:
    count = len(head.ends)
    body = Struct(f"<II{2 * count}q").pack(FORMAT, count, *head.ends, *head.starts)
    return HEAD_MAGIC + crc32(body).to_bytes(4, "little") + body


def decode_head(data: bytes) -> SegmentHead:
    """Raises Broken."""
    try:
        magic, checksum, version, count = _HEAD.unpack_from(data)
        places = Struct(f"<{2 * count}q").unpack_from(data, _HEAD.size)
    except error:
        raise Broken("the segment's head is cut short") from None
    if magic != HEAD_MAGIC or crc32(data[8 : head_bytes(count)]) != checksum:
        raise Broken("the segment's head does not fit its checksum")
    if version != FORMAT:
        raise Broken(f"the segment is of format {version}, this build reads {FORMAT}")
    return SegmentHead(places[:count], places[count:])


def encode_batch(entries: Sequence[Entry]) -> bytes:
    parts: list[bytes] = []
    for kind, partition, offset, timestamp_ms, key, value, headers in entries:
        packed = b"".join(map(_encode_header, headers)) if headers else b""
        sizes = (NO_BYTES if key is None else len(key), NO_BYTES if value is None else len(value), len(packed))
        parts.append(_ENTRY.pack(kind, partition, offset, timestamp_ms, *sizes))
        parts.append((key or b"") + packed)
        parts.append(value or b"")
    body = b"".join(parts)
    length = len(body).to_bytes(4, "little")
    return b"".join((BATCH_MAGIC, crc32(body, crc32(length)).to_bytes(4, "little"), length, body))


def _encode_header(header: tuple[str, bytes]) -> bytes:
    name = header[0].encode()
    return _HEADER.pack(len(name), len(header[1])) + name + header[1]


def decode_batch_head(data: bytes) -> tuple[int, int]:
    """Return the checksum and the length of the body that follows. Raises Broken."""
    try:
        magic, checksum, length = _BATCH.unpack(data)
    except error:
        raise Broken("a batch is cut short") from None
    if magic != BATCH_MAGIC:
        raise Broken("no batch begins here")
    return checksum, length


def check_batch(checksum: int, length: int, body: bytes) -> None:
    """Raises Broken."""
    if len(body) != length:
        raise Broken("a batch is cut short")
    if crc32(body, crc32(length.to_bytes(4, "little"))) != checksum:
        raise Broken("a batch does not fit its checksum")


def decode_places(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each entry of a batch as (kind, partition, offset, position in the body), its content unread."""
    position, end, size = 0, len(body), _ENTRY.size
    while position < end:
        kind, partition, offset, _, key, value, headers = _ENTRY.unpack_from(body, position)
        yield kind, partition, offset, position
        position += size + max(key, 0) + headers + max(value, 0)


def decode_record(body: bytes, position: int) -> LogRecord:
    """The record whose entry stands at `position` of a batch's body."""
    _, _, offset, timestamp_ms, key_length, value_length, headers_length = _ENTRY.unpack_from(body, position)
    at = position + _ENTRY.size
    key = None if key_length < 0 else body[at : at + key_length]
    at += max(key_length, 0)
    headers = _decode_headers(body[at : at + headers_length]) if headers_length else ()
    at += headers_length
    value = None if value_length < 0 else body[at : at + value_length]
    return LogRecord(offset, key, value, timestamp_ms, headers)


def _decode_headers(data: bytes) -> tuple[tuple[str, bytes], ...]:
    headers: list[tuple[str, bytes]] = []
    at = 0
    while at < len(data):
        name, value = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        headers.append((data[at : at + name].decode(), data[at + name : at + name + value]))
        at += name + value
    return tuple(headers)


def find_whole_batch(data: bytes, start: int) -> int | None:
    """The position of the first whole batch at `start` or after it."""
    at = data.find(BATCH_MAGIC, start)
    while at >= 0:
        try:
            checksum, length = decode_batch_head(data[at : at + BATCH_HEAD_BYTES])
            check_batch(checksum, length, data[at + BATCH_HEAD_BYTES : at + BATCH_HEAD_BYTES + length])
        except Broken:
            at = data.find(BATCH_MAGIC, at + 1)
        else:
            return at
    return None
