"""From inbox records to messages, each once and in order, whatever comes and whoever dies (R7 to R9)."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.partitions.admission import ID_CHARS_MAX
from perdure.partitions.intake import Intake, Kind, Taken
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import HubIdentity, LogRecord
from perdure.partitions.state import PartitionState
from perdure.schemas import messages as ms
from perdure.schemas.codec import encode_inbound
from perdure.schemas.events import Failure, Parent
from perdure.schemas.messages import Body, Inbound, Origin, Query, QueryKind, ReplyTo
from perdure.schemas.records import TurnBody

HUB = HubIdentity("hub", "cluster", "history-1", 4)
ids = (f"order-{number}" for number in range(1_000))
HERE = next(name for name in ids if partition_of(name, 4) == 0)
THERE = next(name for name in ids if partition_of(name, 4) == 3)


def intake(confirmed: PartitionState | None = None) -> Intake:
    return Intake("hub.inbox", 0, HUB, confirmed or PartitionState())


def record(offset: int, body: Body | None = None, name: str = HERE, **fields: object) -> LogRecord:
    message = Inbound(name, body or ms.RaiseEvent("go"), **fields)  # type: ignore[arg-type]
    return LogRecord(offset, None, encode_inbound(message), 0)


def sent(offset: int, sequence: int, partition: int = 1, topic: str = "history-1") -> LogRecord:
    """A message from another partition."""
    return record(offset, origin=Origin(topic, partition, sequence))


def kinds(taker: Intake, records: Sequence[LogRecord]) -> list[Kind | None]:
    taken = [taker.take(each) for each in records]
    return [None if each is None else each.kind for each in taken]


def refusal(body: Body, name: str = HERE, **fields: object) -> Taken:
    taken = intake().take(record(0, body, name, **fields))
    assert taken is not None
    assert taken.kind == Kind.UNREADABLE, taken
    return taken


def test_messages_of_a_source_count_in_unbroken_order_and_everything_else_is_named() -> None:
    taker = intake()

    assert [Kind.MESSAGE, Kind.MESSAGE, Kind.DUPLICATE, Kind.OUT_OF_ORDER, Kind.MESSAGE, Kind.OUT_OF_ORDER] == kinds(
        taker, [sent(0, 1), sent(1, 2), sent(2, 1), sent(3, 4), sent(4, 3), sent(5, 5)]
    )
    # The gap was filled by 3; 4 and 5 come again from a sender that goes back.
    assert [Kind.MESSAGE, Kind.MESSAGE] == kinds(taker, [sent(6, 4), sent(7, 5)])


def test_sources_do_not_disturb_each_other() -> None:
    taker = intake()

    assert [Kind.MESSAGE, Kind.MESSAGE, Kind.OUT_OF_ORDER, Kind.MESSAGE] == kinds(
        taker, [sent(0, 1, 1), sent(1, 1, 2), sent(2, 3, 1), sent(3, 2, 2)]
    )


@pytest.mark.parametrize(
    "origin",
    [Origin("another-history", 1, 1), Origin("history-1", 4, 1), Origin("history-1", -1, 1), Origin("history-1", 1, 0)],
    ids=["another history", "no such partition", "a negative partition", "a sequence below 1"],
)
def test_an_origin_that_no_partition_of_this_hub_has_is_a_dead_letter_and_takes_no_room(origin: Origin) -> None:
    taker = intake()
    taken = taker.take(record(0, origin=origin))

    assert taken is not None
    assert (Kind.UNREADABLE, None) == (taken.kind, taken.origin)
    assert "its origin" in taken.reason
    taker.consume([0])
    assert (1, ()) == taker.take_marks()


def test_a_forged_sequence_far_ahead_stops_nobody() -> None:
    taker = intake()

    assert [Kind.OUT_OF_ORDER, Kind.MESSAGE, Kind.OUT_OF_ORDER, Kind.MESSAGE] == kinds(
        taker, [sent(0, (1 << 63) - 1), sent(1, 1), sent(2, 1 << 40), sent(3, 2)]
    )


def test_a_body_that_a_newer_build_sent_is_a_dead_letter_whose_place_counts() -> None:
    """The message of a kind that is not known here is sequence 1 of its source; without it all behind it would wait for ever."""
    known = sent(0, 1)
    assert known.value is not None
    body = encode_inbound(Inbound(HERE, ms.RaiseEvent("go"), origin=Origin("history-1", 1, 1)))
    at = body.index(HERE.encode()) + len(HERE)
    unknown = body[:at] + bytes([200, 1]) + body[at + 1 :]  # the kind follows the instance id
    taker = intake()
    taken = taker.take(LogRecord(0, None, unknown, 0))

    assert taken is not None
    assert (Kind.UNREADABLE, Origin("history-1", 1, 1)) == (taken.kind, taken.origin)
    assert "kind" in taken.reason
    assert [Kind.MESSAGE] == kinds(taker, [sent(1, 2)])


def test_a_message_on_the_wrong_partition_is_forwarded_once_and_then_a_dead_letter() -> None:
    forward, wrong = record(0, name=THERE), record(1, name=THERE, forwards=1)
    taker = intake()
    first, second = taker.take(forward), taker.take(wrong)

    assert first is not None
    assert second is not None
    assert (Kind.FORWARD, Kind.UNREADABLE) == (first.kind, second.kind)
    assert "after a forward" in second.reason
    assert "belongs to 3" in second.reason


def test_a_read_of_the_partition_needs_no_instance() -> None:
    taken = intake().take(record(0, Query(QueryKind.LIST), name=""))

    assert taken is not None
    assert Kind.QUERY == taken.kind


BAD_JSON = b'{"a": '
REFUSED: list[tuple[str, Body, str]] = [
    ("input that is no JSON", ms.Start("order", BAD_JSON), "not JSON"),
    ("input that is no UTF-8", ms.Start("order", b"\x80"), "not JSON"),
    ("input that is nested too deep", ms.Start("order", b"[" * 500 + b"]" * 500), "nested too deep"),
    ("input over the limit", ms.Start("order", b'"%b"' % (b"x" * 1_000_001)), "at most 1000000"),
    ("a start without a name", ms.Start(""), "must not be empty"),
    ("a name with an escape in it", ms.Start("order\x1b[2J"), "must be printable"),
    ("a name that is too long", ms.Start("x" * 501), "at most 500 characters"),
    ("a tag with a line break", ms.Start("order", tags={"a": "b\r\nc"}), "must be printable"),
    ("a status that is none", ms.Start("order", reuse_statuses=(99,)), "statuses are among"),
    ("too many events", ms.Start("order", events=(("go", b"1"),) * 1_001), "at most 1000 events"),
    ("a start before 1970", ms.Start("order", start_at_ms=-1), "1970"),
    ("a start after the year 9999", ms.Start("order", start_at_ms=1 << 60), "9999"),
    ("too many tags", ms.Start("order", tags={str(number): "" for number in range(65)}), "at most 64 tags"),
    ("an event without a name", ms.Start("order", events=(("", b"1"),)), "an event name"),
    ("a parent without an id", ms.Start("order", parent=Parent("", "1-1", 1, 1)), "an instance id"),
    ("an event that is no JSON", ms.RaiseEvent("go", BAD_JSON), "not JSON"),
    ("an event whose name is too long", ms.RaiseEvent("x" * 201), "at most 200"),
    ("a reason that is a book", ms.Cancel("x" * 4_001), "at most 4000"),
    ("a reason that is no JSON", ms.Terminate(b"\xff"), "not JSON"),
    ("a result that is no JSON", ms.TaskResult("1-1", 1, 1, b"\xff"), "not JSON"),
    ("details that are no JSON", ms.ChildResult("1-1", 1, 1, failure=Failure("E", "", details=b"\xff")), "not JSON"),
    (
        "details of a cause that are no JSON",
        ms.TaskResult("1-1", 1, 1, failure=Failure("E", "", cause=Failure("E", "", details=b""))),
        "not JSON",
    ),
]


@pytest.mark.parametrize(("body", "says"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_a_history_could_not_hold_is_refused_at_the_door_with_the_reason(body: Body, says: str) -> None:
    # What only the engine says has an origin.
    engines = isinstance(body, ms.TaskResult | ms.ChildResult) or (
        isinstance(body, ms.Start) and body.parent is not None
    )
    asked = refusal(body, reply_to=ReplyTo("client", 0), origin=Origin("history-1", 1, 1) if engines else None)

    assert says in asked.reason
    # Its sender can be told.
    assert asked.inbound is not None
    assert asked.inbound.reply_to == ReplyTo("client", 0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reply_to": ReplyTo("client", -1)}, "reply on partition -1"),
        ({"reply_to": ReplyTo("client", 4)}, "reply on partition 4"),
        ({"reply_to": ReplyTo("x" * (ID_CHARS_MAX + 1), 0)}, "a client id"),
        ({"request_id": "x" * (ID_CHARS_MAX + 1)}, "a request id"),
        ({"reply_to": ReplyTo("a\x1b[2J", 0)}, "a client id"),
        ({"request_id": "a\r\nb"}, "a request id"),
        ({"name": "a\0b"}, "printable"),
        ({"name": "a\u202eb"}, "printable"),
        ({"name": "x" * 201}, "at most 200"),
        ({"name": ""}, "must not be empty"),
    ],
)
def test_an_envelope_that_cannot_be_answered_or_named_is_refused(fields: dict[str, object], says: str) -> None:
    taken = refusal(ms.RaiseEvent("go"), **{"name": HERE, **fields})  # type: ignore[arg-type]

    assert says in taken.reason
    assert taken.inbound is None


def test_what_comes_again_after_a_reopening_is_passed_over() -> None:
    taker = intake()

    assert [Kind.MESSAGE, Kind.MESSAGE, None, None] == kinds(taker, [record(0), record(5), record(5), record(3)])


def test_the_mark_moves_when_its_hole_is_closed_and_takes_the_sources_with_it() -> None:
    """I8: the mark of a source moves with the inbox mark, never ahead of it."""
    taker = intake()
    for each in (record(0), sent(1, 1), sent(2, 2), record(7)):
        taker.take(each)
    taker.consume([2])
    assert (0, ()) == taker.take_marks()
    taker.consume([0])
    assert (1, ()) == taker.take_marks()
    taker.consume([1])
    mark, sources = taker.take_marks()
    assert (3, [2]) == (mark, [source.sequence for source in sources])
    taker.consume([7])
    assert (8, ()) == taker.take_marks()


@given(st.integers(0, 1 << 32))
@settings(max_examples=200)
def test_each_message_is_taken_into_one_record_whatever_order_they_are_decided_in_and_whoever_dies(seed: int) -> None:
    """Two sources go back N, records are consumed out of order, and the owner dies again and again between its records."""
    dice = Random(seed)
    inbox: list[LogRecord] = []
    for source in (1, 2):
        upto = 0
        while upto < 6:
            start = dice.randint(max(1, upto - 2), upto + 1)
            end = min(start + dice.randint(0, 3), 6)
            inbox.extend(sent(0, sequence, source) for sequence in range(start, end + 1))
            upto = max(upto, end)
    dice.shuffle(inbox)
    inbox += [sent(0, sequence, source) for source in (1, 2) for sequence in range(1, 7)]
    offsets = sorted(dice.sample(range(3 * len(inbox)), len(inbox)))
    inbox = [LogRecord(offset, None, each.value, 0) for offset, each in zip(offsets, inbox, strict=True)]

    confirmed, counted = PartitionState(), list[tuple[int, int]]()
    while any(offset >= confirmed.inbox_mark and offset not in confirmed.consumed_above for offset in offsets):
        confirmed = _live(dice, inbox, confirmed, counted)

    assert sorted(counted) == [(source, sequence) for source in (1, 2) for sequence in range(1, 7)]
    assert all(sequence <= 6 for sequence in confirmed.sources.values())


def _live(
    dice: Random, inbox: list[LogRecord], confirmed: PartitionState, counted: list[tuple[int, int]]
) -> PartitionState:
    """One owner's life: it takes some records, consumes what it took in any order, and dies before its newest records land."""
    taker, tip = intake(confirmed), confirmed.copy()
    open_: list[tuple[int, tuple[int, int] | None]] = []
    unconfirmed: list[tuple[int, int]] = []
    for each in [each for each in inbox if each.offset >= confirmed.inbox_mark][: dice.randint(1, 8)]:
        taken = taker.take(each)
        if taken is not None:
            message = taken.kind == Kind.MESSAGE and taken.origin is not None
            key = (taken.origin.partition, taken.origin.sequence) if message and taken.origin is not None else None
            open_.append((taken.offset, key))
        while open_ and dice.random() < 0.5:
            batch = [open_.pop(dice.randrange(len(open_))) for _ in range(dice.randint(1, len(open_)))]
            taker.consume(offset for offset, _ in batch)
            mark, sources = taker.take_marks()
            body = TurnBody(1, tuple(offset for offset, _ in batch), mark, sources=sources)
            tip.apply_body(body)
            unconfirmed += [key for _, key in batch if key is not None]
            if dice.random() < 0.7:
                confirmed, unconfirmed = tip.copy(), counted.extend(unconfirmed) or []
    return confirmed
