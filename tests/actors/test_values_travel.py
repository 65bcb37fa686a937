"""Values of every annotated type through the engine: as input and result of activities, orchestrations and sub-orchestrations, as
an event's payload and as the input that continue-as-new gives."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from perdure import App, NonRetriableError, OrchestrationContext
from perdure.actors.values import Codec, decode_plain
from perdure.testing import run
from tests.actors.value_types import TYPES, same


def annotated(function: Callable[..., Any], **annotations: Any) -> Any:
    """`function` with these annotations: types of a test's parameters cannot be written in its source."""
    function.__annotations__ = annotations
    return function


def app_of(annotation: Any, value: Any) -> App:
    """An app whose orchestration `travel` compares `value` with what comes back everywhere, and returns where it differs."""
    app = App()

    def echo(given: Any) -> Any:
        if not same(value, given):
            raise NonRetriableError(f"{value!r} came as {given!r}")
        return given

    async def child(ctx: OrchestrationContext, given: Any) -> Any:
        return await ctx.call_activity(activity, given)

    async def travel(ctx: OrchestrationContext, given: Any) -> Any:
        assert same(value, given)
        by_activity = await ctx.call_activity(activity, given)
        by_child = await ctx.call_sub_orchestrator(sub, by_activity)
        by_name = await ctx.call_activity("echo", _as_json(annotation, by_child), return_type=annotation)
        event = await ctx.wait_for_external_event("value", data_type=annotation)
        for got in (by_activity, by_child, by_name, event):
            assert same(value, got), f"{value!r} came as {got!r}"
        return event

    async def again(ctx: OrchestrationContext, given: Any) -> Any:
        assert same(value, given)
        await ctx.create_timer(timedelta(seconds=1))
        if ctx.current_utc_datetime.second < 3:
            ctx.continue_as_new(given)
        return given

    activity: Any = app.activity(name="echo")(annotated(echo, given=annotation, **{"return": annotation}))
    sub: Any = app.orchestration(annotated(child, ctx=OrchestrationContext, given=annotation, **{"return": annotation}))
    app.orchestration(annotated(travel, ctx=OrchestrationContext, given=annotation, **{"return": annotation}))
    app.orchestration(annotated(again, ctx=OrchestrationContext, given=annotation, **{"return": annotation}))
    return app


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@settings(max_examples=4, phases=[Phase.generate])  # to shrink would take minutes
def test_a_value_travels_everywhere_by_its_annotation(name: str, data: st.DataObject) -> None:
    annotation, values = TYPES[name]
    value = data.draw(values)
    app = app_of(annotation, value)
    travel, again = app.orchestrations["travel"], app.orchestrations["again"]

    with run(app) as env:
        handle = env.start(travel, value)
        handle.raise_event("value", _as_json(annotation, value))
        results = [handle.result(), env.run(again, value)]

    assert all(same(value, result) for result in results)


def _as_json(annotation: Any, value: Any) -> Any:
    """What a client without the type would send. Integers beyond 64 bits have no unannotated form, so they go as text."""
    return _narrow(decode_plain(Codec(annotation, "it").encode(value)))


def _narrow(shown: Any) -> Any:
    if isinstance(shown, int) and not -(2**63) <= shown < 2**64:
        return str(shown)
    if isinstance(shown, list):
        return [_narrow(item) for item in shown]
    return {key: _narrow(item) for key, item in shown.items()} if isinstance(shown, dict) else shown
