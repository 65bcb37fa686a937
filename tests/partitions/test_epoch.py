"""One owner's run of records: what is appended, what the reports confirm, and when it is over (R1 to R5)."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.partitions.epoch import BURST_RECORDS, ENVELOPE_BYTES_MAX, Epoch, EpochEnded, Run
from perdure.partitions.memory import Fate, Faults, FaultScript, MemoryHub, MemoryLog, Reporting
from perdure.partitions.ports import Report
from perdure.partitions.reader import Accepted, RunState, read_record
from perdure.schemas.codec import decode_envelope, extend_digest
from perdure.schemas.records import NO_DIGEST, Opening, RecordKind
from tests.partitions.cluster import Clock
from tests.partitions.histories import claim_value

BYTES_MAX = 1_000


class Begun:
    """An epoch on a log of its own, right after its claim."""

    def __init__(self, *fates: Fate, faults: Faults | None = None) -> None:
        self.hub = MemoryHub(1, Clock(), faults=faults or FaultScript({"history": [Fate(), *fates]}))
        self.log = MemoryLog(self.hub)
        self.writer = self.log.open_history(0)
        claim = claim_value()
        self.writer.append("", claim)
        assert [0] == [report.offset for report in self.writer.take_reports()]
        run = Run(0, extend_digest(NO_DIGEST, claim), Opening(-1, NO_DIGEST))
        self.run = run
        self.epoch: Epoch[str] = Epoch(self.writer, run, BYTES_MAX)

    def append(self, *names: str, size: int = 10) -> None:
        for name in names:
            self.epoch.append(RecordKind.TURN, "i", name.encode().ljust(size, b"."), name)
        self.epoch.send()

    def confirmed(self) -> list[str]:
        """What is confirmed by now; what waited for it leaves."""
        taken = [appended.effect for appended in self.epoch.take_confirmed()]
        self.epoch.send()
        return taken

    def accepted(self) -> list[str]:
        """What a reader makes of the log."""
        state, bodies = RunState(), list[str]()
        for record in self.hub.journal("history", 0).read(0, 1 << 30):
            state, verdict = read_record(state, record.offset, record.value)
            if isinstance(verdict, Accepted) and verdict.kind == RecordKind.TURN:
                bodies.append(verdict.body.rstrip(b".").decode())
        return bodies


def test_records_are_confirmed_in_the_order_in_which_they_were_appended() -> None:
    begun = Begun()
    begun.append("a", "b", "c")
    assert 3 == begun.epoch.in_flight

    assert ["a", "b", "c"] == begun.confirmed()
    assert (0, 0, 3, 4) == (
        begun.epoch.in_flight, begun.epoch.in_flight_bytes, begun.epoch.confirmed_offset, begun.epoch.next_offset
    )  # fmt: skip
    assert ["a", "b", "c"] == begun.accepted()


def test_nothing_is_confirmed_before_what_was_appended_before_it() -> None:
    begun = Begun(Fate(delay=3), Fate())
    begun.append("slow", "quick")

    seen = [begun.confirmed() for _ in range(6)]
    assert ["slow", "quick"] == [name for names in seen for name in names]
    assert [] == seen[0]


@pytest.mark.parametrize(
    ("fate", "says"),
    [
        (Fate(copies=0), "unknown: the record was lost"),
        (Fate(report=Reporting.ERROR), "unknown: it is not known whether"),
        (Fate(copies=2), "expected at offset 3, landed at 4"),
    ],
    ids=["lost", "reported as failed", "landed twice"],
)
def test_the_first_report_that_is_not_what_was_expected_ends_the_epoch(fate: Fate, says: str) -> None:
    begun = Begun(Fate(), fate)
    begun.append("a", "b", "c")
    with pytest.raises(EpochEnded, match=says):
        begun.confirmed()

    assert begun.accepted()[0] == "a"


def test_a_report_of_nothing_that_was_sent_ends_the_epoch() -> None:
    begun = Begun(Fate(report=Reporting.TWICE))
    begun.append("a")
    with pytest.raises(EpochEnded, match="not sent"):
        begun.confirmed()


def test_a_strangers_record_in_between_ends_the_epoch_and_what_stood_before_it_counts() -> None:
    begun = Begun()
    begun.append("a")
    assert ["a"] == begun.confirmed()
    MemoryLog(begun.hub).open_history(0).append("", b"a stranger")
    begun.hub.step()
    begun.append("b")
    with pytest.raises(EpochEnded, match="expected at offset 2, landed at 3"):
        begun.confirmed()

    assert ["a"] == begun.accepted()


def test_a_full_queue_keeps_the_expected_offsets_and_the_order() -> None:
    class Full(Faults):
        left = 0

        def take_refusal(self, topic: str, partition: int) -> bool:
            self.left -= 1
            return self.left >= 0

    full = Full()
    begun = Begun(faults=full)
    full.left = 2
    begun.append("a", "b", "c")
    assert begun.epoch.full
    begun.append("d")
    assert begun.epoch.full
    begun.epoch.send()
    assert not begun.epoch.full
    assert 4 == begun.epoch.in_flight

    assert ["a", "b", "c", "d"] == begun.confirmed()
    assert ["a", "b", "c", "d"] == begun.accepted()


def test_one_burst_is_on_its_way_and_what_is_decided_meanwhile_joins_the_next_one() -> None:
    begun = Begun()
    sent: list[int] = []

    class Counting:
        def append(self, key: str, value: bytes) -> None:
            sent.append(decode_envelope(value).offset)
            begun.writer.append(key, value)

        def take_reports(self) -> Sequence[Report]:
            return begun.writer.take_reports()

        def close(self) -> None:
            begun.writer.close()

    begun.epoch = Epoch(Counting(), begun.run, BYTES_MAX)
    for name in "abcdefgh":
        begun.append(name)
    assert [1, 2, 3, 4, 5] == sent
    assert ["a", "b", "c", "d", "e"] == begun.confirmed()
    assert [1, 2, 3, 4, 5, 6, 7, 8] == sent
    assert ["f", "g", "h"] == begun.confirmed()
    begun.append(*(str(number) for number in range(3 * BURST_RECORDS)))
    assert BURST_RECORDS == len(sent) - 8
    assert 3 * BURST_RECORDS == len(begun.confirmed() + begun.confirmed())
    assert begun.epoch.quiet


def test_a_record_in_parts_is_confirmed_with_its_last_part() -> None:
    begun = Begun(Fate(), Fate(), Fate(delay=4))
    begun.append("large", size=2 * (BYTES_MAX - ENVELOPE_BYTES_MAX) + 1)
    begun.append("small")
    assert 4 == begun.epoch.in_flight
    assert [] == begun.confirmed()

    assert 0 == begun.epoch.confirmed_offset
    assert [] == begun.accepted()
    seen = [name for _ in range(8) for name in begun.confirmed()]
    assert ["large", "small"] == seen == begun.accepted()


def test_a_chain_whose_middle_is_lost_never_counts() -> None:
    begun = Begun(Fate(), Fate(copies=0), Fate())
    begun.append("large", size=2 * (BYTES_MAX - ENVELOPE_BYTES_MAX) + 1)
    with pytest.raises(EpochEnded):
        begun.confirmed()

    assert [] == begun.accepted()


def test_after_the_end_nothing_is_sent_or_confirmed_any_more() -> None:
    begun = Begun(Fate(delay=5))
    begun.append("a")
    begun.epoch.close()

    assert 0 == begun.epoch.in_flight
    assert [] == begun.accepted()


fates = st.builds(
    Fate,
    st.integers(0, 4),
    st.sampled_from([0, 1, 1, 1, 1, 1, 2]),
    st.sampled_from([Reporting.TRUE] * 6 + [Reporting.ERROR, Reporting.NONE, Reporting.TWICE]),
)


@given(st.lists(st.tuples(st.sampled_from(["a", "bb" * 700]), fates), min_size=1, max_size=12), st.data())
@settings(max_examples=300)
def test_what_the_writer_confirms_every_reader_accepts(records: list[tuple[str, Fate]], data: st.DataObject) -> None:
    """Whatever becomes of the records, and whenever it looks (R3, R4)."""
    begun = Begun(*(fate for _, fate in records for _ in range(3)))
    confirmed: list[str] = []
    try:
        for number, (name, _) in enumerate(records):
            begun.append(f"{number}-{name}", size=len(name) + 4)
            if data.draw(st.booleans()):
                confirmed += begun.confirmed()
        for _ in range(100):
            confirmed += begun.confirmed()
    except EpochEnded:
        pass
    accepted = begun.accepted()

    assert confirmed == accepted[: len(confirmed)]
