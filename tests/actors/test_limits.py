"""Limits and what the log cannot hold: refused where the code asks for it, with a clear error, and the partition goes on."""

from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import App, Limits, OrchestrationContext, RetryPolicy, when_all
from perdure.errors import InvalidRequest, OrchestrationFailed, PayloadTooLarge
from perdure.schemas import events as ev
from perdure.testing import run

Ask = Callable[[OrchestrationContext], Any]
LIMITS = Limits(
    payload_bytes_max=1_000,
    history_events_max=60,
    decisions_per_turn_max=8,
    tasks_pending_max=5,
    instance_id_chars_max=40,
    event_name_chars_max=10,
)
SECOND = timedelta(seconds=1)


def app_of(ask: Ask, limits: Limits = Limits()) -> App:  # noqa: B008 (frozen)
    """An app whose orchestration `asks` does one thing, and one, `fine`, that nothing is wrong with."""
    app = App(limits=limits)

    @app.activity
    def echo(value: Any) -> Any:
        return value

    @app.activity
    def long(_value: int) -> str:
        return "x" * 2_000

    @app.orchestration
    async def asks(ctx: OrchestrationContext) -> Any:
        asked = ask(ctx)
        return await asked if hasattr(asked, "__await__") else asked

    @app.orchestration
    async def fine(ctx: OrchestrationContext) -> Any:
        return await ctx.call_activity("echo", "fine")

    return app


def why_refused(ask: Ask, limits: Limits = Limits()) -> str:  # noqa: B008 (frozen)
    """How the instance failed; all others go on on the partition."""
    with run(app_of(ask, limits), partitions=1) as env:
        with pytest.raises(OrchestrationFailed) as caught:
            env.run("asks")
        assert "fine" == env.run("fine")
    assert caught.value.failure is not None
    return f"{caught.value.failure.type}: {caught.value.failure.message}"


