"""Replaying any prefix of any history equals the live run, and a snapshot round trip changes nothing (I1 to I3)."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.actors.executor import Decision, RecordedTurn
from perdure.actors.instance import InstanceState, apply_turn
from perdure.partitions.instances import execution_part
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_turn, encode_turn
from perdure.schemas.records import LEVEL, TurnBody
from tests.actors.lives import NAME
from tests.actors.programs import Decided, ProgramLife, app, bookkeeping


def live(seed: int, turns: int) -> ProgramLife:
    life = ProgramLife(seed)
    for _ in range(turns):
        life.take()
    life.let_go()
    return life


def through_bytes(turn: RecordedTurn) -> RecordedTurn:
    """A turn as a log or a store keeps it."""
    body = decode_turn(encode_turn(TurnBody(turn.time_ms, decided=turn.decided, events=turn.events)), LEVEL)
    return RecordedTurn(body.time_ms, body.decided, body.events)


def again(decided: Decided) -> tuple[Decision, tuple[object, ...]]:
    """What new code decides that was brought to where that turn began."""
    executor = app.executor(NAME, decided.started, strict=True)
    executor.replay([through_bytes(turn) for turn in decided.before])
    decision = executor.decide(decided.delivered, decided.now_ms)
    kept = bookkeeping(executor)
    executor.close()
    return decision, kept


lives = given(st.integers(0, 1 << 32), st.integers(1, 25))


@lives
@settings(max_examples=400)
def test_replaying_any_prefix_of_any_history_equals_the_live_run(seed: int, turns: int) -> None:
    for decided in live(seed, turns).decided:
        decision, kept = again(decided)

        assert (decided.decisions, decided.continued) == (decision.events, decision.continued)
        assert decided.bookkeeping == kept


@lives
@settings(max_examples=200)
def test_a_whole_history_replays_strictly_to_what_it_continued_as(seed: int, turns: int) -> None:
    life = live(seed, turns)
    ends: dict[str, Decided] = {decided.started.execution_id: decided for decided in life.decided}
    for end in ends.values():
        executor = app.executor(NAME, end.started, strict=True)

        assert end.continued == executor.replay([*end.before, end.recorded])
        executor.close()


@lives
@settings(max_examples=400)
def test_the_fold_of_a_history_that_went_through_bytes_is_the_live_state(seed: int, turns: int) -> None:
    life = ProgramLife(seed)
    folded: InstanceState | None = None
    for _ in range(turns):
        count = len(life.turns)
        life.take()
        if len(life.turns) == count:
            folded = None
        elif not (turn := life.turns[-1][1]).empty:
            recorded = through_bytes(RecordedTurn(life.now_ms, turn.decided, turn.events))
            decided, events = execution_part(recorded.decided, recorded.events)
            begins = bool(events) and isinstance(events[0], ev.ExecutionStarted)
            base = None if begins else folded
            folded = apply_turn(base, events, instance_id=NAME, time_ms=recorded.time_ms, decided=decided)

        assert folded == life.state
    life.let_go()


@lives
@settings(max_examples=200)
def test_the_same_life_with_its_code_always_cold_or_always_hot_is_the_same(seed: int, turns: int) -> None:
    """Letting code go is invisible: dice that are thrown for it apart, both lives come to the same turns."""
    histories = []
    for cold in (True, False):
        life = ProgramLife(seed)
        for _ in range(turns):
            if cold:
                life.let_go()
            life.take()
        life.let_go()
        histories.append([turn.events for _, turn in life.turns])

    assert histories[0] == histories[1]


def test_the_programs_use_every_feature() -> None:
    """Else the properties above would say less than they seem to."""
    kinds: Counter[str] = Counter()
    for seed in range(400):
        life = live(seed, 25)
        for decided in life.decided:
            kinds.update(type(event).__name__ for event in (*decided.delivered, *decided.decisions))
            kinds.update(event.status.name for event in decided.decisions if isinstance(event, ev.ExecutionCompleted))
            kinds["kept"] += bool(decided.continued and decided.continued.events)
            kinds["long"] += len(decided.before) > 5

    expected = {
        "ExecutionStarted", "TaskScheduled", "TaskCompleted", "TaskFailed", "TaskCanceled", "TimerCreated", "TimerFired",
        "TimerCanceled", "EventRaised", "EventSent", "CustomStatusSet", "PatchMarked", "SubOrchestrationInstanceCreated",
        "SubOrchestrationInstanceCompleted", "SubOrchestrationInstanceFailed", "ExecutionCancelRequested",
        "COMPLETED", "FAILED", "CANCELED", "CONTINUED_AS_NEW", "kept", "long",
    }  # fmt: skip
    assert {name: kinds[name] for name in expected if kinds[name] < 5} == {}
