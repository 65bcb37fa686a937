"""What a client can do, the same over every way into a hub."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from perdure.client import AsyncClient, Client, IfExists, Page, aio
from perdure.errors import (
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceTerminated,
    InvalidRequest,
    NoAnswer,
    OrchestrationFailed,
    PayloadTooLarge,
    StartUnknown,
    WaitTimeout,
)
from perdure.partitions.partitioner import partition_of
from perdure.schemas.events import Status
from tests.client.hub import PARTITIONS, app, big, calls_by_name, echo, listen, running_hub, welcome
from tests.client.ways import Way, impatient


@pytest.fixture(autouse=True)
def _glance_at_leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said when a wait is over tells how the instance stands, on a slow machine too."""
    monkeypatch.setattr(aio, "_GLANCE_SECONDS", 20.0)


def new_id(prefix: str = "i") -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_start_returns_a_handle_whose_result_is_typed(client: Client) -> None:
    handle = client.start(welcome, "Ada")
    result: str = handle.result(20)

    assert "hello Ada" == result
    assert handle.started is not None
    assert handle.started.created
    assert (2**70) + 1 == client.start(big, 2**70).result(20)


def test_whoever_has_the_answer_to_a_start_can_read_the_instance_at_once(client: Client) -> None:
    for _ in range(20):
        handle = client.start(listen)
        instance = handle.get()
        assert (handle.id, "listen") == (instance.instance_id, instance.name)
        assert instance.status in (Status.PENDING, Status.RUNNING)


def test_a_failure_is_raised_with_its_chain(client: Client) -> None:
    with pytest.raises(OrchestrationFailed, match="nobody is there") as caught:
        client.start(welcome, "nobody").result(20)

    failure = caught.value.failure
    assert failure is not None
    assert "TaskFailedError" in failure.type
    assert failure.cause is not None
    assert ("ValueError", "nobody is there") == (failure.cause.type.rpartition(".")[2], failure.cause.message)


def test_a_wait_that_is_over_leaves_the_instance_running(client: Client) -> None:
    handle = client.start(listen)
    with pytest.raises(WaitTimeout, match="has not ended within") as caught:
        handle.result(0.3)
    assert handle.id == caught.value.instance_id

    handle.raise_event("GO", {"n": 1})
    assert {"n": 1} == handle.result(20)


def test_a_wait_whose_end_comes_with_its_last_look_has_ended(tmp_path: Path) -> None:
    async def ask() -> None:
        with running_hub(tmp_path) as hub:
            client = AsyncClient.over(hub.log.share(), timeout=20)
            handle = await client.start(echo, 1)
            await handle.wait(20)

            async def wait(*_: object) -> None:
                """Over a moment too soon."""

            client.transport.wait = wait  # type: ignore[assignment, method-assign]
            assert 1 == await handle.result(20)
            await client.close()

    asyncio.run(ask())


def test_events_given_with_the_start_do_not_race_it(client: Client) -> None:
    assert "first" == client.start(listen, events=[("go", "first"), ("go", "second")]).result(20)


def test_an_id_that_is_taken_is_refused_returned_or_replaced(client: Client) -> None:
    name = new_id()
    first = client.start(listen, instance_id=name)
    with pytest.raises(InstanceAlreadyExists, match=name):
        client.start(listen, instance_id=name)

    again = client.start(listen, instance_id=name, if_exists=IfExists.RETURN)
    assert (False, first.started and first.started.execution_id) == (
        again.started and again.started.created,
        again.started and again.started.execution_id,
    )
    with pytest.raises(InstanceAlreadyExists):
        client.start(echo, 1, instance_id=name, if_exists="replace")
    replaced = client.start(echo, 1, instance_id=name, if_exists="replace", replace_statuses=["RUNNING", "PENDING"])
    assert 1 == replaced.result(20)
    assert 2 == client.start(echo, 2, instance_id=name, if_exists="replace").result(20)


