"""Plain JSON on the inbox: what is understood, and that everything else is refused with what was expected."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.actors.limits import DEFAULT_LIMITS
from perdure.partitions.foreign import decode_foreign
from perdure.partitions.intake import Intake, Kind
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import HubIdentity, LogRecord
from perdure.partitions.state import PartitionState
from perdure.schemas import messages as ms
from perdure.schemas.codec import WireError, decode_inbound, encode_inbound
from perdure.schemas.events import Status
from perdure.schemas.messages import Inbound, ReusePolicy

HUB = HubIdentity("hub", "cluster", "history", 1)

LIMIT = DEFAULT_LIMITS.payload_bytes_max


def read(fields: Any) -> Inbound:
    return decode_foreign(fields if isinstance(fields, bytes) else json.dumps(fields).encode(), "made-from-the-record")


def test_a_start_says_all_that_a_client_can_say() -> None:
    start = {
        "start": "welcome", "id": "w-1", "input": ["Ada"], "tags": {"k": "v"}, "start_at": "2026-01-31T12:00:00+01:00",
        "if_exists": "replace", "replace_statuses": ["RUNNING"], "events": [{"name": "go", "input": 1}, {"name": "on"}],
        "request_id": "r-1",
    }  # fmt: skip
    body = ms.Start(
        "welcome", b'["Ada"]', {"k": "v"}, 1_769_857_200_000, ReusePolicy.REPLACE, (int(Status.RUNNING),),
        events=(("go", b"1"), ("on", b"null")),
    )  # fmt: skip

    assert Inbound("w-1", body, "r-1") == read(start)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"start": "welcome"}, Inbound("made-from-the-record", ms.Start("welcome"))),
        ({"start": "welcome", "id": ""}, Inbound("made-from-the-record", ms.Start("welcome"))),
        ({"raise": "go", "id": "i", "input": {"n": 1}}, Inbound("i", ms.RaiseEvent("go", b'{"n":1}'))),
        ({"raise": "go", "id": "i"}, Inbound("i", ms.RaiseEvent("go", b"null"))),
        ({"cancel": "i", "reason": "late"}, Inbound("i", ms.Cancel("late"))),
        ({"terminate": "i", "reason": "enough"}, Inbound("i", ms.Terminate(b'"enough"'))),
        ({"terminate": "i", "recursive": False}, Inbound("i", ms.Terminate(b"null", recursive=False))),
        ({"suspend": "i"}, Inbound("i", ms.Suspend())),
        ({"resume": "i", "request_id": "r"}, Inbound("i", ms.Resume(), "r")),
        ({"purge": "i", "force": True}, Inbound("i", ms.Purge(force=True))),
    ],
)
def test_every_verb_is_understood(fields: dict[str, Any], expected: Inbound) -> None:
    assert expected == read(fields)


@pytest.mark.parametrize("text", [b'\n  {"start": "welcome"}', b'\xef\xbb\xbf{"start": "welcome"}\r\n'])
def test_blanks_and_a_byte_order_mark_do_no_harm(text: bytes) -> None:
    assert ms.Start("welcome") == read(text).body


def test_numbers_stay_what_they_are() -> None:
    text = b'{"start": "add", "input": [1180591620717411303425, 0.1, -0.0, 1e3]}'
    body = read(text).body
    assert isinstance(body, ms.Start)

    assert b"[1180591620717411303425,0.1,-0.0,1000.0]" == body.input


@pytest.mark.parametrize("milliseconds", [0, -5, "1969-01-01T00:00Z"])
def test_a_start_in_the_past_is_one_now(milliseconds: Any) -> None:
    body = read({"start": "welcome", "start_at": milliseconds}).body
    assert isinstance(body, ms.Start)

    assert 0 == body.start_at_ms


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (b"\xff\x00", "expected a JSON object in UTF-8"),
        (b'{"start": ', "expected a JSON object in UTF-8"),
        (b'["start", "welcome"]', "expected a JSON object, found list"),
        (b"17", "expected a JSON object, found int"),
        (b'{"start": "welcome", "input": NaN}', "no JSON can hold it"),
        (b'{"start": "welcome", "input": 1e400}', "no JSON can hold it"),
        (b'{"start": "welcome", "input": "\\ud800"}', "surrogates"),
        (b'{"start": "\\udfff"}', "surrogates"),
        (b'{"start": "welcome", "input": ' + b"[" * 201 + b"]" * 201 + b"}", "nested more than 200 deep"),
        (b'{"start": "welcome", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "a JSON object"),
        ({}, "exactly one of start, raise, cancel, terminate, suspend, resume, purge, found nothing"),
        ({"begin": "welcome"}, "exactly one of .* found begin"),
        ({"start": "welcome", "cancel": "w-1"}, "exactly one of"),
        ({"start": ""}, "a name or an id"),
        ({"start": "x" * 501}, "a name or an id"),
        ({"start": 5}, "'start' of a 'start' message.*a string, found 5"),
        ({"start": "welcome", "id": 5}, "'id' of a 'start' message.*a string"),
        ({"start": "welcome", "id": "  "}, "an instance id must not be blank: '  '"),
        ({"start": "welcome", "name": "x"}, "no other fields than start, id, input.*found name"),
        ({"start": "welcome", "tags": ["k"]}, "'tags' .*an object"),
        ({"start": "welcome", "tags": {"k": 1}}, "tags are strings by strings"),
        ({"start": "welcome", "tags": {str(n): "v" for n in range(65)}}, "at most 64 tags"),
        ({"start": "welcome", "if_exists": "ignore"}, "one of reject, return, replace"),
        ({"start": "welcome", "replace_statuses": ["LOST"]}, "some of PENDING"),
        ({"start": "welcome", "replace_statuses": [["RUNNING"]]}, "some of PENDING"),
        ({"start": "welcome", "start_at": "tomorrow"}, "milliseconds since 1970 or an ISO 8601 time"),
        ({"start": "welcome", "start_at": True}, "milliseconds since 1970 or an ISO 8601 time"),
        ({"start": "welcome", "start_at": 10**30}, "before the year 10000"),
        ({"start": "welcome", "events": ["go"]}, "objects as"),
        ({"start": "welcome", "events": [{"name": "a\nb"}]}, "printable"),
        ({"start": "welcome", "input": "x" * (LIMIT - 1)}, f"at most {LIMIT} bytes of JSON, found {LIMIT + 1} bytes"),
        ({"raise": "go"}, "the 'id' of its instance"),
        ({"raise": "g\x00", "id": "i"}, "printable"),
        ({"cancel": "i", "reason": 5}, "'reason' of a 'cancel' message.*a string"),
        ({"cancel": "i", "reason": "x" * 4001}, "a reason has at most 4000 characters"),
        ({"terminate": "i", "reason": {"code": 7}}, "'reason' of a 'terminate' message.*a string"),
        ({"purge": "i", "force": "yes"}, "'force' of a 'purge' message.*true or false"),
        ({"resume": "i", "request_id": "r" * 201}, "at most 200 characters"),
    ],
)
def test_everything_else_is_refused_with_what_was_expected(fields: Any, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        read(fields)

    assert len(str(caught.value)) < 500


def intake_of(value: bytes) -> tuple[Kind, str]:
    taken = Intake("hub.inbox", 0, HUB, PartitionState()).take(LogRecord(7, None, value, 0))
    assert taken is not None
    return taken.kind, taken.reason or (taken.inbound.instance_id if taken.inbound else "")


def test_an_id_that_cannot_name_an_instance_is_refused_and_a_missing_one_comes_from_where_it_stands() -> None:
    assert (Kind.MESSAGE, "hub.inbox-0-7") == intake_of(b'{"start": "welcome"}')
    assert Kind.UNREADABLE == intake_of(b'{"start": "welcome", "id": "a\\u0000b"}')[0]
    assert Kind.UNREADABLE == intake_of(json.dumps({"start": "welcome", "id": "x" * 201}).encode())[0]
    assert (Kind.UNREADABLE, NOTHING) == intake_of_nothing()


NOTHING = "inbox message: expected a value, found none, or a batch that the client cannot unpack"


def intake_of_nothing() -> tuple[Kind, str]:
    taken = Intake("hub.inbox", 0, HUB, PartitionState()).take(LogRecord(7, None, None, 0))
    assert taken is not None
    return taken.kind, taken.reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = (
    "start", "raise", "cancel", "terminate", "suspend", "resume", "purge", "id", "input", "tags", "start_at", "if_exists",
    "replace_statuses", "events", "request_id", "reason", "recursive", "force",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON | st.text(max_size=5), max_size=4))
def test_any_object_is_a_message_that_travels_or_is_refused(fields: dict[str, Any]) -> None:
    try:
        inbound = decode_foreign(json.dumps(fields).encode(), "generated")
    except WireError:
        return
    assert inbound == decode_inbound(encode_inbound(inbound))
    partition_of(inbound.instance_id, 3)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_message_or_unreadable(value: bytes) -> None:
    assert intake_of(value)[0] in (Kind.MESSAGE, Kind.UNREADABLE, Kind.QUERY)
