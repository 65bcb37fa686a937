"""The index of a partition's instances: what to write when a header changes, and how to list without reading histories.

Rules of this file: every index entry is `x`, a selector, and the instance's place, which sorts newest first and then by id; the
value is empty. So all selectors list instances in one order, and instances that several of them select are found by
leaping from place to place, never by reading a header that does not match.
"""

from base64 import b64decode, urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import islice
from typing import Protocol

import orjson

from perdure.schemas.events import Status
from perdure.schemas.frozen import dataclass

from .header import InstanceHeader, decode_header, header_changes, header_key, read_header
from .keys import end_of
from .ports import Change, Store

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
# A list is answered on the engine's thread: after so many entries (some 20 ms) it ends early, with a cursor to go on from.
ENTRIES_EXAMINED_MAX = 10_000
# Headers carry inputs and results; beyond so many bytes of them a page ends early too.
PAGE_BYTES_MAX = 2_000_000
# Up to so many ids with a prefix are sorted in memory; more of them are found by looking at every place.
PREFIX_IDS_MAX = 1000
_LAST_PLACE = b"\xff" * 9
_STEPS_BEFORE_SEEK = 4


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which instances, newest first. No statuses: all of them; `created_to_ms` is exclusive; `after` is a page's cursor."""

    statuses: tuple[Status, ...] = ()
    name: str | None = None
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    held: bool | None = None
    limit: int = LIMIT_DEFAULT
    after: str | None = None


def decode_list_query(arguments: bytes) -> ListQuery:
    """The arguments of a LIST query. Raises ValueError that says what is allowed."""
    fields = orjson.loads(arguments)
    if not isinstance(fields, dict):
        raise ValueError(f"the arguments of a list are a JSON object, not {arguments[:40]!r}")
    known = {"status", "name", "prefix", "tag", "created_from", "created_to", "held", "limit", "after"}
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"a list does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}")
    limit = _number(fields, "limit")
    held = fields.get("held")
    if held is not None and not isinstance(held, bool):
        raise ValueError(f"held must be true, false or null, not {held!r}")
    return ListQuery(
        _statuses(fields.get("status") or ()),
        _string(fields, "name"),
        _string(fields, "prefix") or "",
        _tags(fields.get("tag") or {}),
        _number(fields, "created_from"),
        _number(fields, "created_to"),
        held,
        LIMIT_DEFAULT if limit is None else max(1, min(limit, LIMIT_MAX)),
        _string(fields, "after"),
    )


def index_changes(old: InstanceHeader | None, new: InstanceHeader | None) -> list[Change]:
    """What to write, header included, so that the store lists `new` where it listed `old`; both are of one instance."""
    changes = header_changes(old, new)
    if old is not None and new is not None and _differ_in_status_alone(old, new):
        if old.status != new.status:
            place = _place(new)
            changes += ((_status(old.status) + place, None), (_status(new.status) + place, b""))
        return changes
    before = set() if old is None else _entries(old)
    after = set() if new is None else _entries(new)
    changes.extend((key, None) for key in sorted(before - after))
    changes.extend((key, b"") for key in sorted(after - before))
    return changes


def list_instances(store: Store, query: ListQuery) -> tuple[list[InstanceHeader], str | None]:
    """One page, and the cursor of the next one. A page may be short, even empty, and still have a next one."""
    first, last = _window(query)
    if query.after is not None:
        first = max(first, decode_cursor(query.after))
    if first >= last:
        return [], None
    streams = _streams(store, query, last)
    headers: list[InstanceHeader] = []
    budget, size = ENTRIES_EXAMINED_MAX, 0
    place: bytes | None = first
    prefix = query.prefix.encode()
    while place is not None and budget > 0:
        place, examined = _leap(streams, place, budget)
        budget -= examined
        if place is None or budget <= 0:
            break
        if place.startswith(prefix, 8):
            header = read_header(store, place[8:].decode())
            assert header is not None, f"the index names {place[8:]!r}, of which there is no header"
            if query.held is None or query.held == bool(header.held_kind):
                if len(headers) == query.limit or size > PAGE_BYTES_MAX:
                    break
                headers.append(header)
                size += len(header.input) + len(header.result) + len(header.custom_status)
        place += b"\x00"
    return headers, None if place is None else encode_cursor(place)


class _Stream(Protocol):
    """Places in order. `seek` goes to the first one that is at `place` or behind it; never back."""

    def seek(self, place: bytes) -> bytes | None: ...


class _Scanned:
    """The places below one selector in the store."""

    def __init__(self, store: Store, selector: bytes, last: bytes) -> None:
        self._store = store
        self._selector = selector
        self._end = selector + last
        self._entries: Iterator[tuple[bytes, bytes]] | None = None
        self._at: bytes | None = None

    def seek(self, place: bytes) -> bytes | None:
        if self._entries is None:
            return self._scan_from(place)
        # The next place is often one of the next entries, and a step is cheaper than a seek in the store.
        for _ in range(_STEPS_BEFORE_SEEK):
            if self._at is None or self._at >= place:
                return self._at
            self._take_next(self._entries)
        return self._at if self._at is None or self._at >= place else self._scan_from(place)

    def _scan_from(self, place: bytes) -> bytes | None:
        self._entries = self._store.scan(self._selector + place, self._end)
        return self._take_next(self._entries)

    def _take_next(self, entries: Iterator[tuple[bytes, bytes]]) -> bytes | None:
        entry = next(entries, None)
        self._at = None if entry is None else entry[0][len(self._selector) :]
        return self._at