def test_a_start_that_is_repeated_with_its_request_id_is_done_once(client: Client) -> None:
    name, request = new_id(), new_id("request")
    first = client.start(listen, instance_id=name, request_id=request)
    again = client.start(listen, instance_id=name, request_id=request)

    assert first.started == again.started
    unnamed = [client.start(listen, request_id=f"{request}-unnamed") for _ in range(2)]
    assert unnamed[0].started == unnamed[1].started
    assert 1 == len(client.list(prefix=unnamed[0].id))


def test_the_same_start_asked_twice_at_once_is_answered_twice_and_done_once(way: Way) -> None:
    """As when a proxy, or a client that lost patience, sends a request again while the first one is still under way."""

    async def ask_twice() -> list[Any]:
        async with way.connect_async() as client:
            named = {"instance_id": "at-once", "request_id": "one"}
            handles = await asyncio.gather(*(client.start(echo, "same", **named) for _ in range(2)))
            return [await handle.result(20) for handle in handles]

    assert ["same", "same"] == asyncio.run(ask_twice())


def test_a_start_may_lie_in_the_future(client: Client) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    handle = client.start(echo, "late", start_at=at)
    assert Status.PENDING == handle.get().status
    assert "late" == handle.result(20)
    assert datetime.now(UTC) >= at


def test_terminate_cancel_suspend_and_resume(client: Client) -> None:
    terminated = client.start(listen)
    terminated.terminate("enough")
    with pytest.raises(InstanceTerminated, match="enough"):
        terminated.result(20)
    assert "TERMINATED" == f"{terminated.get().status}"
    assert "enough" == terminated.get().result

    canceled = client.start(listen)
    canceled.cancel("too late")
    assert Status.CANCELED == canceled.wait(20).status

    suspended = client.start(listen)
    suspended.suspend()
    until(lambda: suspended.get().status == Status.SUSPENDED)
    suspended.raise_event("go", 7)
    with pytest.raises(WaitTimeout):
        suspended.result(0.3)
    suspended.resume()
    assert 7 == suspended.result(20)


def test_who_comes_too_late_or_for_nobody_is_told(client: Client) -> None:
    done = client.start(echo, 1)
    done.result(20)
    with pytest.raises(InstanceFinished):
        done.raise_event("go")
    nobody = client.instance(new_id("nobody"))
    for ask in (nobody.get, lambda: nobody.raise_event("go"), nobody.cancel, nobody.history, nobody.purge):
        with pytest.raises(InstanceNotFound):
            ask()
    with pytest.raises(InstanceNotFound):
        nobody.result(5)


def test_purge_forgets_what_has_ended(client: Client) -> None:
    handle = client.start(listen)
    with pytest.raises(InstanceNotFinished):
        handle.purge()
    handle.terminate()
    handle.wait(20)
    handle.purge()
    with pytest.raises(InstanceNotFound):
        handle.get()
    forced = client.start(listen)
    forced.purge(force=True)
    with pytest.raises(InstanceNotFound):
        forced.get()


def test_history_has_every_turn_with_its_events(client: Client) -> None:
    handle = client.start(welcome, "Ada")
    handle.result(20)
    history = handle.history()

    names = [event["type"] for turn in history.turns for event in turn["events"]]
    assert ["ExecutionStarted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted"] == names
    assert [type(event).__name__ for turn in history.decode() for event in turn.events] == names


