"""Every public signature of Durable Task's Python SDK beside ours: each difference stands in docs/DURABLE_TASK.md with its reason."""

import inspect
import re
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import durabletask.task as theirs
import pytest

import perdure as ours
from perdure import App, OrchestrationContext
from perdure.testing import run

DOC = Path(__file__).resolve().parent.parent.parent / "docs" / "DURABLE_TASK.md"
CLASSES = ("OrchestrationContext", "RetryPolicy")
FUNCTIONS = ("when_all", "when_any")
MISSING = "-"
Row = tuple[str, str, str]
HOUR = timedelta(hours=1)


def annotation_of(annotation: Any) -> str:
    """A type as it is written, without the modules that it comes from."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b[a-z_]+(?:\.[a-z_]+)*\.(?=[A-Za-z])", "", text).replace("~", "").replace("NoneType", "None")
    union = re.fullmatch(r"Union\[(.*), (\w+)\]", text)
    return f"{union[1]} | {union[2]}" if union else text.replace("Any | None", "Any")


def parameter_of(parameter: inspect.Parameter) -> str:
    """One parameter as it is written; a star before those that are keywords only."""
    star = "*, " if parameter.kind is parameter.KEYWORD_ONLY else ""
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{star}{parameter.name}: {annotation_of(parameter.annotation)}{default}"


def compare_signatures(name: str, one: Any, other: Any) -> Iterator[Row]:
    before, after = inspect.signature(one), inspect.signature(other)
    names = [*before.parameters, *(name for name in after.parameters if name not in before.parameters)]
    for each in names:
        texts = [
            parameter_of(side.parameters[each]) if each in side.parameters else MISSING for side in (before, after)
        ]
        if texts[0] != texts[1] and each != "self":
            yield f"{name}({each})", texts[0], texts[1]
    # What follows the parameters in the order of positions is as it was.
    kept = [each for each in after.parameters if each in before.parameters]
    assert kept == [each for each in before.parameters if each in after.parameters], name
    results = annotation_of(before.return_annotation), annotation_of(after.return_annotation)
    if results[0] != results[1] and not isinstance(one, type):
        yield f"{name}() ->", *results


def compare_members(name: str, one: Any, other: Any) -> Iterator[Row]:
    if one is None or other is None:
        yield name, *("there" if each is not None else MISSING for each in (one, other))
    elif isinstance(one, property):
        getters = [each.fget if isinstance(each, property) else None for each in (one, other)]
        if getters[1] is None:
            return  # a field of a frozen dataclass reads as a property does
        results = [annotation_of(inspect.signature(getter).return_annotation) for getter in getters]
        if results[0] != results[1]:
            yield f"{name} ->", results[0], results[1]
    else:
        yield from compare_signatures(name, one, other)


def differences() -> list[Row]:
    rows: list[Row] = []
    for kind in CLASSES:
        sides = [
            {name: member for name, member in inspect.getmembers(getattr(module, kind)) if not name.startswith("_")}
            for module in (theirs, ours)
        ]
        for name in sorted({*sides[0], *sides[1]}):
            rows += compare_members(f"{kind}.{name}", sides[0].get(name), sides[1].get(name))
    rows += compare_signatures("RetryPolicy", theirs.RetryPolicy, ours.RetryPolicy)
    for name in FUNCTIONS:
        rows += compare_signatures(name, getattr(theirs, name), getattr(ours, name))
    return rows


def documented() -> dict[Row, str]:
    """The rows of the doc's table of signatures, with the reason in the last column."""
    found: dict[Row, str] = {}
    for line in DOC.read_text(encoding="utf-8").splitlines():
        cells = [
            cell.strip().strip("`").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))
        ]
        if line.startswith("| `") and len(cells) == 4:
            found[cells[0], cells[1], cells[2]] = cells[3]
    return found


def test_every_difference_to_durable_task_is_documented_with_its_reason_and_no_other() -> None:
    rows = documented()

    assert sorted(rows) == sorted(differences())
    assert [row for row, reason in rows.items() if len(reason.split()) < 3] == []


