"""Sends to another partition arrive once and in order, whatever becomes of them on the way (R7)."""

from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.partitions.outbox import RESEND_PAUSE_MS, Outbox, decode_dead_letter, encode_dead_letter
from perdure.partitions.ports import BufferFull, Delivered
from perdure.schemas.messages import Start
from perdure.schemas.records import DEAD_LETTER, Cursor
from tests.partitions.cluster import Cluster


class Wire:
    """A publisher by hand: what was published, and the report of each that somebody waits for."""

    def __init__(self) -> None:
        self.room = 1_000_000
        self.published: list[tuple[int, bytes, Delivered]] = []
        self.letters: list[tuple[Sequence[tuple[str, bytes]], bytes]] = []

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None:
        assert delivered is not None
        if self.room <= 0:
            raise BufferFull
        self.room -= 1
        self.published.append((partition, value, delivered))

    def publish_dead_letter(
        self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], delivered: Delivered | None = None
    ) -> None:
        assert delivered is not None
        self.letters.append((headers, value))
        self.published.append((DEAD_LETTER, value, delivered))

    def publish_reply(self, partition: int, key: str, value: bytes) -> None:
        raise AssertionError("an outbox replies to nobody")

    def flush(self, timeout_seconds: float) -> None:
        raise AssertionError("an outbox never blocks")

    def report(self, *errors: str | None) -> None:
        """Report on the oldest that are out, in order."""
        for error in errors:
            self.published.pop(0)[2](error)

    def values(self) -> list[bytes]:
        return [value for _, value, _ in self.published]


def filled(*targets: int, count: int = 4) -> tuple[Outbox, Wire]:
    wire = Wire()
    outbox = Outbox(wire)
    for target in targets:
        for sequence in range(1, count + 1):
            outbox.offer(target, sequence, "key", b"%d.%d" % (target, sequence))
    outbox.step(0)
    return outbox, wire


def test_only_an_unbroken_prefix_is_acknowledged_and_all_after_it_is_sent_again() -> None:
    outbox, wire = filled(1)
    wire.report(None, "it was lost", None, None)

    assert (Cursor(1, 1),) == outbox.take_cursors()
    assert 3 == outbox.depth
    assert not outbox.step(RESEND_PAUSE_MS - 1)
    assert outbox.step(RESEND_PAUSE_MS)
    assert [b"1.2", b"1.3", b"1.4"] == wire.values()
    assert 3 == outbox.resent
    wire.report(None, None, None)
    assert (Cursor(1, 4),) == outbox.take_cursors()
    assert (0, 0) == (outbox.depth, outbox.bytes)


def test_late_reports_of_an_earlier_attempt_say_nothing() -> None:
    outbox, wire = filled(1)
    late = [delivered for _, _, delivered in wire.published]
    wire.report("it was lost")
    wire.published.clear()
    outbox.step(RESEND_PAUSE_MS)
    for delivered in late[1:]:
        delivered(None)

    assert () == outbox.take_cursors()
    assert 4 == outbox.depth


def test_a_target_that_fails_holds_up_no_other() -> None:
    outbox, wire = filled(1, 2, count=2)
    wire.report("away", "away", None, None)

    assert (Cursor(2, 2),) == outbox.take_cursors()
    assert 2 == outbox.depth


def test_a_cursor_is_restated_once_for_each_time_it_moves() -> None:
    outbox, wire = filled(1)
    wire.report(None, None)
    assert (Cursor(1, 2),) == outbox.take_cursors()
    assert () == outbox.take_cursors()
    wire.report(None)
    assert (Cursor(1, 3),) == outbox.take_cursors()


def test_a_full_queue_is_tried_again_from_where_it_stopped() -> None:
    wire = Wire()
    outbox = Outbox(wire)
    wire.room = 2
    for sequence in (1, 2, 3):
        outbox.offer(1, sequence, "key", b"%d" % sequence)
    assert outbox.step(0)
    assert [b"1", b"2"] == wire.values()
    wire.room = 9
    assert outbox.step(0)
    assert [b"1", b"2", b"3"] == wire.values()


