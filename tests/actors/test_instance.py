"""The fold of events into an instance's state, over random lives (I1, I2, I4)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.actors.instance import REQUESTS_REMEMBERED, InstanceState, apply, apply_turn, begin
from perdure.partitions.instances import execution_part
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_turn, encode_turn
from perdure.schemas.events import NEVER, RescheduleReason, Status
from perdure.schemas.records import LEVEL, TurnBody
from tests.actors.lives import FAILURE, NAME, Life

STARTED = ev.ExecutionStarted("a-1", "code", b"1", created_at_ms=5)


def fold(*events: ev.HistoryEvent, decided: bool = True) -> InstanceState:
    return apply_turn(begin(NAME, STARTED), events, instance_id=NAME, time_ms=9, decided=decided)


lives = given(st.integers(0, 1 << 32), st.integers(1, 20))


@lives
@settings(max_examples=500)
def test_a_turn_leads_where_the_fold_of_its_events_leads(seed: int, turns: int) -> None:
    life = Life(seed)
    for _ in range(turns):
        lived = life.live()
        turn = lived.turn
        if not turn.forgotten and not turn.empty:
            folded = apply_turn(lived.before, turn.events, instance_id=NAME, time_ms=lived.now_ms, decided=turn.decided)
            assert folded == turn.state


@lives
@settings(max_examples=300)
def test_any_prefix_of_a_history_folds_to_the_state_that_was(seed: int, turns: int) -> None:
    life = Life(seed)
    folded: InstanceState | None = None
    for _ in range(turns):
        turn = life.live().turn
        if turn.forgotten:
            folded = None
        elif not turn.empty:
            body = decode_turn(encode_turn(TurnBody(life.now_ms, decided=turn.decided, events=turn.events)), LEVEL)
            decided, events = execution_part(body.decided, body.events)
            begins = events and isinstance(events[0], ev.ExecutionStarted)
            base = None if begins else folded
            folded = apply_turn(base, events, instance_id=NAME, time_ms=body.time_ms, decided=decided)

        assert folded == life.state


@lives
@settings(max_examples=300)
def test_a_finished_instance_waits_for_nothing_and_changes_no_more(seed: int, turns: int) -> None:
    life = Life(seed)
    for _ in range(turns):
        lived = life.live()
        before, state, events = lived.before, life.state, lived.turn.events
        if before is not None and before.status.terminal and not lived.turn.forgotten:
            assert events == () or isinstance(events[0], ev.ExecutionStarted)
        if state is not None and state.status.terminal:
            waits = (*state.tasks, *state.children, *state.timers, *state.undelivered)
            assert (waits, state.suspended) == ((), False)


@lives
@settings(max_examples=300)
def test_each_fact_reaches_the_code_once_and_in_order(seed: int, turns: int) -> None:
    life = Life(seed)
    facts: list[ev.HistoryEvent] = []
    for _ in range(turns):
        lived = life.live()
        if lived.turn.forgotten:
            facts.clear()
            continue
        # Decisions come after facts in a turn, so up to the second start of a turn there are facts only.
        for event in lived.turn.events:
            if isinstance(event, ev.ExecutionStarted):
                facts.clear()
            if _is_for_the_code(event):
                facts.append(event)
        state = life.state
        waiting = list(state.undelivered) if state is not None else []
        expected = [*lived.seen, *waiting]
        ended = state is not None and (state.status.terminal or any(_begins(event) for event in lived.turn.events))
        if not ended:
            assert facts == expected
        facts = waiting


def _begins(event: ev.HistoryEvent) -> bool:
    return isinstance(event, ev.ExecutionStarted)


def _is_for_the_code(event: ev.HistoryEvent) -> bool:
    if isinstance(event, ev.TaskFailed | ev.SubOrchestrationInstanceFailed):
        return event.retry_at_ms == NEVER
    return isinstance(
        event,
        ev.ExecutionStarted
        | ev.TaskCompleted
        | ev.SubOrchestrationInstanceCompleted
        | ev.TimerFired
        | ev.EventRaised
        | ev.ExecutionCancelRequested,
    )


def test_an_instance_begins_with_its_start() -> None:
    state = apply(None, STARTED, instance_id=NAME, decided=False)

    assert (NAME, "a-1", Status.PENDING, (STARTED,), 1) == (
        state.instance_id, state.execution_id, state.status, tuple(state.undelivered), state.events_count,
    )  # fmt: skip


def test_nothing_else_begins_an_instance() -> None:
    with pytest.raises(AssertionError, match="begins with ExecutionStarted"):
        apply(None, ev.TimerFired(1, 5), instance_id=NAME)


def test_a_failed_attempt_waits_for_its_next_one_and_only_the_last_is_told() -> None:
    scheduled = ev.TaskScheduled(1, "act")
    waiting = fold(scheduled, ev.TaskFailed(1, 1, FAILURE, retry_at_ms=77))
    last = ev.TaskFailed(1, 2, FAILURE, NEVER)
    failed = apply(apply(waiting, ev.TaskRescheduled(1, 2, RescheduleReason.RETRY)), last, decided=False)

    assert (77, 1, 1) == (waiting.tasks[1].retry_at_ms, waiting.tasks[1].attempt, waiting.tasks[1].failures)
    assert ([], [last]) == (list(failed.tasks), list(failed.undelivered))


def test_lost_dispatches_count_until_an_attempt_comes_back() -> None:
    lost = fold(
        ev.TaskScheduled(1, "act"),
        ev.TaskRescheduled(1, 2, RescheduleReason.RECOVERY),
        ev.TaskRescheduled(1, 3, RescheduleReason.RELEASE),
        ev.TaskRescheduled(1, 4, RescheduleReason.RECOVERY),
    )
    failed = apply(lost, ev.TaskFailed(1, 4, FAILURE, retry_at_ms=99))

    assert ((4, 2), (4, 0)) == (
        (lost.tasks[1].attempt, lost.tasks[1].lost),
        (failed.tasks[1].attempt, failed.tasks[1].lost),
    )


def test_a_continued_execution_keeps_what_its_start_restates_and_nothing_else() -> None:
    state = replace(fold(ev.TaskScheduled(1, "act"), ev.CustomStatusSet(b'"x"')), suspended=False)
    started = ev.ExecutionStarted("b-2", "code", b"2", 5, generation=2, requests=("r1",))
    after = apply(state, started)

    assert (Status.PENDING, Status.RUNNING) == (after.status, after.visible_status)
    assert (0, b"null", ("r1",), (started,)) == (
        len(after.tasks),
        after.custom_status,
        after.requests,
        tuple(after.undelivered),
    )


def test_an_instance_remembers_its_last_requests_only() -> None:
    raised = [ev.EventRaised("go", b"1", f"r{number}") for number in range(REQUESTS_REMEMBERED + 5)]

    state = fold(*raised, decided=False)

    assert tuple(f"r{number}" for number in range(5, REQUESTS_REMEMBERED + 5)) == state.requests


def test_an_unknown_event_marks_the_instance_and_is_kept_for_its_code() -> None:
    unknown = ev.UnknownEvent(4711, b"new")

    state = fold(unknown, decided=False)

    assert (4711, unknown) == (state.unknown_kind, list(state.undelivered)[-1])


def test_a_suspended_instance_shows_so_until_it_ends() -> None:
    suspended = fold(ev.ExecutionSuspended("lunch"))

    assert Status.SUSPENDED == suspended.visible_status
    assert Status.RUNNING == apply(suspended, ev.ExecutionResumed()).visible_status
    assert Status.TERMINATED == apply(suspended, ev.ExecutionTerminated()).visible_status


def test_partition_time_of_an_instance_never_runs_back() -> None:
    state = apply_turn(begin(NAME, STARTED), (ev.TimerCreated(1, 3),), instance_id=NAME, time_ms=100, decided=True)

    assert 100 == apply_turn(state, (), instance_id=NAME, time_ms=50, decided=True).updated_at_ms
