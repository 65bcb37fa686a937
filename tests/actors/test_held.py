"""Instances that their code cannot decide for are held: listed with a reason that teaches, their events kept, and released by other
code, by `resume`, or by being ended."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest

from perdure import App, OrchestrationContext
from perdure.actors import flags
from perdure.client import IfExists
from perdure.errors import InstanceNotFound, OrchestrationFailed
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import Status
from perdure.schemas.messages import Query, QueryKind
from perdure.testing import run
from tests.partitions.cluster import Cluster

SECOND = timedelta(seconds=1)
Code = Callable[[OrchestrationContext], Any]


def app_of(code: Code | None = None, name: str = "code") -> App:
    app = App()

    @app.activity
    def echo(value: Any) -> Any:
        return value

    @app.activity
    def other(value: Any) -> Any:
        return value

    @app.orchestration
    async def fine(ctx: OrchestrationContext) -> Any:
        return await ctx.call_activity(echo, "fine")

    if code is not None:
        app.orchestration(name=name)(code)
    return app


async def first(ctx: OrchestrationContext) -> list[Any]:
    begun = await ctx.call_activity("echo", "begun")
    return [begun, await ctx.wait_for_external_event("go"), await ctx.wait_for_external_event("go")]


async def otherwise(ctx: OrchestrationContext) -> list[Any]:
    return [await ctx.call_activity("other", "begun"), await ctx.wait_for_external_event("go")]


class Deployed(Cluster):
    """A hub whose code can be replaced, as by a deploy: a new process takes over from the one before."""

    def __init__(self, app: App) -> None:
        super().__init__(code=app)
        self.worker = self.join("worker-0")
        self.settle()

    def deploy(self, app: App) -> None:
        self.app = app
        self.kill(self.worker)
        self.worker = self.join(f"worker-{len(self.claims())}")
        self.until(self.worker.owns)
        self.settle()

    def start(self, name: str, instance_id: str) -> None:
        self.send(instance_id, ms.Start(name))
        self.settle()

    def tell(self, instance_id: str, body: ms.Body) -> None:
        self.send(instance_id, body)
        self.settle()

    def held(self) -> dict[str, dict[str, str]]:
        """The held instances as a list shows them, with kind and reason."""
        reply = self.ask("", Query(QueryKind.LIST, orjson.dumps({"held": True, "limit": 10})), partition=0)
        return {view["instance_id"]: view["held"] for view in orjson.loads(reply.body)["instances"]}

    def result(self, instance_id: str) -> Any:
        view = self.view(instance_id)
        assert "COMPLETED" == view["status"], view
        return view["result"]


# Non-determinism.


def test_code_that_decides_otherwise_is_held_with_position_expected_and_found() -> None:
    hub = Deployed(app_of(first))
    hub.start("code", "i")
    hub.deploy(app_of(otherwise))
    assert {} == hub.held()

    hub.tell("i", ms.RaiseEvent("go", b"1"))
    hub.start("fine", "others")

    assert "nondeterminism" == hub.held()["i"]["kind"]
    reason = hub.held()["i"]["reason"]
    assert (
        "turn 1, decision 1: history has TaskScheduled #1 'echo', the code decided TaskScheduled #1 'other'" in reason
    )
    assert "ctx.patched" in reason
    assert "fine" == hub.result("others")


def test_events_of_a_held_instance_are_kept_and_code_that_agrees_goes_on_with_them() -> None:
    hub = Deployed(app_of(first))
    hub.start("code", "i")
    hub.deploy(app_of(otherwise))
    hub.tell("i", ms.RaiseEvent("go", b"1"))
    hub.tell("i", ms.RaiseEvent("go", b"2"))
    assert ["i"] == list(hub.held())

    hub.deploy(app_of(otherwise))
    assert ["i"] == list(hub.held())
    hub.deploy(app_of(first))

    assert {} == hub.held()
    assert ["begun", 1, 2] == hub.result("i")
    hub.check()


def test_resume_tries_a_held_instance_again_and_holds_it_again_where_the_code_is_the_same() -> None:
    app = app_of(first)
    hub = Deployed(app)
    hub.start("code", "i")
    hub.deploy(app_of(otherwise))
    hub.tell("i", ms.RaiseEvent("go", b"1"))
    hub.tell("i", ms.Resume())
    assert ["i"] == list(hub.held())

    hub.app._orchestrations["code"] = app.orchestrations["code"]  # the code is reloaded in place
    hub.tell("i", ms.RaiseEvent("go", b"2"))
    assert ["i"] == list(hub.held())
    hub.tell("i", ms.Resume())

    assert {} == hub.held()
    assert ["begun", 1, 2] == hub.result("i")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (lambda ctx: ctx.create_timer(SECOND), "history has TaskScheduled #1 'echo', the code decided TimerCreated #1"),
        (lambda ctx: ctx.wait_for_external_event("go"), "history has TaskScheduled #1 'echo', the code decided nothing more"),
        (lambda ctx: [ctx.send_event("x", "go"), ctx.call_activity("echo", 1)][1], "the code decided EventSent #1 'go' for 'x'"),
        (lambda ctx: [ctx.call_activity("echo", 1), ctx.call_activity("echo", 2)][0],
         "decision 2: history has nothing more, the code decided TaskScheduled #2 'echo'"),
        (lambda ctx: ctx.call_sub_orchestrator("fine", instance_id="f"), "the code decided SubOrchestrationInstanceCreated #1 'fine' for 'f'"),
    ],
)  # fmt: skip
def test_each_decision_is_compared_and_the_first_that_differs_is_named(code: Code, found: str) -> None:
    async def changed(ctx: OrchestrationContext) -> None:
        await code(ctx)

    hub = Deployed(app_of(first))
    hub.start("code", "i")
    hub.deploy(app_of(changed))
    hub.tell("i", ms.RaiseEvent("go", b"1"))

    assert found in hub.held()["i"]["reason"]


def test_code_that_ends_earlier_than_it_did_is_held() -> None:
    async def shorter(ctx: OrchestrationContext) -> str:
        return "over"

    async def raises(ctx: OrchestrationContext) -> None:
        raise ValueError("not now")

    for code, found in (
        (shorter, "ExecutionCompleted COMPLETED"),
        (raises, "ExecutionCompleted FAILED (ValueError: not now)"),
    ):
        hub = Deployed(app_of(first))
        hub.start("code", "i")
        hub.deploy(app_of(code))
        hub.tell("i", ms.RaiseEvent("go", b"1"))

        assert f"history has TaskScheduled #1 'echo', the code decided {found}" in hub.held()["i"]["reason"]


async def from_a_set(ctx: OrchestrationContext) -> list[Any]:
    tasks = [ctx.call_activity("echo", name) for name in _ORDER]
    await ctx.wait_for_external_event("go")
    return [await task for task in tasks]


_ORDER: list[str] = []


def test_the_same_calls_in_another_order_are_held_since_their_results_would_be_mixed_up() -> None:
    _ORDER[:] = ["a", "b", "c"]
    hub = Deployed(app_of(from_a_set))
    hub.start("code", "i")
    _ORDER[:] = ["b", "a", "c"]
    hub.deploy(app_of(from_a_set))
    hub.tell("i", ms.RaiseEvent("go", b"1"))

    reason = hub.held()["i"]["reason"]
    assert (
        "decision 1: history has TaskScheduled #1 'echo', the code decided TaskScheduled #1 'echo' with input b'\"b\"'"
        in reason
    )
    assert "the same calls in another order" in reason


def test_a_call_whose_input_changed_is_the_same_call_and_its_recorded_result_holds() -> None:
    _ORDER[:] = ["a", "b"]
    hub = Deployed(app_of(from_a_set))
    hub.start("code", "i")
    _ORDER[:] = ["a", "c"]
    hub.deploy(app_of(from_a_set))
    hub.tell("i", ms.RaiseEvent("go", b"1"))

    assert ["a", "b"] == hub.result("i")


# Unknown names.


def test_an_unknown_orchestration_is_held_named_and_released_by_a_worker_that_knows_it() -> None:
    hub = Deployed(app_of())
    request = hub.send("i", ms.Start("code"))
    hub.settle()
    hub.tell("i", ms.RaiseEvent("go", b"1"))
    hub.tell("i", ms.RaiseEvent("go", b"2"))

    assert {
        "i": {"kind": "unknown-name", "reason": "this worker has no orchestration 'code'; it has: fine"}
    } == hub.held()
    told = orjson.loads(hub.replies(request)[0].body)
    assert "unknown-name" == told["held"]["kind"]
    hub.deploy(app_of(first))
    assert ["begun", 1, 2] == hub.result("i")


def test_an_unknown_activity_holds_its_instance_until_a_worker_has_it() -> None:
    async def code(ctx: OrchestrationContext) -> Any:
        return await ctx.call_activity("later", 5)

    app = app_of(code)
    with run(app) as env:
        handle = env.start("code")
        held = handle.held
        assert held is not None
        assert ("unknown-activity", "activity 'later' is not registered with this worker's app") == (
            held.kind,
            held.reason,
        )

        app.activity(name="later")(lambda value: value + 1)
        handle.resume()

        assert 6 == handle.result()
        assert handle.held is None


# What ends a held instance.


def test_a_held_instance_that_is_ended_replaced_or_purged_is_held_no_more() -> None:
    with run(app_of()) as env:
        ended, replaced, purged = (env.start("nowhere", instance_id=name) for name in ("ended", "replaced", "purged"))
        assert 3 == len(env.list(held=True))

        ended.terminate("enough")
        env.start("fine", instance_id="replaced", if_exists=IfExists.REPLACE, replace_statuses=["PENDING"])
        purged.purge(force=True)
        with pytest.raises(InstanceNotFound):
            purged.get()
        env.start("fine", instance_id="purged")

        assert [] == env.list(held=True)
        assert Status.TERMINATED == ended.get().status
        assert ["fine", "fine"] == [handle.result() for handle in (replaced, purged)]


# Patches.


async def old(ctx: OrchestrationContext) -> list[Any]:
    out = [await ctx.call_activity("echo", "begin")]
    out.append(await ctx.wait_for_external_event("go"))
    out.append(await ctx.call_activity("echo", "end"))
    return out


async def patched(ctx: OrchestrationContext) -> list[Any]:
    out = [await ctx.call_activity("other" if ctx.patched("quicker") else "echo", "begin")]
    out.append(await ctx.wait_for_external_event("go"))
    out.append("new" if ctx.patched("quicker") else await ctx.call_activity("echo", "end"))
    return out


async def patched_twice(ctx: OrchestrationContext) -> list[Any]:
    out = [await ctx.call_activity("other" if ctx.patched("quicker") else "echo", "begin")]
    out.append(await ctx.wait_for_external_event("go"))
    if ctx.patched("thorough"):
        out.append(await ctx.call_activity("other", "checked"))
    out.append("new" if ctx.patched("quicker") else await ctx.call_activity("echo", "end"))
    return out


def test_a_patch_lets_code_change_under_running_instances() -> None:
    hub = Deployed(app_of(old))
    hub.start("code", "before")
    hub.deploy(app_of(patched))
    hub.start("code", "after")
    hub.deploy(app_of(patched_twice))
    for name in ("before", "after"):
        hub.tell(name, ms.RaiseEvent("go", b"1"))

    assert {} == hub.held()
    # `thorough` was new to both when they came to it; `quicker` was not there when the first one began.
    assert ["begin", 1, "checked", "end"] == hub.result("before")
    assert ["begin", 1, "checked", "new"] == hub.result("after")
    assert [ev.PatchMarked("thorough")] == [e for e in hub.events("before") if isinstance(e, ev.PatchMarked)]
    assert [ev.PatchMarked("quicker"), ev.PatchMarked("thorough")] == [
        event for event in hub.events("after") if isinstance(event, ev.PatchMarked)
    ]
    hub.check()


def test_the_first_answer_of_a_patch_holds_for_the_whole_execution_and_in_every_replay() -> None:
    answers: list[list[bool]] = []

    async def code(ctx: OrchestrationContext) -> list[bool]:
        seen = []
        for _ in range(4):
            seen.append(ctx.patched("p"))
            await ctx.create_timer(SECOND)
            answers.append(list(seen))
        return seen

    with run(app_of(code)) as env:
        assert [True] * 4 == env.run("code")
    assert all(all(seen) for seen in answers)


def test_a_patch_that_is_taken_back_is_held_only_where_the_new_code_ran() -> None:
    hub = Deployed(app_of(old))
    hub.start("code", "before")
    hub.deploy(app_of(patched))
    hub.start("code", "after")
    hub.deploy(app_of(old))
    for name in ("before", "after"):
        hub.tell(name, ms.RaiseEvent("go", b"1"))

    assert ["after"] == list(hub.held())
    assert ["begin", 1, "end"] == hub.result("before")
    hub.deploy(app_of(patched))
    assert ["begin", 1, "new"] == hub.result("after")


# Engine flags.


def test_a_flag_of_the_engine_is_recorded_and_a_build_that_does_not_know_it_holds_the_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flags, "FLAGS", {41: 1, 42: 2})
    hub = Deployed(app_of(first))
    hub.start("code", "newer")
    # Only what every worker of a hub at this level knows is recorded (R12).
    [started] = [event for event in hub.events("newer") if isinstance(event, ev.ExecutionStarted)]
    assert (41,) == started.flags

    monkeypatch.setattr(flags, "FLAGS", {})
    hub.deploy(app_of(first))
    hub.start("code", "older")
    for name in ("newer", "older"):
        hub.tell(name, ms.RaiseEvent("go", b"1"))
        hub.tell(name, ms.RaiseEvent("go", b"2"))

    assert ["newer"] == list(hub.held())
    assert "unknown-flag" == hub.held()["newer"]["kind"]
    assert (
        "started by a newer build, with engine flags [41] that this one does not know" in hub.held()["newer"]["reason"]
    )
    assert ["begun", 1, 2] == hub.result("older")
    monkeypatch.setattr(flags, "FLAGS", {41: 1})
    hub.deploy(app_of(first))
    assert ["begun", 1, 2] == hub.result("newer")


# What an exception does.


def test_an_exception_that_the_code_does_not_catch_fails_the_instance_and_holds_nothing() -> None:
    async def code(ctx: OrchestrationContext) -> None:
        await ctx.call_activity("echo", 1)
        raise KeyError("missing")

    with run(app_of(code)) as env:
        with pytest.raises(OrchestrationFailed, match="KeyError: 'missing'") as caught:
            env.run("code")
        assert [] == env.list(held=True)
    assert caught.value.failure is not None
    assert 'raise KeyError("missing")' in caught.value.failure.stack
