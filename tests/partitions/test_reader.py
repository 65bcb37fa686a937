"""R3 in one reader: what counts is what the writer's own reports say, whoever else writes in between."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.partitions.reader import CLOSED, Accepted, Part, RunState, Verdict, Void, VoidReason, read_record
from perdure.schemas.codec import decode_envelope, encode_envelope, extend_digest
from perdure.schemas.records import NO_DIGEST, Opening, RecordKind
from tests.partitions.histories import Writer, claim_value, read_all


def verdicts_of(values: list[bytes | None], state: RunState | None = None) -> list[Verdict]:
    state, verdicts = state or RunState(), []
    for offset in range(state.next_offset, len(values)):
        state, verdict = read_record(state, offset, values[offset])
        verdicts.append(verdict)
    return verdicts


def accepted_bodies(values: list[bytes | None]) -> list[bytes]:
    return [v.body for v in verdicts_of(values) if isinstance(v, Accepted) and v.kind != RecordKind.CLAIM]


@dataclass
class Contender:
    """A would-be owner whose appends may wait on their way; it never learns that it was deposed."""

    name: str
    writer: Writer | None = None
    way: list[tuple[bytes, int]] = field(default_factory=list)
    """Values on their way, each with the offset that it states."""
    record_of: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    """By stated offset: number of the record, and the offsets that all its parts state."""
    ok: bool = True
    landed: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Contest:
    """Two contenders on one log, and what their delivery reports confirm (R4)."""

    values: list[bytes | None] = field(default_factory=list)
    confirmed: list[bytes] = field(default_factory=list)
    sent: int = 0

    def claim(self, who: Contender) -> None:
        # The producer of an epoch that is over is replaced: what was still on its way may land later, or never (R4).
        who.writer = Writer.claim(self.values, who.name)
        who.ok, who.record_of = True, {}

    def append(self, who: Contender, parts: int) -> None:
        if who.writer is None:
            return
        self.sent += 1
        body = b"record %08d" % self.sent
        first = who.writer.next_offset
        values = who.writer.write(body, parts=parts)
        places = list(range(first, first + parts))
        who.way.extend((value, place) for value, place in zip(values, places, strict=True))
        who.record_of[places[-1]] = (self.sent, places)

    def land(self, who: Contender, *, lost: bool) -> None:
        if not who.way:
            return
        value, stated = who.way.pop(0)
        epoch = decode_envelope(value).epoch
        current = who.writer is not None and epoch == who.writer.epoch
        if lost:
            who.ok = who.ok and not current
            return
        offset = len(self.values)
        self.values.append(value)
        if not current:
            return
        who.ok = who.ok and offset == stated
        if who.ok and stated in who.record_of:
            self.confirmed.append(b"record %08d" % who.record_of[stated][0])


STEPS = st.tuples(
    st.sampled_from(["claim", "append", "land", "land", "land", "lose", "stray"]), st.booleans(), st.integers(1, 3)
)


def play(steps: list[tuple[str, bool, int]]) -> Contest:
    contest = Contest()
    contenders = (Contender("a"), Contender("b"))
    for step, second, parts in steps:
        who = contenders[second]
        if step == "claim":
            contest.claim(who)
        elif step == "append":
            contest.append(who, parts)
        elif step == "stray":
            contest.values.append([None, b"", b"stray"][parts - 1])
        else:
            contest.land(who, lost=step == "lose")
    return contest


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=1500)
def test_what_readers_accept_is_what_the_writers_reports_confirm(steps: list[tuple[str, bool, int]]) -> None:
    contest = play(steps)

    assert contest.confirmed == accepted_bodies(contest.values)


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=300)
def test_honest_owners_never_leave_a_broken_record(steps: list[tuple[str, bool, int]]) -> None:
    verdicts = verdicts_of(play(steps).values)

    assert [] == [verdict for verdict in verdicts if isinstance(verdict, Void) and verdict.broken]


@given(st.lists(STEPS, max_size=60), st.data())
@settings(max_examples=300)
def test_a_reader_resumed_from_any_state_comes_to_the_same_verdicts(
    steps: list[tuple[str, bool, int]], data: st.DataObject
) -> None:
    values = play(steps).values
    cut = data.draw(st.integers(0, len(values)))

    assert verdicts_of(values)[cut:] == verdicts_of(values, read_all(values[:cut]))


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=300)
def test_a_reader_resumed_from_an_accepted_record_comes_to_the_same_verdicts(
    steps: list[tuple[str, bool, int]],
) -> None:
    values = play(steps).values
    verdicts = verdicts_of(values)

    for at, verdict in enumerate(verdicts):
        if isinstance(verdict, Accepted):
            resumed = RunState.after(verdict.offset, verdict.epoch, verdict.digest)
            assert verdicts[at + 1 :] == verdicts_of(values, resumed)


def two_epochs() -> list[bytes | None]:
    """Claim 0, turns 1 and 2, claim 3, turns 4 and 5 (in two parts: 5, 6) and 7."""
    values: list[bytes | None] = []
    for epoch in (0, 1):
        writer = Writer.claim(values)
        for turn in range(2 + epoch):
            values += writer.write(b"%d-%d" % (epoch, turn), parts=1 + (turn == epoch == 1))
    return values


def test_the_digest_is_chained_over_every_accepted_value_claims_included() -> None:
    values = two_epochs()
    digest = NO_DIGEST

    for value, verdict in zip(values, verdicts_of(values), strict=True):
        assert value is not None
        previous, digest = digest, extend_digest(digest, value)
        if isinstance(verdict, Accepted):
            assert (previous, digest) == (verdict.previous, verdict.digest)


def test_a_record_in_parts_counts_when_it_is_complete() -> None:
    verdicts = verdicts_of(two_epochs())

    assert Part(3, 5) == verdicts[5]
    whole = verdicts[6]
    assert isinstance(whole, Accepted)
    assert (b"1-1", 5, 6, 3) == (whole.body, whole.first_offset, whole.offset, whole.epoch)


@pytest.mark.parametrize("between", [None, claim_value("other"), b"stray"])
def test_anything_between_parts_voids_them(between: bytes | None) -> None:
    values = two_epochs()
    before = read_all(values[:5])

    broken = [*values[:6], between, *values[6:]]

    assert [b"0-0", b"0-1", b"1-0"] == accepted_bodies(broken)
    state = read_all([*values[:6], b"stray"])
    assert (CLOSED, before.offset, before.digest) == (state.epoch, state.offset, state.digest)


def test_an_epoch_ends_at_a_stale_owners_record_and_not_at_its_claim() -> None:
    values: list[bytes | None] = []
    stale = Writer.claim(values, "stale")
    owner = Writer.claim(values, "owner")
    values += [*owner.write(b"mine"), *stale.write(b"stale"), *owner.write(b"mine too")]

    verdicts = verdicts_of(values)

    assert [b"mine"] == accepted_bodies(values)
    ended, after = verdicts[3], verdicts[4]
    assert isinstance(ended, Void)
    assert isinstance(after, Void)
    assert (VoidReason.OTHER_EPOCH, 1) == (ended.reason, ended.ended)
    assert (VoidReason.NO_EPOCH, CLOSED) == (after.reason, after.ended)


def test_a_stale_record_that_fills_a_lost_place_ends_the_epoch() -> None:
    values: list[bytes | None] = []
    owner = Writer.claim(values)
    owner.write(b"lost")
    values += [b"fills its place", *owner.write(b"after")]

    assert [] == accepted_bodies(values)


def test_the_same_record_twice_ends_the_epoch() -> None:
    values = two_epochs()
    doubled = [*values[:2], values[1], *values[2:]]

    verdict = verdicts_of(doubled)[2]

    assert isinstance(verdict, Void)
    assert (VoidReason.OTHER_OFFSET, False) == (verdict.reason, verdict.broken)


def changed(value: bytes | None, **stated: object) -> bytes:
    assert value is not None
    return encode_envelope(replace(decode_envelope(value), **stated))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("offset", "stated", "reason"),
    [
        (2, {"digest": bytes(range(16))}, VoidReason.DIGEST),
        (4, {"opening": None}, VoidReason.OPENING),
        (4, {"opening": Opening(1, bytes(16))}, VoidReason.OPENING),
        (2, {"opening": Opening(1, bytes(16))}, VoidReason.OPENING),
        (2, {"part": 1, "parts": 2}, VoidReason.PART),
        (2, {"parts": 0}, VoidReason.PART),
        (6, {"part": 0}, VoidReason.PART),
        (6, {"parts": 3}, VoidReason.PART),
        (6, {"instance_id": "j"}, VoidReason.PART),
        (6, {"kind": RecordKind.PARTITION}, VoidReason.PART),
    ],
)
def test_a_record_that_no_honest_owner_writes_is_broken_and_ends_the_epoch(
    offset: int, stated: dict[str, object], reason: VoidReason
) -> None:
    values = two_epochs()
    values[offset] = changed(values[offset], **stated)

    verdict = verdicts_of(values)[offset]

    assert isinstance(verdict, Void)
    assert (reason, True, CLOSED) == (verdict.reason, verdict.broken, read_all(values[: offset + 1]).epoch)


def test_a_hole_in_a_run_is_broken() -> None:
    values = two_epochs()
    state = read_all(values[:2])

    state, verdict = read_record(state, 3, changed(values[2], offset=3))

    assert isinstance(verdict, Void)
    assert (VoidReason.HOLE, True, CLOSED) == (verdict.reason, verdict.broken, state.epoch)


def test_an_edited_record_shows_at_the_next_one() -> None:
    values = two_epochs()
    values[1] = changed(values[1], body=b"9-9")

    first, second = verdicts_of(values)[1:3]

    assert isinstance(first, Accepted)
    assert isinstance(second, Void)
    assert second.broken


def test_a_record_before_any_claim_is_void_and_a_claim_opens_an_epoch_anywhere() -> None:
    values = two_epochs()

    first, claim = verdicts_of([values[1], values[3]])

    assert first == Void(VoidReason.NO_EPOCH, CLOSED, decode_envelope(values[1] or b""))
    assert isinstance(claim, Accepted)
    assert (RecordKind.CLAIM, 1, 1) == (claim.kind, claim.epoch, claim.offset)