LONE = "a\ud800"
REFUSED: dict[str, tuple[Ask, str]] = {
    "activity name": (lambda ctx: ctx.call_activity(LONE), "ValueError: the name of an orchestration or activity must be printable"),
    "long activity name": (lambda ctx: ctx.call_activity("a" * 501), "has at most 500 characters; this one has 501"),
    "no activity name": (lambda ctx: ctx.call_activity(""), "the name of an orchestration or activity must not be empty"),
    "orchestration name": (lambda ctx: ctx.call_sub_orchestrator(LONE), "the name of an orchestration or activity must be printable"),
    "neither": (lambda ctx: ctx.call_activity(print), "TypeError: <built-in function print> is not an activity"),
    "child id": (lambda ctx: ctx.call_sub_orchestrator("fine", instance_id="a\0"), "an instance id must be printable"),
    "long child id": (lambda ctx: ctx.call_sub_orchestrator("fine", instance_id="a" * 201), "at most 200 characters"),
    "tag": (lambda ctx: ctx.call_activity("echo", tags={"a": LONE}), "tags must be printable"),
    "tag of bytes": (lambda ctx: ctx.call_activity("echo", tags={"a": b"b"}), "ValueError: tags are strings by strings"),  # type: ignore[dict-item]
    "long tag": (lambda ctx: ctx.call_activity("echo", tags={"a": "b" * 257}), "has 1 to 256 characters"),
    "many tags": (lambda ctx: ctx.call_activity("echo", tags={str(n): "" for n in range(65)}), "at most 64 tags"),
    "patch": (lambda ctx: ctx.patched(LONE), "ValueError: a patch id must be printable"),
    "patch of int": (lambda ctx: ctx.patched(5), "TypeError: a patch id is a string, not 5"),  # type: ignore[arg-type]
    "event name": (lambda ctx: ctx.send_event("i", LONE), "ValueError: an event name must be printable"),
    "awaited name": (lambda ctx: ctx.wait_for_external_event(""), "ValueError: an event name must not be empty"),
    "target": (lambda ctx: ctx.send_event(5, "go"), "TypeError: an instance id is a string, not 5"),  # type: ignore[arg-type]
    "timer": (lambda ctx: ctx.create_timer(5), "TypeError: a timer takes a datetime or a timedelta, not 5"),  # type: ignore[arg-type]
    "policy": (lambda ctx: ctx.call_activity("echo", retry_policy=5), "TypeError: retry_policy is a RetryPolicy"),  # type: ignore[call-overload]
    "error name": (
        lambda _: RetryPolicy(first_retry_interval=SECOND, max_number_of_attempts=1, non_retriable_errors=[LONE]),
        "ValueError: a non-retriable error must be printable",
    ),
    "time-out": (lambda ctx: ctx.call_activity("echo", start_to_close=-SECOND), "start_to_close must be greater than zero"),
    "not awaited": (lambda ctx: [ctx.call_activity("echo", 1)], "a value of type CancellableTask"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_log_cannot_hold_is_refused_where_it_is_given_and_the_partition_goes_on(case: str) -> None:
    ask, expected = REFUSED[case]

    assert expected in why_refused(ask)


@pytest.mark.parametrize("moment", [datetime(1960, 1, 1, tzinfo=UTC), datetime(1, 1, 1), timedelta.min, timedelta(0)])
def test_a_timer_in_the_past_fires_at_once_however_long_ago(moment: datetime | timedelta) -> None:
    with run(app_of(lambda ctx: ctx.create_timer(moment))) as env:
        began = env.now

        assert env.run("asks") is None
        assert began == env.now


def test_a_policy_without_end_is_one_of_the_most_attempts_that_the_wire_holds() -> None:
    policy = RetryPolicy(first_retry_interval=timedelta.max, max_number_of_attempts=10**12, retry_timeout=timedelta.max)

    with run(app_of(lambda ctx: ctx.call_activity("echo", 1, retry_policy=policy))) as env:
        handle = env.start("asks")

        assert 1 == handle.result()
        scheduled = [event for turn in handle.history().decode() for event in turn.events][1]
        assert isinstance(scheduled, ev.TaskScheduled)
        assert scheduled.retry is not None
        assert 2**31 - 1 == scheduled.retry.attempts_max


def test_children_of_children_are_named_however_deep_they_are() -> None:
    app = App()

    @app.orchestration
    async def nested(ctx: OrchestrationContext, depth: int) -> list[str]:
        below = await ctx.call_sub_orchestrator(nested, depth - 1) if depth else []
        return [ctx.instance_id, *below]

    with run(app) as env:
        ids = env.run(nested, 40, instance_id="x" * 200)

    assert 41 == len(set(ids))
    assert max(map(len, ids)) <= 200


# Payloads.


def test_an_activitys_input_over_the_limit_is_refused_with_both_sizes() -> None:
    text = why_refused(lambda ctx: ctx.call_activity("echo", "x" * 1_000), LIMITS)

    assert "activity 'echo': 1002 bytes of JSON, and at most 1000 are allowed" in text


@pytest.mark.parametrize(
    ("ask", "place"),
    [
        (lambda _: "x" * 1_000, "orchestration 'asks', result: 1002 bytes"),
        (lambda ctx: ctx.call_sub_orchestrator("fine", "x" * 1_000), "orchestration 'fine': 1002 bytes"),
        (lambda ctx: ctx.send_event("i", "go", data="x" * 1_000), "event 'go': 1002 bytes"),
        (lambda ctx: ctx.set_custom_status("x" * 1_000), "the custom status: 1002 bytes"),
        (lambda ctx: ctx.continue_as_new("x" * 1_000), "takes no input"),
    ],
)
def test_a_payload_over_the_limit_is_refused_wherever_it_is_given(ask: Ask, place: str) -> None:
    assert place in why_refused(ask, LIMITS)


def test_an_activitys_result_over_the_limit_fails_the_task_and_is_not_tried_again() -> None:
    policy = RetryPolicy(first_retry_interval=SECOND, max_number_of_attempts=5)

    def ask(ctx: OrchestrationContext) -> Any:
        return ctx.call_activity("long", 1, retry_policy=policy)

    text = why_refused(ask, LIMITS)

    assert "activity 'long', result: 2002 bytes of JSON, and at most 1000 are allowed" in text


def test_a_client_refuses_a_payload_over_the_limit_before_it_is_sent() -> None:
    with run(app_of(lambda _: None)) as env:
        with pytest.raises(PayloadTooLarge, match="at most 1000000 are allowed"):
            env.start("asks", "x" * 1_000_000)
        with pytest.raises(InvalidRequest, match="an instance id has at most 200 characters"):
            env.start("asks", instance_id="i" * 201)
        with pytest.raises(InvalidRequest, match="an event name has at most 200 characters"):
            env.start("fine").raise_event("e" * 201)
        with pytest.raises(InvalidRequest, match="the name of an orchestration or activity has at most 500 characters"):
            env.start("o" * 501)


# Counts.


def test_too_many_decisions_in_one_turn_are_refused() -> None:
    def ask(ctx: OrchestrationContext) -> None:
        for number in range(9):
            ctx.set_custom_status(number)

    assert "LimitExceeded: more than 8 decisions without waiting for anything" in why_refused(ask, LIMITS)


def test_too_many_bytes_decided_in_one_turn_are_refused_and_counted_anew_in_each() -> None:
    limits = Limits(decided_bytes_per_turn_max=1_000)

    def at_once(ctx: OrchestrationContext) -> Any:
        return when_all([ctx.call_activity("echo", "x" * 400) for _ in range(3)])

    def result_too(ctx: OrchestrationContext) -> str:
        ctx.set_custom_status("x" * 800)
        return "x" * 400

    async def one_by_one(ctx: OrchestrationContext) -> None:
        for _ in range(5):
            await ctx.call_activity("echo", "x" * 400)

    assert "LimitExceeded: more than 1000 bytes of payloads without waiting for anything" in why_refused(
        at_once, limits
    )
    assert "more than 1000 bytes of payloads" in why_refused(result_too, limits)
    with run(app_of(one_by_one, limits)) as env:
        assert env.run("asks") is None


def test_decisions_are_counted_anew_in_each_turn() -> None:
    app = App(limits=LIMITS)

    @app.orchestration
    async def careful(ctx: OrchestrationContext) -> int:
        for number in range(12):
            ctx.set_custom_status(number)
            await ctx.create_timer(SECOND)
        return 12

    with run(app) as env:
        assert 12 == env.run(careful)


def test_too_many_pending_tasks_are_refused() -> None:
    def ask(ctx: OrchestrationContext) -> Any:
        return when_all([ctx.create_timer(SECOND) for _ in range(6)])

    assert "LimitExceeded: more than 5 tasks are pending at once" in why_refused(ask, LIMITS)


def test_waits_for_events_count_as_pending_until_their_event_comes() -> None:
    def ask(ctx: OrchestrationContext) -> Any:
        return when_all([ctx.wait_for_external_event("go") for _ in range(6)])

    assert "LimitExceeded: more than 5 tasks are pending at once" in why_refused(ask, LIMITS)

    app = App(limits=LIMITS)

    @app.orchestration
    async def listens(ctx: OrchestrationContext) -> list[Any]:
        given_up = [ctx.wait_for_external_event("never") for _ in range(4)]
        got = [await ctx.wait_for_external_event("go") for _ in range(6)]
        for task in given_up:
            task.cancel()
        return got + [await ctx.wait_for_external_event("go", timeout=SECOND) for _ in range(1)]

    with run(app) as env:
        handle = env.start(listens)
        for number in range(7):
            handle.raise_event("go", number)
        assert list(range(7)) == handle.result()


def test_a_history_that_grows_too_long_fails_its_instance_and_tells_how_to_go_on() -> None:
    app = App(limits=LIMITS)

    @app.orchestration
    async def endless(ctx: OrchestrationContext) -> None:
        while True:
            await ctx.create_timer(SECOND)

    @app.orchestration
    async def parent(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(endless)

    with run(app) as env, pytest.raises(OrchestrationFailed) as caught:
        env.run(parent)

    failure = caught.value.failure
    assert failure is not None
    assert failure.cause is not None
    assert "HistoryLimitExceeded" == failure.cause.type
    assert "at most 60 are allowed. Use ctx.continue_as_new" in failure.cause.message


def test_an_orchestration_that_continues_as_new_has_no_end() -> None:
    app = App(limits=LIMITS)

    @app.orchestration
    def rounds(ctx: OrchestrationContext, left: int) -> Generator[Any, Any, str]:
        yield ctx.create_timer(SECOND)
        if left:
            ctx.continue_as_new(left - 1)
        return "done"

    with run(app) as env:
        assert "done" == env.run(rounds, 100)


def test_ids_and_event_names_have_the_limits_of_the_app() -> None:
    assert "an instance id has at most 40 characters" in why_refused(lambda ctx: ctx.send_event("i" * 41, "go"), LIMITS)
    assert "an event name has at most 10 characters" in why_refused(lambda ctx: ctx.send_event("i", "e" * 11), LIMITS)


@pytest.mark.parametrize("name", ["", "a" * 501, "a\nb", LONE])
def test_a_definition_needs_a_name_that_can_be_recorded(name: str) -> None:
    with pytest.raises(ValueError, match=r"the name of an orchestration|no name of its own"):
        App().activity(name=name)(lambda: None)


@pytest.mark.parametrize("limit", ["start_events_max", "tags_max"])
def test_no_limit_is_beyond_what_a_message_carries(limit: str) -> None:
    Limits(**{limit: 10_000})
    with pytest.raises(ValueError, match="a message carries at most 10,000 events or tags"):
        Limits(**{limit: 10_001})