def test_a_closed_outbox_hears_nothing_any_more() -> None:
    outbox, wire = filled(1)
    outbox.close()
    wire.report(None, None)

    assert () == outbox.take_cursors()


def test_a_gap_in_what_is_offered_is_a_bug_and_says_so() -> None:
    outbox, _ = filled(1)
    with pytest.raises(AssertionError, match="6 after 4"):
        outbox.offer(1, 6, "key", b"")


def test_a_dead_letter_carries_its_reason_and_any_bytes() -> None:
    original = b"\n{}\xff\n"
    headers, value = decode_dead_letter(encode_dead_letter("no JSON", original, {"offset": "7"}))

    assert original == value
    assert [("perdure-reason", b"no JSON"), ("perdure-offset", b"7")] == headers
    wire = Wire()
    outbox = Outbox(wire)
    outbox.offer(DEAD_LETTER, 1, "", encode_dead_letter("no JSON", original, {}))
    outbox.step(0)
    assert [([("perdure-reason", b"no JSON")], original)] == wire.letters


@given(st.integers(0, 1 << 32))
@settings(max_examples=200)
def test_a_receiver_that_takes_the_next_one_only_takes_each_once_and_in_order(seed: int) -> None:
    """Records are lost, reported as lost though they landed, delayed, and their reports come late or never."""
    dice, wire, now_ms = Random(seed), Wire(), 0
    outbox = Outbox(wire)
    offered, taken, confirmed = 0, list[int](), 0
    on_the_way: list[tuple[int, Callable[[str | None], None]]] = []
    for _ in range(400):
        if offered < 12 and dice.random() < 0.3:
            offered += 1
            outbox.offer(1, offered, "key", b"%d" % offered)
        wire.room = dice.randint(0, 3)
        outbox.step(now_ms)
        on_the_way += [(int(value), delivered) for _, value, delivered in wire.published]
        wire.published.clear()
        calm = offered == 12 and dice.random() < 0.5
        for _ in range(dice.randint(0, len(on_the_way))):
            # In order, as a partition's records are; a lost one leaves a gap.
            sequence, delivered = on_the_way.pop(0)
            landed = calm or dice.random() < 0.7
            if landed and sequence == len(taken) + 1:
                taken.append(sequence)
            if calm or dice.random() < 0.9:
                delivered(None if landed and (calm or dice.random() < 0.8) else "not known")
            else:
                delivered("no report came in time")
        confirmed = max([confirmed, *(cursor.acked for cursor in outbox.take_cursors())])
        assert confirmed <= len(taken)  # nothing is acknowledged that the receiver has not taken
        now_ms += dice.choice([1, 100, 600])
    for _ in range(100):
        wire.room = 99
        outbox.step(now_ms)
        now_ms += 600
        for sequence, delivered in [*on_the_way, *((int(value), each) for _, value, each in wire.published)]:
            if sequence == len(taken) + 1:
                taken.append(sequence)
            delivered(None)
        wire.published.clear()
        on_the_way.clear()
        if outbox.depth == 0 and offered == 12:
            break

    assert list(range(1, offered + 1)) == taken
    assert 0 == outbox.depth == outbox.bytes


def test_what_was_sent_and_not_acknowledged_is_sent_again_by_the_next_owner_and_taken_once() -> None:
    """The owner dies with its sends on their way: they land late, and again from the next owner."""
    cluster = Cluster(2)
    member = cluster.join()
    cluster.until(lambda: member.owns(0) and member.owns(1))
    parent = next(name for name in (f"parent-{number}" for number in range(99)) if cluster.home_of(name) == 0)
    children = [name for name in (f"child-{number}" for number in range(99)) if cluster.home_of(name) == 1][:5]
    cluster.send(parent, Start("family", b'["%s"]' % '","'.join(children).encode()))
    while not cluster.events(parent):
        cluster.step()
    cluster.kill(member)
    again = cluster.join("worker-2")
    cluster.until(lambda: parent in cluster.ended(), milliseconds=50)

    assert {parent, *children} == set(cluster.ended())
    assert {1} == set(cluster.ended().values())
    assert 0 == again.holdings(0).outbox.depth
    cluster.check()
