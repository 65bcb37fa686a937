"""What is written is read again, the bytes are Avro as fastavro knows it, and no bytes at all make a decoder misbehave."""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from io import BytesIO
from typing import Any, ClassVar

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.schemas import codec, message_codec
from perdure.schemas import messages as ms
from perdure.schemas import records as rc
from perdure.schemas.avro import RecordSchema, UnknownFormat, WireError, shipped
from perdure.schemas.events import ExecutionResumed, Failure, TaskCompleted, TaskFailed, TimerFired, UnknownEvent
from perdure.schemas.reader import make_decode
from perdure.schemas.record_codec import BODIES, FORMATS
from perdure.schemas.writer import FAILURE_LINKS_MAX, make_encode
from tests.fuzzing import fuzzed
from tests.schemas.values import EVENTS, RECORDS, TRAVELLING, any_of, messages, unknown_events

ENCODE: dict[type[Any], Callable[[Any], bytes]] = {
    rc.TurnBody: codec.encode_turn,
    rc.Claim: lambda claim: codec.encode_claim(replace(claim, level=1)),
    rc.Checkpoint: lambda checkpoint: codec.encode_checkpoint(replace(checkpoint, level=1)),
    rc.CarriedHistory: codec.encode_carried,
    rc.LevelRaised: codec.encode_level,
    rc.Attempt: codec.encode_attempt,
}
DECODE: dict[type[Any], Callable[[bytes, int], Any]] = {
    rc.TurnBody: codec.decode_turn,
    rc.Claim: codec.decode_claim,
    rc.Checkpoint: codec.decode_checkpoint,
    rc.CarriedHistory: codec.decode_carried,
    rc.LevelRaised: codec.decode_level,
    rc.Attempt: codec.decode_attempt,
}


@pytest.mark.parametrize("cls", EVENTS)
@given(data=st.data())
@settings(max_examples=40)
def test_every_event_is_read_as_it_was_written(cls: type[Any], data: st.DataObject) -> None:
    event = data.draw(any_of(cls))

    assert event == codec.decode_event(cls.KIND, codec.encode_event(event))


@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@settings(max_examples=60)
def test_every_record_body_is_read_as_it_was_written(cls: type[Any], data: st.DataObject) -> None:
    body = data.draw(any_of(cls))
    if cls in (rc.Claim, rc.Checkpoint):
        body = replace(body, level=1)

    assert body == DECODE[cls](ENCODE[cls](body), 1)


@given(any_of(rc.Envelope))
def test_every_envelope_is_read_as_it_was_written(envelope: rc.Envelope) -> None:
    value = codec.encode_envelope(envelope)

    assert codec.HISTORY_MARK == value[:1]
    assert envelope == codec.decode_envelope(value)


@given(messages())
def test_every_message_is_read_as_it_was_written(message: ms.Inbound) -> None:
    assert message == codec.decode_inbound(codec.encode_inbound(message))


@given(any_of(ms.Reply), any_of(rc.SnapshotManifest))
def test_replies_and_manifests_are_read_as_they_were_written(reply: ms.Reply, manifest: rc.SnapshotManifest) -> None:
    assert reply == codec.decode_reply(codec.encode_reply(reply))
    assert manifest == codec.decode_manifest(codec.encode_manifest(manifest))


@pytest.mark.parametrize("cls", [*EVENTS, *TRAVELLING, rc.Claim, rc.Checkpoint, rc.Envelope, ms.Reply])
@given(data=st.data())
@settings(max_examples=25)
def test_the_bytes_are_those_that_fastavro_writes(cls: type[Any], data: st.DataObject) -> None:
    schema = shipped(cls.__name__, 1)
    written = make_encode(schema)(data.draw(any_of(cls)))
    sink = BytesIO()

    fastavro.schemaless_writer(sink, schema.parsed, make_decode(schema)(written), strict=True)

    assert sink.getvalue() == written


