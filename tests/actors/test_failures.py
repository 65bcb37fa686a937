"""Failures: type, message, stack and cause through activities and sub-orchestrations; original types only where they are registered."""

import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import App, NonRetriableError, OrchestrationContext, TaskFailedError, ValueRefused, when_all
from perdure.actors.failures import (
    CAUSES_MAX,
    MESSAGE_CHARS_MAX,
    STACK_CHARS_MAX,
    error_of,
    failure_of,
    rebuild,
    type_name,
)
from perdure.errors import OrchestrationFailed
from perdure.schemas.codec import decode_event, encode_event
from perdure.schemas.events import Failure, TaskFailed
from perdure.testing import run


class Declined(Exception):
    def __init__(self, code: str, amount: int) -> None:
        super().__init__(code, amount)
        self.code, self.amount = code, amount


class Wrapped(Exception):
    pass


def app_of(error: Exception, *registered: type[Exception]) -> App:
    """`act` raises; `child` lets it through; `parent` says what it saw."""
    app = App()
    for kind in registered:
        app.exception(kind)

    @app.activity
    def act() -> None:
        raise error

    @app.orchestration
    async def child(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(act)

    return app


def seen_by_parent(app: App, *, of_child: bool = False) -> TaskFailedError:
    """The error that awaiting the activity, or the child that lets its failure through, raises."""
    caught: list[TaskFailedError] = []

    @app.orchestration
    async def parent(ctx: OrchestrationContext) -> None:
        try:
            await (ctx.call_sub_orchestrator("child") if of_child else ctx.call_activity("act"))
        except TaskFailedError as error:
            caught.append(error)

    with run(app) as env:
        env.run(parent)
    return caught[-1]


def test_an_activitys_failure_carries_type_message_stack_and_cause() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise Wrapped("outer") from inner
    except Wrapped as raised:
        error: Exception = raised
    caught = seen_by_parent(app_of(error))

    assert f"activity 'act' failed: {__name__}.Wrapped: outer" == str(caught)
    failure = caught.details
    assert (f"{__name__}.Wrapped", "outer", True) == (failure.type, failure.message, failure.retriable)
    assert "in act" in failure.stack
    assert "perdure/" not in failure.stack
    assert failure.cause is not None
    assert ("KeyError", "'inner'") == (failure.cause.type, failure.cause.message)
    assert 'raise KeyError("inner")' in failure.cause.stack


def test_a_failure_goes_up_through_sub_orchestrations_with_its_whole_chain() -> None:
    caught = seen_by_parent(app_of(ValueError("deep")), of_child=True)

    assert "TaskFailedError" == caught.details.type
    assert "sub-orchestration 'child'" in str(caught)
    cause = caught.details.cause
    assert cause is not None
    assert ("ValueError", "deep") == (cause.type, cause.message)
    assert "in act" in cause.stack


def test_a_client_sees_the_same_chain() -> None:
    with (
        run(app_of(ValueError("deep"))) as env,
        pytest.raises(OrchestrationFailed) as caught,
    ):
        env.run("child")

    # What the message holds already is not told again.
    assert str(caught.value).endswith("is FAILED: TaskFailedError: activity 'act' failed: ValueError: deep")
    assert caught.value.failure is not None
    assert caught.value.failure.cause is not None
    assert "ValueError" == caught.value.failure.cause.type


def test_a_cause_that_the_message_does_not_hold_is_told_after_it() -> None:
    app = App()

    @app.orchestration
    async def wraps(ctx: OrchestrationContext) -> None:
        raise Wrapped("no parcel") from ValueError("deep")

    with run(app) as env, pytest.raises(OrchestrationFailed, match=r"Wrapped: no parcel, caused by ValueError: deep$"):
        env.run("wraps")


def test_a_result_that_does_not_fit_its_annotation_is_told_in_one_line() -> None:
    app = App()

    @app.orchestration
    async def counts(ctx: OrchestrationContext) -> list[int]:
        return ["x"]  # type: ignore[list-item]

    with run(app) as env, pytest.raises(OrchestrationFailed) as caught:
        env.run("counts")

    assert "expected int, found 'x' (str)" in str(caught.value)
    assert "pydantic" not in str(caught.value).lower()
    assert 1 == len(str(caught.value).splitlines())


def test_a_wrong_argument_of_a_decorator_is_told_with_its_public_name() -> None:
    app = App()

    with pytest.raises(TypeError, match=r"^App\.activity\(\) got an unexpected keyword argument 'retries'"):
        app.activity(retries=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^App\.orchestration\(\) got an unexpected keyword argument 'retries'"):
        app.orchestration(retries=3)  # type: ignore[call-overload]


def test_an_implicit_cause_counts_unless_it_was_suppressed() -> None:
    def raised(*, suppress: bool) -> Failure:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                if suppress:
                    raise ValueError("second") from None
                raise ValueError("second")  # noqa: B904
        except ValueError as error:
            return failure_of(error)

    cause = raised(suppress=False).cause
    assert cause is not None
    assert "KeyError" == cause.type
    assert raised(suppress=True).cause is None


def test_several_failures_at_once_are_all_named() -> None:
    failure = failure_of(ExceptionGroup("two", [ValueError("one"), KeyError("other")]))

    assert "two (2 sub-exceptions); ValueError: one; KeyError: 'other'" == failure.message


def test_when_all_raises_the_first_failure_when_all_are_done() -> None:
    app = App()

    @app.activity
    def act(number: int) -> int:
        if number % 2:
            raise ValueError(str(number))
        return number

    @app.orchestration
    async def code(ctx: OrchestrationContext) -> list[Any]:
        tasks = [ctx.call_activity(act, number) for number in range(4)]
        both = when_all(tasks)
        try:
            await both
        except TaskFailedError as error:
            return [
                error.details.message,
                *[task.is_complete for task in tasks],
                both.get_completed_tasks(),
                both.pending_tasks,
            ]
        return []

    with run(app) as env:
        assert ["1", True, True, True, True, 4, 0] == env.run(code)


# Original types.


def test_a_registered_type_is_rebuilt_with_its_arguments_and_causes() -> None:
    error = Declined("no funds", 5)
    error.__cause__ = Wrapped("bank")
    cause = seen_by_parent(app_of(error, Declined, Wrapped)).__cause__

    assert isinstance(cause, Declined)
    assert ("no funds", 5) == (cause.code, cause.amount)
    assert isinstance(cause.__cause__, Wrapped)
    assert ("bank",) == cause.__cause__.args


def test_a_type_that_is_not_registered_is_not_rebuilt() -> None:
    caught = seen_by_parent(app_of(Declined("no funds", 5), Wrapped))

    assert caught.__cause__ is None
    assert f"{__name__}.Declined" == caught.details.type


def test_another_type_of_the_same_name_cannot_be_registered() -> None:
    app = App()
    app.exception(Declined)
    other = type("Declined", (Exception,), {"__module__": __name__})

    assert Declined is app.exception(Declined)
    with pytest.raises(ValueError, match="another exception type is registered as"):
        app.exception(other)


@contextmanager
def imports_of() -> Iterator[list[str]]:
    """What is imported meanwhile."""
    seen: list[str] = []
    original = builtins.__import__

    def spy(name: str, *arguments: Any, **options: Any) -> Any:
        seen.append(name)
        return original(name, *arguments, **options)

    builtins.__import__ = spy
    try:
        yield seen
    finally:
        builtins.__import__ = original


HOSTILE = [
    "os.system",
    "subprocess.Popen",
    "antigravity.Error",
    "builtins.eval",
    "__main__.Anything",
    "a.b.c",
    "",
    "os",
    "../x",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_type_name_from_the_log_imports_and_calls_nothing(name: str) -> None:
    failure = Failure(name, "rm -rf", details=b'["touch /tmp/owned"]', cause=Failure(name, "again"))
    before = set(sys.modules)

    with imports_of() as imported:
        error = error_of("activity 'act'", failure, {type_name(Declined): Declined})

    assert error.__cause__ is None
    assert [] == imported
    assert before == set(sys.modules)
    assert failure == error.failure


@given(st.text(), st.text(), st.binary() | st.just(b"null") | st.just(b'[1, "2"]') | st.just(b'{"a": 1}'))
def test_rebuilding_never_raises(kind: str, message: str, details: bytes) -> None:
    failure = Failure(kind, message, details=details)
    found = rebuild(failure, {kind: Declined})

    assert found is None or isinstance(found, Declined)


# Whatever an exception is, its failure can be made, written and read.


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OddArguments(Exception):
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("cannot be compared")

        __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(self.Odd())


class OddModule(Exception):
    pass


OddModule.__module__ = None  # type: ignore[assignment]


class LoneName(Exception):
    pass


LoneName.__qualname__ = "Lone\ud800"


class LongName(Exception):
    pass


LongName.__qualname__ = "x" * 10_000


def chained(links: int) -> Exception:
    error: Exception = ValueError("0")
    for number in range(1, links):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    return error


def in_a_ring() -> Exception:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def deep() -> Exception:
    def down(left: int) -> None:
        if left:
            down(left - 1)
        raise ValueError("at the bottom")

    try:
        down(500)
    except ValueError as error:
        return error
    raise AssertionError


def endless() -> Exception:
    def down() -> None:
        down()

    try:
        down()
    except RecursionError as error:
        return error
    raise AssertionError


class OddCause(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("no cause")


ODD: list[BaseException] = [
    OddCause("x"),
    NoText(), OddArguments(), OddModule("x"), LoneName("x"), LongName("x"), chained(500), in_a_ring(), deep(), endless(),
    ValueError("\ud800" * 3), ValueError("x" * 1_000_000), ValueError({1, 2}), ValueError(object()), KeyError(), SystemExit(3),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ExceptionGroup("g", [NoText()]), StopIteration(5), ValueError(float("nan")),
]  # fmt: skip


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__[:20])
def test_any_exception_becomes_a_failure_that_can_be_written_and_read(error: BaseException) -> None:
    failure = failure_of(error)
    event = TaskFailed(1, 1, failure)

    assert event == decode_event(TaskFailed.KIND, encode_event(event))
    links, each = 0, failure
    while True:
        links += 1
        assert len(each.type) <= 500
        assert len(each.message) <= MESSAGE_CHARS_MAX + 10
        assert len(each.stack) <= STACK_CHARS_MAX + 10
        if each.cause is None:
            break
        each = each.cause
    assert links <= CAUSES_MAX


@pytest.mark.parametrize(
    "error", [error for error in ODD if isinstance(error, Exception)], ids=lambda error: type(error).__name__[:20]
)
def test_an_activity_may_raise_anything_and_its_instance_fails_with_it(error: Exception) -> None:
    with run(app_of(error)) as env, pytest.raises(OrchestrationFailed):
        env.run("child")


@pytest.mark.parametrize(
    ("error", "retriable"),
    [(ValueError(), True), (NonRetriableError(), False), (ValueRefused("x"), False), (OSError(), True)],
)
def test_a_failure_says_whether_it_may_be_tried_again(error: Exception, retriable: bool) -> None:
    assert retriable is failure_of(error).retriable


def test_a_chain_of_failing_children_does_not_grow_for_ever() -> None:
    app = App()

    @app.orchestration
    async def nested(ctx: OrchestrationContext, depth: int) -> None:
        if not depth:
            raise ValueError("bottom")
        await ctx.call_sub_orchestrator(nested, depth - 1)

    with run(app) as env, pytest.raises(OrchestrationFailed) as caught:
        env.run(nested, 60)

    links, failure = 0, caught.value.failure
    while failure is not None:
        links, failure = links + 1, failure.cause
    assert links <= CAUSES_MAX