def test_list_filters_and_pages(client: Client) -> None:
    prefix = new_id("list")
    began = datetime.now(UTC)
    for number in range(7):
        client.start(
            echo, number, instance_id=f"{prefix}-{number}", tags={"run": prefix, "odd": str(number % 2)}
        ).result(20)
    waiting = client.start(listen, instance_id=f"{prefix}-waits")

    def ids(**conditions: object) -> list[str]:
        return sorted(instance.instance_id for instance in client.list_all(prefix=prefix, **conditions))  # type: ignore[arg-type]

    assert 8 == len(ids())
    assert [waiting.id] == ids(status="RUNNING")
    assert 7 == len(ids(status=["COMPLETED", "FAILED"]))
    assert [waiting.id] == ids(name="listen")
    assert [f"{prefix}-{n}" for n in (1, 3, 5)] == ids(tags={"odd": "1"})
    assert 8 == len(ids(created_from=began - timedelta(seconds=1)))
    assert [] == ids(created_to=began - timedelta(seconds=1))
    assert [] == ids(created_from=datetime.now(UTC) + timedelta(hours=1))
    assert [] == ids(held=True)

    seen: list[str] = []
    after = None
    while True:
        page = client.list(prefix=prefix, limit=3, after=after)
        seen += [instance.instance_id for instance in page]
        assert len(page) <= 3
        if (after := page.next) is None:
            break
    assert sorted(seen) == ids()
    created = [client.instance(each).get().created_at for each in seen]
    assert created == sorted(created, reverse=True)
    waiting.terminate()


def test_an_unknown_orchestration_is_held_told_to_the_client_listed_and_released(way: Way, client: Client) -> None:
    handle = client.start("not-yet", 3)
    assert handle.held is not None
    assert "not-yet" in handle.held.reason
    assert [handle.id] == [instance.instance_id for instance in client.list(held=True)]
    with pytest.raises(WaitTimeout, match="not-yet"):
        handle.result(0.5)

    from perdure import App, OrchestrationContext

    newer = App()
    newer.include(app)

    @newer.orchestration(name="not-yet")
    async def now(ctx: OrchestrationContext, value: int) -> int:
        return value * 2

    way.stop_worker()
    way.restart_worker(newer)
    assert 6 == handle.result(30)


def test_an_unknown_activity_holds_its_instance_until_a_worker_knows_it(way: Way, client: Client) -> None:
    handle = client.start(calls_by_name, "missing")
    until(lambda: handle.get().held is not None)
    held = handle.get().held
    assert held is not None
    assert ("unknown-activity", True) == (held.kind, "missing" in held.reason)
    assert handle.id in {instance.instance_id for instance in client.list(held=True)}
    with pytest.raises(WaitTimeout, match="what holds it is gone: activity 'missing'"):
        handle.result(0.5)

    from perdure import App

    newer = App()
    newer.include(app)

    @newer.activity(name="missing")
    def found(value: str) -> str:
        return f"found {value}"

    way.stop_worker()
    way.restart_worker(newer)
    assert "found missing" == handle.result(30)


def test_bad_input_is_refused_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(InvalidRequest, match=r"does not know id; it knows instance_id, tags"):
        client.start(echo, 1, id="order-1")  # type: ignore[call-overload]
    with pytest.raises(PayloadTooLarge, match="bytes"):
        client.start(echo, "x" * 5_000_000)
    with pytest.raises(InvalidRequest, match=r"\$\.when"):
        client.start(echo, {"when": datetime.now(UTC)})
    with pytest.raises(InvalidRequest):
        client.start(echo, 1, instance_id="a\0b")
    with pytest.raises(InvalidRequest):
        client.start(echo, 1, instance_id="")
    for timeout in (-1.0, float("nan")):
        with pytest.raises(InvalidRequest, match="a time-out is a number of seconds"):
            client.instance("i").wait(timeout)
        with pytest.raises(InvalidRequest, match="a time-out is a number of seconds"):
            client.instance("i").get(timeout)
    with pytest.raises(InvalidRequest):
        client.list(limit=0)
    with pytest.raises(InvalidRequest, match="RUNNIN"):
        client.list(status="RUNNIN")
    wrong: dict[str, Any] = {
        "status": [5], "name": 5, "prefix": 5, "tags": {"a": 1}, "created_from": "2026-01-01", "held": "no", "limit": "9", "after": 5,
    }  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(InvalidRequest, match="found"):
            client.list(**{name: value})  # type: ignore[misc]
    wrong = {"tags": ["a"], "start_at": "2026-01-01T00:00Z", "events": ["go"], "replace_statuses": [5]}
    for name, value in wrong.items():
        with pytest.raises(InvalidRequest, match="found"):
            client.start(echo, 1, **{name: value})
    for policy in ({}, {"if_exists": "return"}):
        with pytest.raises(InvalidRequest, match="replace_statuses go with if_exists=replace; found"):
            client.start(echo, 1, replace_statuses=["RUNNING"], **policy)  # type: ignore[arg-type]