def test_of_more_items_than_anybody_may_send_none_is_made() -> None:
    """Two bytes each; a block in one piece, or in many."""
    events = ms.Start("order", events=(("", b""),) * 600_000)
    value = codec.encode_inbound(ms.Inbound("a", events, "r"))
    tracemalloc.start()
    with pytest.raises(codec.UnreadableBody, match="more than 10,000 items"):
        codec.decode_inbound(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * len(value)
    decode = make_decode(BLOCKS, items_max=3)
    assert {"numbers": [1, 1, 1], "names": {}} == decode(b"\x02\x02\x04\x02\x02\x00\x00")
    for more in (b"\x08", b"\x07\x08", b"\x02\x02\x06"):
        with pytest.raises(WireError, match="more than 3 items"):
            decode(more + b"\x02" * 9 + b"\x00\x00")


@pytest.mark.parametrize("cls", [*EVENTS, *TRAVELLING, *RECORDS, rc.Envelope, rc.SnapshotManifest, ms.Reply])
@given(data=st.data())
@fuzzed(60)
def test_what_is_read_of_damaged_bytes_fastavro_reads_as_well(cls: type[Any], data: st.DataObject) -> None:
    schema = shipped(cls.__name__, 1)
    written = bytearray(
        make_encode(schema)(data.draw(any_of(cls))) if cls not in RECORDS else ENCODE[cls](data.draw(any_of(cls)))
    )
    for _ in range(data.draw(st.integers(0, 3)) if written else 0):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.sampled_from([0, 1, 2, 3, 127, 128, 255]))
    source = BytesIO(bytes(written))
    with suppress(WireError):
        found = make_decode(schema)(source.getvalue())
        assert repr(found) == repr(fastavro.schemaless_reader(source, schema.parsed, None))
        assert source.tell() == len(written)


BLOCKS = RecordSchema(
    {
        "type": "record",
        "name": "Blocks",
        "namespace": "perdure",
        "fields": [
            {"name": "numbers", "type": {"type": "array", "items": "long"}},
            {"name": "names", "type": {"type": "map", "values": "string"}},
        ],
    }
)


def test_arrays_and_maps_may_come_in_blocks_with_and_without_their_size() -> None:
    numbers = b"\x02\x01" + b"\x03\x06" + b"\x04\x80\x01" + b"\x00"  # one, then two with their three bytes
    names = b"\x02\x02a\x02b" + b"\x01\x08\x02c\x02d" + b"\x00"

    assert {"numbers": [-1, 2, 64], "names": {"a": "b", "c": "d"}} == make_decode(BLOCKS)(numbers + names)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "IndexError: index out of range at byte 0 of 0"),
        (b"\x02" + b"\xff" * 10, "a number of more than 64 bits at byte 2 of 11"),
        (b"\x00\x02\x09ab", "a length beyond the end at byte 3 of 5"),
        (b"\x00\x02\x0cab", "a length beyond the end at byte 3 of 5"),
        (b"\x00\x02\x02\xff\x00", "UnicodeDecodeError"),
    ],
)
def test_what_is_no_record_is_refused_and_the_place_is_named(data: bytes, found: str) -> None:
    with pytest.raises(WireError, match=f"Blocks: expected an Avro record, found .*{found}"):
        make_decode(BLOCKS)(data)


@pytest.mark.parametrize("cls", [*EVENTS, *TRAVELLING, *RECORDS, rc.Envelope, rc.SnapshotManifest, ms.Reply])
def test_a_schema_has_the_fields_of_its_class_in_their_order(cls: type[Any]) -> None:
    assert [field.name for field in fields(cls)] == [
        field["name"] for field in shipped(cls.__name__, 1).parsed["fields"]
    ]


@given(unknown_events())
def test_an_event_of_an_unknown_kind_is_kept_byte_for_byte(event: UnknownEvent) -> None:
    turn = rc.TurnBody(1, events=(event, TimerFired(1, 2)))

    assert event.body == codec.encode_event(event)
    assert turn == codec.decode_turn(codec.encode_turn(turn), 1)


