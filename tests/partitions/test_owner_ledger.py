"""What turns leave in the store, over random lives: live and recovered stores are one, and hold what is pending (I4, I5, I7)."""

from collections.abc import Generator
from dataclasses import dataclass
from random import Random
from typing import cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.actors.turn import may_decide
from perdure.partitions import catch_up
from perdure.partitions.epoch import Appended, Epoch, Run
from perdure.partitions.fold import Fold
from perdure.partitions.header import header_of, read_header
from perdure.partitions.instances import read_state
from perdure.partitions.keys import ACTIVITY, ANCHOR, DUE_TURN, TIMER, activity_key, due_turn_key, end_of, timer_key
from perdure.partitions.ledger import Confirmed, decode_due_activity, stored_timers
from perdure.partitions.memory import MemoryHub, MemoryLog, MemoryStore, MemoryStores
from perdure.partitions.ports import Store
from perdure.partitions.recovery import CaughtUp, Claimed, catch_up_to, read_only
from perdure.partitions.state import PartitionState, decode_anchor
from perdure.schemas.codec import encode_turn, extend_digest
from perdure.schemas.events import NEVER
from perdure.schemas.records import LEVEL, NO_DIGEST, Claim, Opening, RecordKind, TurnBody
from tests.actors.lives import Life, Lived
from tests.partitions.histories import claim_value

NAMES = ("i", "i1", "i:1", "ï")


class StoppedClock:
    def wall_ms(self) -> int:
        return 1

    def monotonic(self) -> float:
        return 1.0


@dataclass
class Ledger:
    """A log that is written, and a store that follows it as an owner's does: a batch now and then."""

    def __post_init__(self) -> None:
        self.log = MemoryLog(MemoryHub(1, StoppedClock()))
        writer = self.log.open_history(0)
        claim = claim_value()
        writer.append("", claim)
        self.epoch: Epoch[None] = Epoch(writer, Run(0, extend_digest(NO_DIGEST, claim), Opening(-1, NO_DIGEST)), 2_000)
        writer.take_reports()
        self.store: Store = MemoryStores().open(0)
        self.fold = Fold(self.store, self.log.identity, 0, None, PartitionState())
        self.fold.take_claim(0, Claim("worker-1", 0, "127.0.0.1:1", 1))
        self.last: Appended[None] | None = None

    def take(self, life: Life, lived: Lived) -> None:
        """Append and fold one turn, as `Confirmation` does."""
        turn = lived.turn
        if turn.empty:
            return
        kind = RecordKind.FORGOTTEN if turn.forgotten else RecordKind.TURN
        body = TurnBody(lived.now_ms, decided=turn.decided, events=turn.events)
        encoded = encode_turn(body)
        self.last = appended = self.epoch.append(kind, life.name, encoded, None)
        self.fold.take(Confirmed(life.name, appended.first_offset, LEVEL, body, encoded, lived.before, turn.state))
        old = header_of(lived.before) if lived.before is not None else None
        self.fold.show(life.name, old, header_of(turn.state) if turn.state is not None else None)

    def write(self) -> None:
        while not self.epoch.quiet:
            self.epoch.send()
            self.epoch.take_confirmed()
        if self.last is not None:
            last = self.last
            self.fold.write(0, last.offset, last.previous, last.digest)


def content(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b"\0", b"\xff"))


def table(store: Store, prefix: bytes) -> dict[bytes, bytes]:
    return dict(store.scan(prefix, end_of(prefix)))


def lead_lives(seed: int, turns: int) -> tuple[Ledger, list[Life]]:
    ledger, dice = Ledger(), Random(seed)
    lives = [Life(seed + number, name) for number, name in enumerate(NAMES)]
    for _ in range(turns):
        life = dice.choice(lives)
        ledger.take(life, life.live())
        if dice.random() < 0.4:
            ledger.write()
    ledger.write()
    return ledger, lives


lives_led = given(st.integers(0, 1 << 32), st.integers(1, 100))


@lives_led
@settings(max_examples=150)
def test_a_store_made_live_is_the_one_that_recovery_makes(seed: int, turns: int) -> None:
    ledger, _ = lead_lives(seed, turns)

    recovered, offset = read_only(ledger.log, 0, None)

    live, found = content(ledger.store), content(cast("Store", recovered))
    anchors = [decode_anchor(kept.pop(ANCHOR)) for kept in (live, found) if ANCHOR in kept]
    if ledger.last is not None:
        assert anchors[0] == anchors[1]
        assert offset == ledger.last.offset
    assert live == found


@lives_led
@settings(max_examples=150)
def test_recovery_goes_on_from_any_batch_as_if_it_had_read_all(seed: int, turns: int) -> None:
    whole, _ = lead_lives(seed, turns)
    half, _ = lead_lives(seed, turns // 2)

    recovered, _ = read_only(whole.log, 0, half.store)

    if half.last is not None:
        assert content(cast("Store", recovered)) == content(whole.store)


def folded(folding: Generator[int, None, CaughtUp]) -> CaughtUp:
    while True:
        try:
            next(folding)
        except StopIteration as end:
            return cast("CaughtUp", end.value)


@pytest.mark.parametrize(("bound", "value", "records"), [("WRITE_RECORDS", 3, 3), ("WRITE_BYTES", 1, 1)])
def test_recovery_writes_in_batches_bounded_by_records_and_by_bytes_and_makes_the_same_store(
    bound: str, value: int, records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, bound, value)
    for seed in range(20):
        ledger, _ = lead_lives(seed, 60)
        span = ledger.log.span_history(0)

        with patch.object(MemoryStore, "write", autospec=True, side_effect=MemoryStore.write) as write:
            caught_up = folded(catch_up_to(ledger.log, MemoryStores(), 0, Claimed(span, NEVER, span.end)))

        assert content(caught_up.store) == content(ledger.store)
        assert span.end // records + 1 == write.call_count


@lives_led
@settings(max_examples=150)
def test_the_history_in_the_store_folds_to_the_live_state(seed: int, turns: int) -> None:
    ledger, lives = lead_lives(seed, turns)

    for life in lives:
        header = read_header(ledger.store, life.name)
        assert (header is None) == (life.state is None)
        if life.state is not None:
            assert (life.state, header_of(life.state)) == (read_state(ledger.store, life.name), header)


@lives_led
@settings(max_examples=200)
def test_the_tables_hold_what_is_pending_and_nothing_else(seed: int, turns: int) -> None:
    ledger, lives = lead_lives(seed, turns)

    states = [life.state for life in lives if life.state is not None]
    activities = {
        activity_key(state.instance_id, state.execution_id, number): (task.attempt, task.lost)
        for state in states
        for number, task in state.tasks.items()
        if task.retry_at_ms == NEVER
    }
    due_turns = {
        due_turn_key(state.instance_id): b""
        for state in states
        if may_decide(state, max(state.updated_at_ms, state.started.created_at_ms))
    }
    timers = {
        timer_key(timer): b""
        for state in states
        for number in {*state.tasks, *state.children, *state.timers}
        for timer in stored_timers(state, number)
    }
    starts = {
        timer_key(timer): b""
        for state in states
        if state.started in state.undelivered and state.started.start_at_ms > state.started.created_at_ms
        for timer in stored_timers(state, 0)
    }

    found = {key: decode_due_activity(value) for key, value in table(ledger.store, ACTIVITY).items()}
    assert activities == {key: (due.attempt, due.lost) for key, due in found.items()}
    assert due_turns == table(ledger.store, DUE_TURN)
    assert timers | starts == table(ledger.store, TIMER)
