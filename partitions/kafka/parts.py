"""A reply that is too large for one message, in parts: a header on each names the reply, the part and how many there are.

Rules of this file: pure. Parts come in order, with those of other replies in between; a reply of which a part is missing is
forgotten, since its client asks again.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from secrets import token_hex

from ..ports import LogRecord

PART = "perdure-part"
PART_BYTES = 900_000
INCOMPLETE_MAX = 16
# More than the largest answer has; who writes more keeps nobody's memory.
PARTS_MAX = 64

Headers = list[tuple[str, bytes]]


def split(value: bytes) -> Iterator[tuple[bytes, Headers]]:
    """The messages that carry a reply; a small one has no headers."""
    if len(value) <= PART_BYTES:
        yield value, []
        return
    name, count = token_hex(8), -(-len(value) // PART_BYTES)
    for part in range(count):
        headers = [(PART, f"{name}/{part}/{count}".encode())]
        yield value[part * PART_BYTES : (part + 1) * PART_BYTES], headers


class Joining:
    """The replies of one client that have not come whole."""

    def __init__(self) -> None:
        self._incomplete: OrderedDict[str, list[bytes]] = OrderedDict()

    def take(self, record: LogRecord) -> LogRecord | None:
        """The reply that this record completes, if it does."""
        place = dict(record.headers).get(PART)
        if place is None:
            return record
        try:
            name, part, count = place.decode().split("/")
            number, last = int(part), int(count) - 1
        except ValueError:
            return None
        if not 0 < last < PARTS_MAX:
            return None
        parts = self._incomplete.setdefault(name, [])
        if number != len(parts):
            del self._incomplete[name]
            return None
        parts.append(record.value or b"")
        if number == last:
            del self._incomplete[name]
            return replace(record, value=b"".join(parts))
        while len(self._incomplete) > INCOMPLETE_MAX:
            self._incomplete.popitem(last=False)
        return None