def test_a_record_of_an_unknown_kind_or_format_is_refused() -> None:
    turn = codec.encode_turn(rc.TurnBody(1))

    for refused in (lambda: codec.decode_turn(turn, 2), lambda: codec.decode_claim(b"", 0)):
        with pytest.raises(UnknownFormat, match="this build does not know it"):
            refused()
    assert not codec.knows_format(rc.RecordKind.TURNS, 1)
    assert not codec.knows_format(99, 1)


def test_every_kind_of_record_has_a_format_and_a_schema_of_it() -> None:
    reserved = {rc.RecordKind.TURNS}

    assert set(rc.RecordKind) - reserved == set(BODIES)
    for cls, levels in FORMATS.items():
        assert list(levels) == sorted(levels)
        assert all(shipped(cls.__name__, level).name == cls.__name__ for level in levels)
    assert max(codec.LEVELS) == rc.LEVEL == codec.VOCABULARY.level


def test_messages_that_do_not_travel_are_neither_written_nor_read() -> None:
    due = ms.Inbound("i", ms.TimerDue("e", 1, ms.TimerPurpose.TIMER, 5))

    with pytest.raises(WireError, match="a message that travels, found TimerDue"):
        codec.encode_inbound(due)
    value = codec.encode_inbound(ms.Inbound("i", ms.Cancel()))
    at = value.index(bytes([2 * ms.Cancel.KIND]), 2)
    with pytest.raises(WireError, match="a kind among"):
        codec.decode_inbound(value[:at] + bytes([2 * ms.TimerDue.KIND]) + value[at + 1 :])


def test_of_a_message_that_is_too_large_only_the_origin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = ms.Origin("topic", 3, 7)
    value = codec.encode_inbound(ms.Inbound("i", ms.RaiseEvent("go", b"1"), origin=origin))

    def read_body(kind: int, data: bytes) -> ms.Body:
        raise AssertionError("the body was read")

    assert origin == codec.decode_inbound(value, len(value)).origin
    monkeypatch.setattr(message_codec, "_decode_body", read_body)
    with pytest.raises(AssertionError, match="the body was read"):
        codec.decode_inbound(value, len(value))
    with pytest.raises(
        codec.UnreadableBody, match=f"at most {len(value) - 1} bytes, found {len(value)} bytes"
    ) as refused:
        codec.decode_inbound(value, len(value) - 1)
    assert origin == refused.value.origin


def test_bytes_left_over_are_refused() -> None:
    body = codec.encode_event(TaskCompleted(1, 1))

    with pytest.raises(WireError, match=f"TaskCompleted: expected {len(body)} bytes, found {len(body) + 1} bytes"):
        codec.decode_event(TaskCompleted.KIND, body + b"\0")


def test_the_first_byte_says_what_a_value_is() -> None:
    reply = codec.encode_reply(ms.Reply("c", "r", 0))

    with pytest.raises(WireError, match="inbox message: expected first byte 0xd1, found 0xd2"):
        codec.decode_inbound(reply)
    with pytest.raises(WireError, match="found nothing"):
        codec.decode_envelope(b"")


def test_what_a_schema_cannot_hold_is_refused() -> None:
    for event in (TimerFired(1 << 63, 0), ExecutionResumed("\ud800"), TaskCompleted(None, 1)):  # type: ignore[arg-type]
        with pytest.raises(WireError, match="values that its schema can hold"):
            codec.encode_event(event)


def test_a_failure_has_a_limited_chain_of_causes() -> None:
    failure = Failure("E", "0")
    for link in range(1, FAILURE_LINKS_MAX):
        failure = Failure("E", str(link), cause=failure)
    event = TaskFailed(1, 1, failure)

    assert event == codec.decode_event(TaskFailed.KIND, codec.encode_event(event))
    with pytest.raises(WireError, match=f"more than {FAILURE_LINKS_MAX} causes"):
        codec.encode_event(TaskFailed(1, 1, Failure("E", "one more", cause=failure)))


