"""Outbox: go-back-N towards each target, of sends whose turn is confirmed (R7).

Rules of this file: only an unbroken prefix of delivery reports is acknowledged; after any failure everything from there is sent
again; the receiver drops what it has. Targets are partitions and DEAD_LETTER.
"""

from collections import deque
from collections.abc import Callable

import orjson

from perdure.schemas.records import DEAD_LETTER, Cursor

from .ports import BufferFull, Publisher
from .topics import LETTER_BYTES_MAX

RESEND_PAUSE_MS = 500
# What a topic of dead letters takes, with room for the headers.
KEPT_BYTES_MAX = LETTER_BYTES_MAX - 65_536
CUT = "cut"
"""The header that says how many bytes there were."""


class _Target:
    """The sends to one target that it may not have. `sent` counts from the front; `attempt` tells late reports apart."""

    __slots__ = ("acked", "attempt", "failed", "queue", "resend_at_ms", "sent")

    def __init__(self, acked: int) -> None:
        self.queue: deque[tuple[int, str, bytes]] = deque()
        self.sent = 0
        self.acked = acked
        self.attempt = 0
        self.failed = False
        self.resend_at_ms = 0


class Outbox:
    """All targets of one partition. `moved` holds the cursors to restate in the next turn; `depth` sends of `bytes` in all are not
    known to be delivered."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._targets: dict[int, _Target] = {}
        self._closed = False
        self.moved: dict[int, int] = {}
        self.failing: dict[int, str] = {}
        """Targets whose next send failed when it was last tried, and why. One that stays is an alarm."""
        self.resent = 0
        self.depth = 0
        self.bytes = 0

    def offer(self, target: int, sequence: int, key: str, message: bytes) -> None:
        """Take one confirmed send; sequences of a target come in order and without a gap."""
        out = self._targets.setdefault(target, _Target(sequence - 1))
        assert not out.queue or out.queue[-1][0] + 1 == sequence, (
            f"outbox to {target}: {sequence} after {out.queue[-1][0]}"
        )
        out.queue.append((sequence, key, message))
        self.depth += 1
        self.bytes += len(message)

    def step(self, now_ms: int) -> bool:
        """Send what may be sent; true if something was."""
        sent = False
        for target, out in self._targets.items():
            if out.failed and now_ms >= out.resend_at_ms:
                self.resent += out.sent
                out.failed, out.sent = False, 0
                out.attempt += 1
            while not out.failed and out.sent < len(out.queue):
                sequence, key, message = out.queue[out.sent]
                try:
                    self._publish(target, key, message, self._report(target, out, sequence, now_ms))
                except BufferFull:
                    return sent
                out.sent += 1
                sent = True
        return sent

    def _publish(self, target: int, key: str, message: bytes, delivered: Callable[[str | None], None]) -> None:
        if target == DEAD_LETTER:
            headers, value = decode_dead_letter(message)
            self._publisher.publish_dead_letter(key, value, headers, delivered)
        else:
            self._publisher.publish_inbox(target, key, message, delivered)

    def _report(self, number: int, out: _Target, sequence: int, now_ms: int) -> Callable[[str | None], None]:
        attempt = out.attempt

        def delivered(error: str | None) -> None:
            if self._closed or attempt != out.attempt or out.failed or sequence <= out.acked:
                return
            if error is not None:
                out.failed, out.resend_at_ms = True, now_ms + RESEND_PAUSE_MS
                self.failing[number] = error
                return
            head = out.queue.popleft()
            assert head[0] == sequence, f"report of {sequence} before {head[0]}"
            self.depth -= 1
            self.bytes -= len(head[2])
            out.sent -= 1
            out.acked = sequence
            self.moved[number] = sequence
            self.failing.pop(number, None)

        return delivered

    def take_cursors(self) -> tuple[Cursor, ...]:
        """The cursors that moved since the last call, for the next turn to state."""
        if not self.moved:
            return ()
        cursors = tuple(Cursor(target, acked) for target, acked in sorted(self.moved.items()))
        self.moved.clear()
        return cursors

    def close(self) -> None:
        """Ignore the reports that still come."""
        self._closed = True


def encode_dead_letter(reason: str, value: bytes | None, headers: dict[str, str]) -> bytes:
    """A dead letter as a send: its headers as one JSON line, then the original bytes; of too many the first ones, and how many there were."""
    value = value or b""
    if len(value) > KEPT_BYTES_MAX:
        value, headers = value[:KEPT_BYTES_MAX], {**headers, CUT: str(len(value))}
    return orjson.dumps({"reason": reason, **headers}) + b"\n" + value


def decode_dead_letter(message: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    head, _, value = message.partition(b"\n")
    return [(f"perdure-{name}", str(text).encode()) for name, text in orjson.loads(head).items()], value