# Code that was written for Durable Task, but for the decorators.

app = App()


@app.activity
def hello(ctx: ours.ActivityContext, name: str) -> str:
    return f"Hello {name}!"


@app.activity
def number(ctx: ours.ActivityContext, value: int) -> int:
    if value < 0:
        raise ValueError("negative")
    return value


@app.orchestration
def sequence(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, list[str]]:
    first = yield ctx.call_activity(hello, input="Tokyo")
    second = yield ctx.call_activity("hello", input="Seattle")
    third = yield ctx.call_activity(hello, "London")
    return [first, second, third]


@app.orchestration
def fan_out(ctx: OrchestrationContext, count: int) -> Generator[Any, Any, int]:
    tasks = [ctx.call_activity(number, input=value) for value in range(count)]
    results: list[int] = yield ours.when_all(tasks)
    assert all(task.is_complete and not task.is_failed for task in tasks)
    assert results == [task.get_result() for task in tasks] == [task.result for task in tasks]
    return sum(results)


@app.orchestration
def approval(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, str]:
    approved = ctx.wait_for_external_event("Approval")
    overdue = ctx.create_timer(ctx.current_utc_datetime + HOUR)
    winner = yield ours.when_any([approved, overdue])
    return "approved" if winner == approved else "overdue"


@app.orchestration
def fails(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, list[str]]:
    policy = ours.RetryPolicy(
        first_retry_interval=HOUR, max_number_of_attempts=2, backoff_coefficient=2.0, max_retry_interval=None, retry_timeout=None
    )  # fmt: skip
    task = ctx.call_activity(number, input=-1, retry_policy=policy)
    try:
        yield task
    except ours.TaskFailedError as error:
        same = error is task.get_exception() and task.is_failed
        return [error.details.type, error.details.message] if same else []
    return []


@app.orchestration
def parent(ctx: OrchestrationContext, count: int) -> Generator[Any, Any, Any]:
    ctx.set_custom_status("calling")
    total = yield ctx.call_sub_orchestrator(fan_out, input=count, instance_id=f"{ctx.instance_id}/child")
    ctx.send_event("nobody", "Approval", data=total)
    again = yield ctx.call_sub_orchestrator("fan_out", count)
    return [total, again, ctx.new_uuid() == ctx.new_uuid()]


def test_generators_written_for_durable_task_run_as_they_are() -> None:
    with run(app) as env:
        assert ["Hello Tokyo!", "Hello Seattle!", "Hello London!"] == env.run(sequence, None)
        assert 45 == env.run(fan_out, 10)
        assert "overdue" == env.run(approval, None)
        approved = env.start(approval, None)
        approved.raise_event("APPROVAL")
        assert "approved" == approved.result()
        assert ["ValueError", "negative"] == env.run(fails, None)
        assert [3, 3, False] == env.run(parent, 3)


@pytest.mark.parametrize("value", [5, None])
def test_an_input_is_given_by_position_or_by_name(value: int | None) -> None:
    both = App()

    @both.activity
    def echo(given: int | None = None) -> int | None:
        return given

    @both.orchestration
    async def child(ctx: OrchestrationContext, given: int | None = None) -> int | None:
        return given

    @both.orchestration
    async def calls(ctx: OrchestrationContext) -> list[int | None]:
        return [
            await ctx.call_activity(echo, value),
            await ctx.call_activity(echo, input=value),
            await ctx.call_activity("echo", value),
            await ctx.call_activity("echo", input=value),
            await ctx.call_sub_orchestrator(child, value),
            await ctx.call_sub_orchestrator(child, input=value),
            await ctx.call_sub_orchestrator("child", value),
            await ctx.call_sub_orchestrator("child", input=value),
        ]

    with run(both) as env:
        assert [value] * 8 == env.run(calls)


if __name__ == "__main__":
    for row in differences():
        print("| " + " | ".join(f"`{cell}`".replace("|", "\\|") for cell in row) + " |  |")
