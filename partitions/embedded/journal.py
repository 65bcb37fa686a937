"""One topic on disk: segment files in which all its partitions are interleaved, an index in memory, trimming by whole files.

Rules of this file: one thread appends, any thread reads; a reader sees only what was synced. A segment is complete, and synced,
before the next one begins, so only the last one can have a torn tail.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO

import structlog

from ..ports import LogCorrupt, LogRecord, LogSpan, LogTruncated
from ..private import make_private, open_private
from .frames import (
    BATCH_HEAD_BYTES,
    Broken,
    Entry,
    EntryKind,
    SegmentHead,
    check_batch,
    decode_batch_head,
    decode_head,
    decode_places,
    decode_record,
    encode_batch,
    encode_head,
    find_whole_batch,
    head_bytes,
)

SEGMENT_BYTES = 64 << 20
SAMPLE_BYTES = 256 << 10
# O_DSYNC syncs within the write itself: one system call, and one wait for the interpreter's lock instead of two.
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_DSYNC

_log = structlog.get_logger("perdure.embedded")


@dataclass(slots=True)
class Segment:
    """One file. `samples`: positions of batches, and the next offset of each partition there."""

    path: Path
    head: SegmentHead
    size: int
    samples: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)


class Journal:
    """The segments of one topic. `append` is durable when it returns."""

    def __init__(
        self, directory: Path, partition_count: int, *, writable: bool, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._lock = Lock()
        self._segments: list[Segment] = []
        self._file = -1
        self._head_bytes = head_bytes(partition_count)
        self._ends = [0] * partition_count
        self._starts = [0] * partition_count
        for path in sorted(directory.glob("*.segment")):
            self._open_segment(path, writable=writable)
        if self._segments:
            self._recover_last(writable=writable)
        if writable:
            self._start_appending()

    def span(self, partition: int) -> LogSpan:
        return LogSpan(self._starts[partition], self._ends[partition])

    def append(self, entries: Sequence[Entry]) -> None:
        """Write one batch and sync it. Raises OSError: nothing of the batch is there then, unless the error came twice."""
        if self._segments[-1].size >= self._segment_bytes:
            self._roll()
        segment = self._segments[-1]
        data = memoryview(encode_batch(entries))
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, segment.size)
            raise
        with self._lock:
            _sample(segment, segment.size, self._ends)
            segment.size += len(data)
            for entry in entries:
                if entry.kind == EntryKind.RECORD:
                    self._ends[entry.partition] = entry.offset + 1
                else:
                    self._starts[entry.partition] = entry.offset
        if any(entry.kind == EntryKind.TRIM for entry in entries):
            self._delete_trimmed()

    def read(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        """Read [start, end). Raises LogTruncated and LogCorrupt."""
        span = self.span(partition)
        if start < span.start or end > span.end:
            raise LogTruncated(
                f"{self._directory.name}, partition {partition}: [{start}, {end}) was asked for, [{span.start}, {span.end}) is there"
            )
        expected = start
        while expected < end:
            with self._lock:
                # The last segment that begins at or before `expected`.
                index = bisect_right(self._segments, expected, key=lambda each: each.head.ends[partition]) - 1
                segment = self._segments[index] if index >= 0 else None
            if segment is None:
                raise LogTruncated(
                    f"{self._directory.name}, partition {partition}: offset {expected} was trimmed while it was read"
                )
            before = expected
            for record in self._read_segment(segment, partition, expected, end):
                yield record
                expected += 1
            if expected == before:
                raise LogCorrupt(f"{segment.path}: offset {expected} of partition {partition} is not there")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open_segment(self, path: Path, *, writable: bool) -> None:
        try:
            with path.open("rb") as file:
                head = decode_head(file.read(self._head_bytes))
        except Broken as broken:
            # The very last file may have been cut off at its creation; nothing was in it.
            if path.stat().st_size < self._head_bytes and path == max(self._directory.glob("*.segment")):
                if writable:
                    _log.warning("torn segment removed", file=str(path))
                    path.unlink()
                return
            raise LogCorrupt(f"{path}, position 0: {broken}") from None
        except FileNotFoundError:
            return  # trimmed by its owner, beside whom we read
        if len(head.ends) != len(self._ends):
            raise LogCorrupt(f"{path}: the segment has {len(head.ends)} partitions, the hub {len(self._ends)}")
        self._segments.append(Segment(path, head, path.stat().st_size, [(self._head_bytes, head.ends)]))

    def _recover_last(self, *, writable: bool) -> None:
        """Read the last segment to its end; cut a torn tail off, refuse corruption."""
        segment = self._segments[-1]
        self._ends, self._starts = list(segment.head.ends), list(segment.head.starts)
        position = self._head_bytes
        with segment.path.open("rb") as file:
            try:
                while position < segment.size:
                    body = _read_batch(file, position, segment.size)
                    _sample(segment, position, self._ends)
                    for kind, partition, offset, _ in decode_places(body):
                        if kind == EntryKind.TRIM:
                            self._starts[partition] = offset
                        elif offset != self._ends[partition]:
                            raise LogCorrupt(
                                f"{segment.path}, position {position}: offset {offset}, not {self._ends[partition]}"
                            )
                        else:
                            self._ends[partition] += 1
                    position += BATCH_HEAD_BYTES + len(body)
            except Broken as broken:
                file.seek(0)
                behind = find_whole_batch(file.read(), position + 1)
                if behind is not None:
                    raise LogCorrupt(
                        f"{segment.path}, position {position}: {broken}; acknowledged records stand behind it"
                    ) from None
                _log.warning(
                    "torn tail cut off", file=str(segment.path), position=position, bytes=segment.size - position
                )
                if writable:
                    with segment.path.open("r+b") as torn:
                        torn.truncate(position)
                        os.fsync(torn.fileno())
                segment.size = position

    def _start_appending(self) -> None:
        if not self._segments:
            make_private(self._directory, ("*.segment",))
            self._add_segment(0)
        self._file = os.open(self._segments[-1].path, _APPEND)

    def _roll(self) -> None:
        number = int(self._segments[-1].path.stem) + 1
        self._add_segment(number)
        os.close(self._file)
        self._file = os.open(self._segments[-1].path, _APPEND)

    def _add_segment(self, number: int) -> None:
        path = self._directory / f"{number:012d}.segment"
        head = SegmentHead(tuple(self._ends), tuple(self._starts))
        try:
            with open(path, "wb", opener=open_private) as file:
                file.write(encode_head(head))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_directory(self._directory)
        with self._lock:
            self._segments.append(Segment(path, head, self._head_bytes, [(self._head_bytes, head.ends)]))

    def _delete_trimmed(self) -> None:
        """Delete the oldest segments of which no partition wants anything; a synced trim says so."""
        while len(self._segments) > 1 and all(
            end <= start for end, start in zip(self._segments[1].head.ends, self._starts, strict=True)
        ):
            with self._lock:
                gone = self._segments.pop(0)
            gone.path.unlink()

    def _read_segment(self, segment: Segment, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        with self._lock:
            index = bisect_right(segment.samples, start, key=lambda sample: sample[1][partition]) - 1
            position, ends = segment.samples[index]
            size = segment.size
        counts = list(ends)
        try:
            file = segment.path.open("rb", buffering=1 << 16)
        except FileNotFoundError:
            raise LogTruncated(f"{segment.path} was trimmed while it was read") from None
        with file:
            while position < size and counts[partition] < end:
                try:
                    body = _read_batch(file, position, size)
                except Broken as broken:
                    raise LogCorrupt(f"{segment.path}, position {position}: {broken}") from None
                with self._lock:
                    _sample(segment, position, counts)
                for kind, owner, offset, at in decode_places(body):
                    if kind != EntryKind.RECORD:
                        continue
                    if offset != counts[owner]:
                        raise LogCorrupt(
                            f"{segment.path}, position {position}: offset {offset} of partition {owner}, not {counts[owner]}"
                        )
                    counts[owner] += 1
                    if owner == partition and start <= offset < end:
                        yield decode_record(body, at)
                position += BATCH_HEAD_BYTES + len(body)


def _read_batch(file: IO[bytes], position: int, size: int) -> bytes:
    """Read the body of the batch at `position` of a file whose synced part ends at `size`. Raises Broken."""
    file.seek(position)
    checksum, length = decode_batch_head(file.read(BATCH_HEAD_BYTES))
    if position + BATCH_HEAD_BYTES + length > size:
        raise Broken("a batch is cut short")
    body = file.read(length)
    check_batch(checksum, length, body)
    return body


def _sample(segment: Segment, position: int, ends: Sequence[int]) -> None:
    if position >= segment.samples[-1][0] + SAMPLE_BYTES:
        segment.samples.append((position, tuple(ends)))


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
