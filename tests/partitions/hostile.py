"""Hypothesis strategies for what a hostile or broken producer puts on an inbox."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from perdure.schemas import messages as ms
from perdure.schemas.codec import INBOX_MARK, WireError, encode_inbound
from perdure.schemas.events import Failure, Parent
from perdure.schemas.messages import Inbound, Origin, QueryKind, ReplyTo, ReusePolicy

EDGES = [-(1 << 63), -1, 0, 1, 1 << 31, 1 << 62, (1 << 63) - 1, 10**13, 253_402_300_799_999, 253_402_300_800_000]
LONGS = st.one_of(st.integers(-3, 3), st.sampled_from(EDGES), st.integers(-(1 << 63), (1 << 63) - 1))
INTS = st.one_of(st.integers(-3, 3), st.integers(-(1 << 31), (1 << 31) - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.one_of(
    st.sampled_from(["", "a", "b", "order", "listen", "sleep", "family", "go", "a\0b", "x" * 300, "ü"]), TEXTS
)
PAYLOADS = st.one_of(
    st.sampled_from(
        [b"null", b"1", b'{"a":1}', b'"%b"' % (b"x" * 3_000), b"[" * 300 + b"]" * 300, b"\x80", b"", b"NaN"]
    ),
    st.binary(max_size=12),
)
FAILURES = st.builds(
    Failure,
    NAMES,
    NAMES,
    NAMES,
    st.none() | st.builds(Failure, NAMES, NAMES, details=PAYLOADS),
    st.booleans(),
    PAYLOADS,
)
ARGUMENTS = st.sampled_from(
    [
        b"{}", b"", b"[]", b"null", b"{", b'{"from":-1}', b'{"from":"x"}', b'{"from":true}', b'{"from":18446744073709551615}',
        b'{"limit":-5}', b'{"limit":1e9}', b'{"after":"AAAA"}', b'{"after":"*"}', b'{"prefix":"\\u0000"}', b'{"held":1}',
        b'{"created_from":-9223372036854775808}', b'{"created_to":18446744073709551615}', b'{"tag":{"a":"b"}}', b'{"status":["X"]}',
    ]
)  # fmt: skip
BODIES = st.one_of(
    st.builds(
        ms.Start,
        NAMES,
        PAYLOADS,
        st.dictionaries(NAMES, NAMES, max_size=2),
        LONGS,
        st.sampled_from(ReusePolicy),
        st.lists(INTS, max_size=2).map(tuple),
        st.none() | st.builds(Parent, NAMES, NAMES, INTS, INTS),
        st.lists(st.tuples(NAMES, PAYLOADS), max_size=2).map(tuple),
        st.booleans(),
    ),
    st.builds(ms.RaiseEvent, NAMES, PAYLOADS),
    st.builds(ms.Cancel, NAMES),
    st.builds(ms.Terminate, PAYLOADS, st.booleans()),
    st.builds(ms.Suspend, NAMES),
    st.builds(ms.Resume, NAMES),
    st.builds(ms.Purge, st.booleans()),
    st.builds(ms.TaskResult, NAMES, INTS, INTS, PAYLOADS, st.none() | FAILURES),
    st.builds(ms.ChildResult, NAMES, INTS, INTS, PAYLOADS, st.none() | FAILURES),
    st.builds(ms.Query, st.sampled_from(QueryKind), ARGUMENTS),
)
FORGED = st.builds(Origin, st.sampled_from(["memory-topic-1", "another"]), st.integers(-1, 3), LONGS)
NOWHERE = st.builds(ReplyTo, NAMES, st.one_of(st.integers(-2, 3), INTS))


def _encode(message: Inbound) -> bytes:
    try:
        return encode_inbound(message)
    except WireError as error:
        return INBOX_MARK + str(error).encode()


def _damage(value: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    out = bytearray(value)
    for at, byte in changes:
        if out:
            out[at % len(out)] = byte
    return bytes(out)


MESSAGES = st.builds(Inbound, NAMES, BODIES, NAMES, st.none() | FORGED, st.none() | NOWHERE, st.integers(-1, 3)).map(
    _encode
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | LONGS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
FOREIGN = st.dictionaries(
    st.sampled_from(
        ["start", "raise", "cancel", "purge", "id", "input", "tags", "start_at", "events", "request_id", "?"]
    ),
    NAMES | JSON,
    max_size=4,
).map(lambda fields: json.dumps(fields).encode())

RECORDS = st.one_of(
    MESSAGES,
    FOREIGN,
    st.none(),
    st.builds(
        _damage, MESSAGES, st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 255)), min_size=1, max_size=4)
    ),
    st.builds(lambda value, end: value[:end], MESSAGES, st.integers(0, 60)),
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda data: INBOX_MARK + data),
    st.binary(max_size=40).map(lambda data: b"{" + data),
)
"""Any record that an inbox can hold: valid messages with absurd fields, plain JSON, damaged and cut ones, noise, nothing."""