class _Listed:
    """Places sorted in memory."""

    def __init__(self, places: Sequence[bytes]) -> None:
        self._places = places
        self._next = 0

    def seek(self, place: bytes) -> bytes | None:
        self._next = bisect_left(self._places, place, self._next)
        return self._places[self._next] if self._next < len(self._places) else None


class _AnyOf:
    """The places of several streams."""

    def __init__(self, streams: Sequence[_Stream]) -> None:
        self._streams = streams

    def seek(self, place: bytes) -> bytes | None:
        return min((at for stream in self._streams if (at := stream.seek(place)) is not None), default=None)


def _leap(streams: Sequence[_Stream], place: bytes, budget: int) -> tuple[bytes | None, int]:
    """The first place from `place` on that all streams have, and how many seeks it took; beyond `budget`, how far it came."""
    agreeing = seeks = 0
    while agreeing < len(streams):
        for stream in streams:
            at = stream.seek(place)
            seeks += 1
            if at is None:
                return None, seeks
            agreeing = agreeing + 1 if at == place else 1
            place = at
            if agreeing == len(streams):
                break
        if seeks > budget:
            break
    return place, seeks


def _streams(store: Store, query: ListQuery, last: bytes) -> list[_Stream]:
    streams: list[_Stream] = []
    if query.prefix and (listed := _prefix_places(store, query.prefix)) is not None:
        streams.append(_Listed([place for place in listed if place < last]))
    if query.held:
        streams.append(_Scanned(store, _HELD, last))
    streams.extend(_Scanned(store, _tag(key, value), last) for key, value in query.tags.items())
    if query.statuses:
        streams.append(_AnyOf([_Scanned(store, _status(status), last) for status in query.statuses]))
    if query.name is not None:
        streams.append(_Scanned(store, _name(query.name), last))
    return streams or [_Scanned(store, _ALL, last)]


def _prefix_places(store: Store, prefix: str) -> list[bytes] | None:
    """The places of all ids with `prefix`, unless they are too many to sort."""
    start = header_key(prefix)
    found = list(islice(store.scan(start, start + b"\xff"), PREFIX_IDS_MAX + 1))
    if len(found) > PREFIX_IDS_MAX:
        return None
    return sorted(_place(decode_header(key[1:].decode(), value)[0]) for key, value in found)


def read_held(store: Store) -> list[str]:
    """The ids of all instances that are listed as held."""
    return [key[len(_HELD) + TIME_BYTES :].decode() for key, _ in store.scan(_HELD, end_of(_HELD))]


TIME_BYTES = 8
# Selectors. A text is preceded by its length, so that none is another one's prefix.
_ALL = b"xc"
_HELD = b"xh"


def _status(status: Status) -> bytes:
    return b"xs%c" % int(status)


def _name(name: str) -> bytes:
    return b"xn" + _sized(name)


def _tag(key: str, value: str) -> bytes:
    return b"xt" + _sized(key) + _sized(value)


def _sized(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def place_of(created_ms: int, instance_id: str) -> bytes:
    """Where an instance stands in every list; the lists of several partitions are merged by it."""
    return _newest_first(created_ms) + instance_id.encode()


def _place(header: InstanceHeader) -> bytes:
    return place_of(header.created_ms, header.instance_id)


def _newest_first(time_ms: int) -> bytes:
    return ((1 << 64) - 1 - max(0, time_ms)).to_bytes(TIME_BYTES, "big")


def _entries(header: InstanceHeader) -> set[bytes]:
    place = _place(header)
    entries = {_ALL + place, _status(header.status) + place, _name(header.name) + place}
    entries.update(_tag(key, value) + place for key, value in header.tags.items())
    if header.held_kind:
        entries.add(_HELD + place)
    return entries


def _differ_in_status_alone(old: InstanceHeader, new: InstanceHeader) -> bool:
    return (
        old.created_ms == new.created_ms
        and old.name == new.name
        and bool(old.held_kind) == bool(new.held_kind)
        and (old.tags is new.tags or old.tags == new.tags)
    )


def _window(query: ListQuery) -> tuple[bytes, bytes]:
    """The first place of the creation window, and the first one behind it."""
    first = b"" if query.created_to_ms is None else _newest_first(query.created_to_ms - 1)
    if query.created_to_ms is not None and query.created_to_ms <= 0:
        return _LAST_PLACE, _LAST_PLACE
    last = _LAST_PLACE if query.created_from_ms is None else _newest_first(query.created_from_ms) + b"\xff"
    return first, last


def encode_cursor(place: bytes) -> str:
    """The cursor of a page that goes on at `place`."""
    return urlsafe_b64encode(place).decode()


def decode_cursor(cursor: str) -> bytes:
    """The place that a cursor goes on from. Raises ValueError."""
    try:
        return b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError as error:
        raise ValueError(f"{cursor!r} is not a cursor; pass on the `next` of an earlier page") from error


def _statuses(names: object) -> tuple[Status, ...]:
    allowed = [status.name for status in Status if status != Status.CONTINUED_AS_NEW]
    if not isinstance(names, list | tuple) or any(name not in allowed for name in names):
        raise ValueError(f"status must be a list of {', '.join(allowed)}; found {names!r}")
    return tuple(dict.fromkeys(Status[name] for name in names))


def _tags(tags: object) -> dict[str, str]:
    if not isinstance(tags, dict) or any(not isinstance(value, str) for value in tags.values()):
        raise ValueError(f"tag must be an object of strings; found {tags!r}")
    return tags


def _string(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a string; found {value!r}")
    return value


def _number(fields: Mapping[str, object], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{name} must be a whole number; found {value!r}")
    return value