def test_where_nobody_answers_a_start_is_unknown_and_safe_to_repeat(way: Way) -> None:
    way.stop_worker()
    name = new_id()
    with impatient(way, 1.0) as hasty:
        with pytest.raises(StartUnknown) as caught:
            hasty.start(echo, "once", instance_id=name)
        assert name == caught.value.instance_id
        with pytest.raises(NoAnswer, match=r"worker|no answer"):
            hasty.instance(name).get()
    way.restart_worker()
    with way.connect() as client:
        again = client.start(echo, "once", instance_id=name, request_id=caught.value.request_id)
        assert "once" == again.result(30)
        assert 1 == len(client.list(prefix=name))


def test_all_partitions_are_asked_and_silent_ones_are_named(way: Way) -> None:
    """A list that is not whole says so; what is on a partition without an owner is not said to be missing."""
    names = {partition_of(name, PARTITIONS): name for name in (new_id("home") for _ in range(40))}
    with way.connect() as client:
        for name in names.values():
            client.start(listen, instance_id=name)
    way.stop_worker()
    way.restart_worker(partitions=(0, 1))
    with way.connect() as client:
        for name in (names[0], names[1]):
            assert Status.RUNNING == client.instance(name).get().status
    with impatient(way, way.hasty_seconds) as client:
        pages: list[Page] = []

        def is_one_silent() -> bool:
            with suppress(NoAnswer):  # owners that are busy may be silent too, all of them even, but not for ever
                pages.append(client.list(prefix="home-"))
            return bool(pages) and (2,) == pages[-1].silent

        until(is_one_silent)
        assert {names[0], names[1]} == {instance.instance_id for instance in pages[-1]}
        with pytest.raises(NoAnswer, match=r"partitions .*2 did not answer"):
            list(client.list_all(prefix="home-"))
        with pytest.raises(NoAnswer, match=r"partition 2 .*worker"):
            client.instance(names[2]).get()
        with pytest.raises(StartUnknown, match=r"partition 2 .*worker"):
            client.start(echo, 1, instance_id=names[2])
    way.stop_worker()
    way.restart_worker()
    with way.connect() as client:
        until(lambda: 3 == len(client.list(prefix="home-")))


def test_an_event_for_nobody_is_told_to_its_sender_and_kept_as_a_dead_letter(way: Way, client: Client) -> None:
    name = new_id("nobody")
    with pytest.raises(InstanceNotFound, match=name):
        client.instance(name).raise_event("go", "lost")

    until(lambda: name.encode() in [letter["perdure-instance"] for letter in way.dead_letters()])
    letter = next(each for each in way.dead_letters() if each["perdure-instance"] == name.encode())
    assert b"event 'go' for an instance that does not exist" == letter["perdure-reason"]
    ended = client.start(echo, 1)
    ended.result(20)
    with pytest.raises(InstanceFinished, match="COMPLETED"):
        ended.raise_event("go", "late")


def test_the_async_client_does_the_same(way: Way) -> None:
    async def use() -> list[str]:
        async with way.connect_async() as client:
            handles = await asyncio.gather(*(client.start(welcome, f"n{number}") for number in range(20)))
            results = await asyncio.gather(*(handle.result(20) for handle in handles))
            listed = {instance.instance_id async for instance in client.list_all(name="welcome")}
            assert listed >= {handle.id for handle in handles}
            return results

    assert [f"hello n{number}" for number in range(20)] == asyncio.run(use())
