"""What a turn makes of each message: facts, decisions, sends and answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.actors.accept import LOST_MAX, next_attempt_ms
from perdure.actors.executor import ContinueAsNew, Decision, InstanceHeld
from perdure.actors.instance import InstanceState
from perdure.actors.limits import HISTORY_LIMIT_EXCEEDED, Limits
from perdure.actors.setting import Setting
from perdure.actors.turn import Turn, may_decide, take_turn
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import NEVER, Failure, HistoryEvent, RescheduleReason, RetryOptions, Status
from perdure.schemas.messages import Inbound, ReplyCode, ReusePolicy
from tests.actors.lives import FAILURE, NAME, PARENT, REPLY_TO, Life, Told

NOW = 1_000_000


class Actor:
    """One instance, turn after turn."""

    def __init__(self, *decided: HistoryEvent, limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
        self.code = Told()
        self.state: InstanceState | None = None
        self.now_ms = NOW
        self.limits = limits
        self.flags: tuple[int, ...] = ()
        self._offset = 0
        if decided:
            self.take(ms.Start("code"), decide=decided)

    def take(
        self,
        *bodies: ms.Body,
        decide: tuple[HistoryEvent, ...] | Decision | InstanceHeld = (),
        request: str = "",
        may: bool = True,
    ) -> Turn:
        self._offset += 1
        self.code.decision = Decision(decide) if isinstance(decide, tuple) else decide
        inbox = [Inbound(NAME, body, request, reply_to=REPLY_TO) for body in bodies]
        setting = Setting(self.now_ms, self._offset, lambda _, __: self.code, self.limits, may, self.flags)
        turn = take_turn(NAME, self.state, inbox, setting)
        self.state = turn.state
        return turn

    @property
    def execution(self) -> str:
        assert self.state is not None
        return self.state.execution_id


COMPLETED = (ev.ExecutionCompleted(Status.COMPLETED, b"42"),)
TASK = ev.TaskScheduled(1, "act", b"1", RetryOptions(1_000, 3, 2.0))
SMALL = Limits(payload_bytes_max=100)
CHILD = ev.SubOrchestrationInstanceCreated(2, "child", "i:child")


def codes(turn: Turn) -> list[ReplyCode]:
    return [answer.code for answer in turn.answers]


def test_a_start_becomes_a_fact_and_the_code_decides_in_the_same_turn() -> None:
    actor = Actor()

    turn = actor.take(ms.Start("code", b"5"), decide=(TASK,), request="r1")

    started = ev.ExecutionStarted("1-1", "code", b"5", NOW, requests=("r1",))
    assert ((started, TASK), True, [ReplyCode.OK], True) == (
        turn.events,
        turn.decided,
        codes(turn),
        turn.answers[0].created,
    )
    assert [started] == actor.code.seen


def test_the_same_request_starts_once_and_is_answered_again() -> None:
    actor = Actor()
    actor.take(ms.Start("code"), request="r1")

    again = actor.take(ms.Start("code"), request="r1")

    assert ((), [ReplyCode.OK], True) == (again.events, codes(again), again.answers[0].created)


@pytest.mark.parametrize(
    ("ends", "reuse", "statuses", "code", "starts"),
    [
        (False, ReusePolicy.REJECT, (), ReplyCode.ALREADY_EXISTS, False),
        (True, ReusePolicy.REJECT, (), ReplyCode.ALREADY_EXISTS, False),
        (False, ReusePolicy.RETURN, (), ReplyCode.OK, False),
        (True, ReusePolicy.RETURN, (), ReplyCode.OK, False),
        (False, ReusePolicy.REPLACE, (), ReplyCode.ALREADY_EXISTS, False),
        (True, ReusePolicy.REPLACE, (), ReplyCode.OK, True),
        (True, ReusePolicy.REPLACE, (Status.FAILED,), ReplyCode.ALREADY_EXISTS, False),
        (False, ReusePolicy.REPLACE, (Status.RUNNING,), ReplyCode.OK, True),
    ],
)
def test_what_a_start_of_an_existing_instance_does(
    ends: bool, reuse: ReusePolicy, statuses: tuple[int, ...], code: ReplyCode, starts: bool
) -> None:
    actor = Actor(TASK)
    if ends:
        actor.take(ms.RaiseEvent("go"), decide=COMPLETED)

    turn = actor.take(ms.Start("code", b"2", reuse=reuse, reuse_statuses=statuses), request="other")

    assert ([code], starts) == (codes(turn), any(isinstance(event, ev.ExecutionStarted) for event in turn.events))
    assert starts == turn.answers[0].created


def test_a_late_repeat_of_a_request_is_answered_though_the_instance_was_replaced_since() -> None:
    actor = Actor()
    replacing = ms.Start("code", reuse=ReusePolicy.REPLACE)
    actor.take(replacing, decide=COMPLETED, request="r1")
    actor.take(ms.RaiseEvent("go"), request="e1")
    for request in ("r2", "r3"):
        actor.take(replacing, request=request)
        actor.take(ms.RaiseEvent("go"), decide=COMPLETED)

    for repeat, request in ((replacing, "r1"), (replacing, "r2")):
        again = actor.take(repeat, request=request)
        assert ((), [ReplyCode.OK]) == (again.events, codes(again))


def test_a_replaced_instance_is_terminated_and_its_parent_told() -> None:
    actor = Actor()
    actor.take(ms.Start("code", parent=PARENT), decide=(TASK,))

    turn = actor.take(ms.Start("code", reuse=ReusePolicy.REPLACE, reuse_statuses=(Status.RUNNING,)), decide=COMPLETED)

    assert [ev.ExecutionTerminated, ev.ExecutionStarted] == [type(event) for event in turn.events]
    assert (False, ["mother"]) == (turn.decided, [send.instance_id for send in turn.sends])
    assert (2, Status.PENDING) == (turn.state.started.generation, turn.state.status) if turn.state else False


def test_events_of_a_start_come_right_after_it() -> None:
    actor = Actor()

    actor.take(ms.Start("code", events=(("go", b"1"), ("stop", b"2"))))

    assert [ev.ExecutionStarted, ev.EventRaised, ev.EventRaised] == [type(event) for event in actor.code.seen]


def test_a_start_ahead_is_a_fact_whose_turn_comes_at_its_time() -> None:
    actor = Actor()
    turn = actor.take(ms.Start("code", start_at_ms=NOW + 500), decide=(TASK,))
    actor.now_ms += 500
    due = actor.take(ms.TimerDue(actor.execution, 0, ms.TimerPurpose.START, NOW + 500), decide=(TASK,))

    assert (False, 1, (TASK,), True) == (turn.decided, len(turn.events), due.events, due.decided)


def test_cancelling_a_start_ahead_ends_it_without_running_its_code() -> None:
    actor = Actor()
    actor.take(ms.Start("code", start_at_ms=NOW + 500))

    turn = actor.take(ms.Cancel("no need"))

    assert (Status.CANCELED, []) == (turn.state.status if turn.state else None, actor.code.seen)


def test_a_watcher_of_the_end_is_handed_on_whether_it_started_the_instance_or_found_it() -> None:
    actor = Actor()
    first = actor.take(ms.Start("code", tell_end=True), request="r1")
    found = actor.take(ms.Start("code", tell_end=True, reuse=ReusePolicy.RETURN), request="r2")
    refused = actor.take(ms.Start("code", tell_end=True), request="r3")

    assert ([1, 1, 0], True) == ([len(turn.watchers) for turn in (first, found, refused)], found.empty)


@pytest.mark.parametrize(
    "body", [ms.RaiseEvent("go"), ms.Cancel(), ms.Terminate(), ms.Suspend(), ms.Resume(), ms.Purge()]
)
def test_a_request_for_an_unknown_instance_is_told_so(body: ms.Body) -> None:
    turn = Actor().take(body)

    assert ([ReplyCode.NOT_FOUND], True) == (codes(turn), turn.empty)


def test_an_event_for_an_unknown_instance_goes_to_the_dead_letters_with_its_reason() -> None:
    turn = Actor().take(ms.RaiseEvent("go"))

    [(message, reason)] = turn.unroutable
    assert (ms.RaiseEvent("go"), "event 'go' for an instance that does not exist") == (message.body, reason)


@pytest.mark.parametrize("body", [ms.RaiseEvent("go"), ms.Cancel(), ms.Terminate(), ms.Suspend(), ms.Resume()])
def test_a_request_for_a_finished_instance_is_told_so(body: ms.Body) -> None:
    actor = Actor(*COMPLETED)
    turn = actor.take(body)

    assert ([ReplyCode.ALREADY_FINISHED], True) == (codes(turn), turn.empty)


@pytest.mark.parametrize("body", [ms.RaiseEvent("go"), ms.Cancel(), ms.Suspend(), ms.Resume()])
def test_a_request_that_comes_twice_is_done_once(body: ms.Body) -> None:
    actor = Actor(TASK)
    first, again = actor.take(body, request="r1"), actor.take(body, request="r1")

    assert ((1, 0), [ReplyCode.OK], [ReplyCode.OK]) == (
        (len(first.events), len(again.events)),
        codes(first),
        codes(again),
    )


def test_a_suspended_instance_takes_facts_and_decides_when_it_is_resumed() -> None:
    actor = Actor(TASK)
    suspended = actor.take(ms.Suspend("lunch"), decide=(CHILD,))
    result = actor.take(ms.TaskResult(actor.execution, 1, 1, b"7"), decide=(CHILD,))
    resumed = actor.take(ms.Resume(), decide=(CHILD,))

    assert [False, False, True] == [suspended.decided, result.decided, resumed.decided]
    assert ev.TaskCompleted(1, 1, b"7") == actor.code.seen[-1]


def test_cancel_is_told_to_the_code_and_to_the_children_that_run() -> None:
    actor = Actor(TASK, CHILD)

    turn = actor.take(ms.Cancel("enough"))

    assert ([("i:child", ms.Cancel("enough"))], ev.ExecutionCancelRequested("enough")) == (
        [(send.instance_id, send.body) for send in turn.sends], actor.code.seen[-1],
    )  # fmt: skip


@pytest.mark.parametrize("recursive", [True, False])
def test_terminate_ends_the_instance_without_asking_and_its_children_if_so_wanted(recursive: bool) -> None:
    actor = Actor(TASK, CHILD)

    turn = actor.take(ms.Terminate(b'"enough"', recursive=recursive))

    assert (Status.TERMINATED, b'"enough"') == (turn.state.status, turn.state.result) if turn.state else False
    assert (["i:child"] if recursive else []) == [send.instance_id for send in turn.sends]


def test_a_purge_forgets_a_finished_instance_and_ends_its_turn() -> None:
    actor = Actor(*COMPLETED)

    turn = actor.take(ms.Purge(), ms.Start("code"))

    assert (True, None, 1, [ReplyCode.OK]) == (turn.forgotten, turn.state, turn.taken, codes(turn))


def test_what_begins_in_a_turn_is_purged_by_the_next_one() -> None:
    """A record that forgets is of an instance that the log has; the audit found one that is of none."""
    actor = Actor()
    begun = actor.take(ms.Start("code"), ms.Purge(force=True), decide=(TASK,))
    purged = actor.take(ms.Purge(force=True))

    assert (1, False, Status.RUNNING) == (begun.taken, begun.forgotten, begun.state.status if begun.state else None)
    assert (1, True, None) == (purged.taken, purged.forgotten, purged.state)


def test_a_running_instance_is_purged_by_force_only() -> None:
    actor = Actor(TASK)
    refused, forced = actor.take(ms.Purge()), actor.take(ms.Purge(force=True))

    assert ([ReplyCode.REFUSED], False, True) == (codes(refused), refused.forgotten, forced.forgotten)


@pytest.mark.parametrize(
    ("execution", "task", "attempt"), [("stale", 1, 1), ("", 2, 1), ("", 1, 2)], ids=["execution", "task", "attempt"]
)
def test_a_result_counts_only_where_execution_task_and_attempt_are_pending(
    execution: str, task: int, attempt: int
) -> None:
    actor = Actor(TASK)

    turn = actor.take(ms.TaskResult(execution or actor.execution, task, attempt, b"7"))

    assert (True, 1) == (turn.empty, turn.dropped)


def test_a_result_counts_once() -> None:
    actor = Actor(TASK)
    result = ms.TaskResult(actor.execution, 1, 1, b"7")

    turn = actor.take(result, result)

    assert ((ev.TaskCompleted(1, 1, b"7"),), 1) == (turn.events, turn.dropped)


def test_a_failed_attempt_is_tried_again_at_its_time_and_the_code_hears_of_the_last_only() -> None:
    actor = Actor(TASK)
    facts: list[HistoryEvent] = []
    for attempt in (1, 2, 3):
        failed = actor.take(ms.TaskResult(actor.execution, 1, attempt, failure=FAILURE))
        facts += failed.events
        last = failed.events[-1]
        if isinstance(last, ev.TaskFailed) and last.retry_at_ms != NEVER:
            assert not failed.decided
            actor.now_ms = last.retry_at_ms
            facts += actor.take(ms.TimerDue(actor.execution, 1, ms.TimerPurpose.RETRY, last.retry_at_ms)).events

    assert [
        ev.TaskFailed(1, 1, FAILURE, NOW + 1_000),
        ev.TaskRescheduled(1, 2, RescheduleReason.RETRY),
        ev.TaskFailed(1, 2, FAILURE, NOW + 1_000 + 2_000),
        ev.TaskRescheduled(1, 3, RescheduleReason.RETRY),
        ev.TaskFailed(1, 3, FAILURE, NEVER),
    ] == facts
    assert [ev.TaskFailed(1, 3, FAILURE, NEVER)] == actor.code.seen[1:]


def test_a_result_that_comes_between_attempts_is_dropped() -> None:
    actor = Actor(TASK)
    actor.take(ms.TaskResult(actor.execution, 1, 1, failure=FAILURE))

    late = actor.take(ms.TaskResult(actor.execution, 1, 1, b"7"))

    assert (True, 1) == (late.empty, late.dropped)


def policy(
    first: int = 1_000, attempts: int = 10, backoff: float = 2.0, longest: int = NEVER, within: int = NEVER
) -> RetryOptions:
    return RetryOptions(first, attempts, backoff, longest, within, ("ValueError", "shop.SoldOut"))


@pytest.mark.parametrize(
    ("options", "failures", "failure", "expected"),
    [
        (policy(), 1, FAILURE, NOW + 1_000),
        (policy(), 4, FAILURE, NOW + 8_000),
        (policy(longest=5_000), 4, FAILURE, NOW + 5_000),
        (policy(backoff=1.0), 9, FAILURE, NOW + 1_000),
        (policy(first=0), 5, FAILURE, NOW),
        (policy(attempts=3), 2, FAILURE, NOW + 2_000),
        (policy(attempts=3), 3, FAILURE, NEVER),
        (policy(within=3_000), 2, FAILURE, NOW + 2_000),
        (policy(within=2_999), 2, FAILURE, NEVER),
        (policy(), 1, Failure("Boom", "", retriable=False), NEVER),
        (policy(), 1, Failure("ValueError", ""), NEVER),
        (policy(), 1, Failure("some.module.ValueError", ""), NEVER),
        (policy(), 1, Failure("shop.SoldOut", ""), NEVER),
        (policy(), 1, Failure("SoldOut", ""), NOW + 1_000),
        (None, 1, FAILURE, NEVER),
    ],
)
def test_when_a_failed_task_is_tried_again(
    options: RetryOptions | None, failures: int, failure: Failure, expected: int
) -> None:
    since = NOW - 1_000

    assert expected == next_attempt_ms(options, failures, since, NOW, failure)


@given(st.integers(1, 10_000), st.floats(1.0, 1e6), st.integers(0, 10**12))
def test_no_policy_overflows(failures: int, backoff: float, first: int) -> None:
    at = next_attempt_ms(RetryOptions(first, 1 << 30, backoff), failures, NOW, NOW, FAILURE)

    assert NOW <= at <= NOW + 10**13


def test_no_attempt_begins_after_schedule_to_close() -> None:
    task = ev.TaskScheduled(1, "act", retry=policy(), schedule_to_close_ms=1_000)
    actor = Actor(task)

    turn = actor.take(ms.TaskResult(actor.execution, 1, 1, failure=FAILURE))

    assert (ev.TaskFailed(1, 1, FAILURE, NEVER),) == turn.events


def test_schedule_to_close_ends_all_attempts() -> None:
    actor = Actor(ev.TaskScheduled(1, "act", schedule_to_close_ms=1_000))
    actor.now_ms += 1_000

    turn = actor.take(ms.TimerDue(actor.execution, 1, ms.TimerPurpose.SCHEDULE_TO_CLOSE, NOW + 1_000))

    [failed] = turn.events
    assert isinstance(failed, ev.TaskFailed)
    assert ("ActivityTimedOut", NEVER, True) == (failed.failure.type, failed.retry_at_ms, turn.decided)


def test_a_dispatch_that_was_lost_is_made_again_and_the_third_one_fails() -> None:
    actor = Actor(TASK)
    facts: list[HistoryEvent] = []
    for attempt in range(1, LOST_MAX + 1):
        facts += actor.take(ms.TaskLost(actor.execution, 1, attempt)).events

    rescheduled = [ev.TaskRescheduled(1, attempt, RescheduleReason.RECOVERY) for attempt in range(2, LOST_MAX + 1)]
    assert rescheduled == facts[:-1]
    crashed = facts[-1]
    assert isinstance(crashed, ev.TaskFailed)
    assert ("ActivityCrashed", NEVER) == (crashed.failure.type, crashed.retry_at_ms)


def test_a_dispatch_that_was_given_up_in_order_is_not_lost() -> None:
    actor = Actor(TASK)
    for attempt in range(1, 8):
        turn = actor.take(ms.TaskLost(actor.execution, 1, attempt, released=True))

        assert (ev.TaskRescheduled(1, attempt + 1, RescheduleReason.RELEASE),) == turn.events


def test_a_failed_child_is_started_again_under_its_policy_with_the_same_id() -> None:
    actor = Actor(ev.SubOrchestrationInstanceCreated(2, "child", "i:child", b"1", RetryOptions(1_000, 2)))
    failed = actor.take(ms.ChildResult(actor.execution, 2, 1, failure=FAILURE))
    again = actor.take(ms.TimerDue(actor.execution, 2, ms.TimerPurpose.CHILD_RETRY, NOW + 1_000))
    last = actor.take(ms.ChildResult(actor.execution, 2, 2, failure=FAILURE))

    assert (ev.SubOrchestrationInstanceFailed(2, 1, FAILURE, NOW + 1_000),) == failed.events
    [start] = again.sends
    assert isinstance(start.body, ms.Start)
    assert ("i:child", 2, ReusePolicy.REPLACE) == (
        start.instance_id,
        start.body.parent.attempt if start.body.parent else 0,
        start.body.reuse,
    )
    assert ((False, False, True), ev.SubOrchestrationInstanceFailed(2, 2, FAILURE)) == (
        (failed.decided, again.decided, last.decided), last.events[0],
    )  # fmt: skip


def test_a_childs_start_that_comes_twice_counts_once() -> None:
    child = Actor()
    child.take(ms.Start("child", parent=PARENT))

    again = child.take(ms.Start("child", parent=PARENT, reuse=ReusePolicy.REPLACE))

    assert ((), []) == (again.events, list(again.sends))


def test_a_child_whose_id_is_taken_fails_and_its_parent_is_told() -> None:
    other = Actor(TASK)

    turn = other.take(ms.Start("child", parent=PARENT, reuse=ReusePolicy.REPLACE))

    [told] = turn.sends
    assert isinstance(told.body, ms.ChildResult)
    assert ("mother", "InstanceAlreadyExists") == (
        told.instance_id,
        told.body.failure.type if told.body.failure else "",
    )


@pytest.mark.parametrize(
    ("end", "failure"),
    [
        (ev.ExecutionCompleted(Status.COMPLETED, b"42"), None),
        (ev.ExecutionCompleted(Status.FAILED, failure=FAILURE), "Boom"),
        (ev.ExecutionCompleted(Status.CANCELED), "OrchestrationCanceled"),
    ],
)
def test_a_parent_is_told_how_its_child_ended(end: ev.ExecutionCompleted, failure: str | None) -> None:
    child = Actor()

    turn = child.take(ms.Start("child", parent=PARENT), decide=(end,))

    [told] = turn.sends
    assert isinstance(told.body, ms.ChildResult)
    assert ("mother", failure) == (told.instance_id, told.body.failure.type if told.body.failure else None)


@pytest.mark.parametrize("body", [ms.Cancel("enough"), ms.Terminate(b"1")])
def test_a_parent_ends_its_own_child_only(body: ms.Body) -> None:
    own, another = Actor(), Actor()
    own.take(ms.Start("child", parent=PARENT), decide=(TASK,))
    another.take(ms.Start("child"), decide=(TASK,))
    request = f"/{PARENT.instance_id}/{PARENT.execution_id}/{PARENT.task_id}/cancel"

    turns = [actor.take(body, request=request) for actor in (own, another)]

    assert [True, False] == [bool(turn.events) for turn in turns]


def test_a_child_given_up_is_told_to_cancel() -> None:
    actor = Actor(CHILD)

    turn = actor.take(ms.RaiseEvent("go"), decide=(ev.TaskCanceled(2),))

    assert [("i:child", ms.Cancel("canceled by its parent"))] == [(send.instance_id, send.body) for send in turn.sends]


def test_continue_as_new_begins_the_next_execution_and_keeps_the_events_that_nobody_took() -> None:
    actor = Actor()
    actor.take(ms.Start("code", tags={"a": "b"}, parent=PARENT), request="r1")
    continued = Decision(
        (ev.CustomStatusSet(b'"x"'), ev.ExecutionCompleted(Status.CONTINUED_AS_NEW)),
        ContinueAsNew(b"2", (("go", b"1"), ("go", b"2"))),
    )

    turn = actor.take(ms.RaiseEvent("go", b"2"), decide=continued)

    state = turn.state
    assert state is not None
    assert (b"2", 2, {"a": "b"}, PARENT, ("r1",), b'"x"') == (
        state.started.input, state.started.generation, state.started.tags, state.started.parent, state.requests, state.custom_status,
    )  # fmt: skip
    assert [ev.EventRaised("go", b"1"), ev.EventRaised("go", b"2")] == list(state.undelivered)[1:]
    assert (Status.RUNNING, True, []) == (state.visible_status, may_decide(state, NOW), list(turn.sends))


def test_an_instance_that_cannot_decide_keeps_its_facts() -> None:
    actor = Actor(TASK)
    held = InstanceHeld("the code decides otherwise", kind="non-determinism")

    turn = actor.take(ms.TaskResult(actor.execution, 1, 1, b"7"), decide=held)
    released = actor.take(ms.Resume(), decide=COMPLETED)

    assert ((ev.TaskCompleted(1, 1, b"7"),), False, held) == (turn.events, turn.decided, turn.held)
    assert [ev.TaskCompleted(1, 1, b"7")] == actor.code.seen[1:]
    assert Status.COMPLETED == (released.state.status if released.state else None)


def test_a_turn_that_may_not_decide_takes_facts_only() -> None:
    actor = Actor()

    turn = actor.take(ms.Start("code"), decide=COMPLETED, may=False)

    assert (1, False, []) == (len(turn.events), turn.decided, actor.code.seen)


LARGE = b'"%b"' % (b"x" * 100)


def test_no_more_events_than_a_history_may_have_wait_for_an_instance_that_does_not_decide() -> None:
    actor = Actor(TASK, limits=Limits(history_events_max=5))
    actor.take(ms.Suspend())
    kept = [actor.take(ms.RaiseEvent("go", b"%d" % number)) for number in range(5)]

    refused = actor.take(ms.RaiseEvent("go", b"5"))

    assert [[ReplyCode.OK]] * 5 == [codes(turn) for turn in kept]
    assert ([ReplyCode.REFUSED], ()) == (codes(refused), refused.events)
    [(message, reason)] = refused.unroutable
    assert (ms.RaiseEvent("go", b"5"), "event 'go': 5 events wait for instance 'i', and no more are kept") == (
        message.body,
        reason,
    )


def test_an_activitys_result_over_the_limit_is_a_failure_that_no_policy_tries_again() -> None:
    actor = Actor(TASK, limits=SMALL)

    [failed] = actor.take(ms.TaskResult(actor.execution, 1, 1, LARGE)).events

    assert isinstance(failed, ev.TaskFailed)
    assert (NEVER, "ValueRefused") == (failed.retry_at_ms, failed.failure.type)
    assert "activity 'act', result: 102 bytes of JSON, and at most 100 are allowed" in failed.failure.message


def test_who_waits_for_a_purged_instance_or_works_for_it_is_told() -> None:
    actor = Actor()
    actor.take(ms.Start("code", parent=PARENT), decide=(TASK, CHILD))

    turn = actor.take(ms.Purge(force=True))

    assert turn.forgotten
    assert [("i:child", ms.Terminate), ("mother", ms.ChildResult)] == [
        (send.instance_id, type(send.body)) for send in turn.sends
    ]


def test_a_cancel_that_the_code_did_not_see_is_seen_by_its_next_execution() -> None:
    actor = Actor(TASK)
    continued = ContinueAsNew(b"2", (("go", b"1"),), canceled="enough")

    turn = actor.take(
        ms.Cancel("enough"), decide=Decision((ev.ExecutionCompleted(Status.CONTINUED_AS_NEW),), continued)
    )

    assert turn.state is not None
    assert [ev.ExecutionStarted, ev.EventRaised, ev.ExecutionCancelRequested] == [
        type(event) for event in turn.state.undelivered
    ]


def test_a_child_made_in_the_turn_that_delivers_a_cancel_is_told_of_it_after_its_start() -> None:
    actor = Actor(TASK)
    other = ev.SubOrchestrationInstanceCreated(3, "child", "i:compensation")

    turn = actor.take(ms.Cancel("enough"), decide=Decision((CHILD, other), before_cancel=1))

    assert [("i:child", ms.Start), ("i:compensation", ms.Start), ("i:child", ms.Cancel)] == [
        (send.instance_id, type(send.body)) for send in turn.sends
    ]
    assert "enough" == turn.sends[-1].body.reason  # type: ignore[union-attr]


def test_an_execution_records_the_flags_of_its_start_and_the_next_one_those_of_its_own() -> None:
    actor = Actor()
    actor.flags = (3, 7)
    first = actor.take(ms.Start("code"))
    actor.flags = (7, 8)
    continued = Decision((ev.ExecutionCompleted(Status.CONTINUED_AS_NEW),), ContinueAsNew(b"2", ()))
    second = actor.take(ms.RaiseEvent("go"), decide=continued)

    started = [
        event.flags for turn in (first, second) for event in turn.events if isinstance(event, ev.ExecutionStarted)
    ]
    assert [(3, 7), (7, 8)] == started


def test_a_history_that_grew_too_long_fails_its_instance_without_its_code() -> None:
    actor = Actor(TASK, limits=Limits(history_events_max=3))
    seen = len(actor.code.seen)

    turn = actor.take(ms.RaiseEvent("go"))

    [_, end] = turn.events
    assert isinstance(end, ev.ExecutionCompleted)
    assert end.failure is not None
    assert (Status.FAILED, HISTORY_LIMIT_EXCEEDED, seen) == (end.status, end.failure.type, len(actor.code.seen))


def test_an_event_to_another_instance_is_sent_with_a_request_of_its_own() -> None:
    actor = Actor()

    turn = actor.take(ms.Start("code"), decide=(ev.EventSent(1, "other", "go", b"5"),))

    [send] = turn.sends
    assert ("other", ms.RaiseEvent("go", b"5"), f"/{NAME}/{actor.execution}/1") == (
        send.instance_id,
        send.body,
        send.request_id,
    )


@given(st.integers(0, 1 << 32), st.integers(1, 20))
@settings(max_examples=300)
def test_every_message_comes_to_something(seed: int, turns: int) -> None:
    life = Life(seed)
    for _ in range(turns):
        lived = life.live()
        turn = lived.turn
        asked = [
            message
            for message in lived.inbox[: turn.taken]
            if message.reply_to and not isinstance(message.body, _SILENT)
        ]

        assert len(asked) == len(turn.answers)
        left = lived.inbox[turn.taken :]
        assert not left or turn.forgotten or (lived.before is None and isinstance(left[0].body, ms.Purge))


@given(st.integers(0, 1 << 32), st.integers(1, 20))
@settings(max_examples=200)
def test_the_same_life_is_lived_twice(seed: int, turns: int) -> None:
    one, other = Life(seed), Life(seed)

    assert [one.live().turn.events for _ in range(turns)] == [other.live().turn.events for _ in range(turns)]


_SILENT = ms.TaskResult | ms.ChildResult | ms.TimerDue | ms.TaskLost