def test_a_failure_event_without_a_failure_is_refused() -> None:
    body = codec.encode_event(TaskFailed(1, 1, Failure("E", "m", details=b"")))
    empty = body[:2] + b"\0" + body[-1:]

    with pytest.raises(WireError, match="no failure where there must be one"):
        codec.decode_event(TaskFailed.KIND, empty)


DECODERS: list[Callable[[bytes], Any]] = [
    *[lambda data, kind=cls.KIND: codec.decode_event(kind, data) for cls in EVENTS],  # type: ignore[misc]
    *[lambda data, decode=decode: decode(data, 1) for decode in DECODE.values()],  # type: ignore[misc]
    lambda data: codec.decode_envelope(codec.HISTORY_MARK + data),
    lambda data: codec.decode_inbound(codec.INBOX_MARK + data),
    lambda data: codec.decode_reply(codec.REPLY_MARK + data),
    lambda data: codec.decode_manifest(codec.MANIFEST_MARK + data),
    codec.decode_inbound,
]


@given(st.sampled_from(DECODERS), st.binary(max_size=200))
@fuzzed(4000)
def test_decoders_meet_arbitrary_bytes_with_nothing_but_a_wire_error(
    decode: Callable[[bytes], Any], data: bytes
) -> None:
    with suppress(WireError):
        decode(data)


@given(messages(), st.data())
@fuzzed(1000)
def test_a_damaged_message_is_read_or_refused(message: ms.Inbound, data: st.DataObject) -> None:
    value = bytearray(codec.encode_inbound(message))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        codec.decode_inbound(bytes(value[: data.draw(st.integers(0, len(value)))]))


def test_huge_sizes_in_a_small_value_take_no_memory_and_no_time() -> None:
    huge = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"

    for decode in DECODERS:
        for data in (huge * 20, b"\0" + huge * 20, b"\x02" + huge * 20, b"\x01" * 200, b"\xff" * 200):
            with pytest.raises(WireError):
                decode(data)


@dataclass(frozen=True, slots=True)
class TaskPraised:
    """An event of a level that is not there yet."""

    KIND: ClassVar[int] = 99
    task_id: int
    by: str


PRAISED = codec.event_kind(
    TaskPraised,
    level=2,
    schema=RecordSchema(
        {
            "type": "record",
            "name": "TaskPraised",
            "namespace": "perdure",
            "fields": [{"name": "task_id", "type": "long"}, {"name": "by", "type": "string"}],
        }
    ),
)


def test_an_older_build_carries_the_events_of_a_newer_one() -> None:
    newer = codec.VOCABULARY.extended(PRAISED)
    turn = rc.TurnBody(1, events=(TimerFired(1, 2), TaskPraised(3, "us")))  # type: ignore[arg-type]

    body = codec.encode_turn(turn, newer)

    assert codec.format_of(rc.RecordKind.TURN, newer.level) == 1
    seen = codec.decode_turn(body, 1)
    assert (TimerFired(1, 2), UnknownEvent(99, codec.encode_event(TaskPraised(3, "us"), newer))) == seen.events  # type: ignore[arg-type]
    assert body == codec.encode_turn(seen)
    assert turn == codec.decode_turn(body, 1, newer)


def test_a_newer_build_writes_nothing_above_the_level_of_the_hub() -> None:
    newer = codec.VOCABULARY.extended(PRAISED)

    with pytest.raises(WireError, match="a kind of level 1 or below, found TaskPraised"):
        codec.encode_event(TaskPraised(3, "us"), newer.at(1))  # type: ignore[arg-type]
    assert TaskPraised(3, "us") == codec.decode_event(99, codec.encode_event(TaskPraised(3, "us"), newer), newer.at(1))  # type: ignore[arg-type]
