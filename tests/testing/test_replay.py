"""A saved history is replayed against today's code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import App, OrchestrationContext
from perdure.testing import ReplayFailed, replay, run


def shop(*, price: int, ask_twice: bool = False) -> App:
    app = App()

    @app.activity
    def charge(amount: int) -> int:
        return amount

    @app.orchestration
    async def order(ctx: OrchestrationContext, items: int) -> int:
        total = await ctx.call_activity(charge, items * price)
        if ask_twice:
            total += await ctx.call_activity(charge, 1)
        return total

    return app


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A history as `perdure history ID --json` saves it."""
    with run(shop(price=5)) as env:
        handle = env.start("order", 3)
        assert 15 == handle.result()
        file = tmp_path / "order.json"
        file.write_text(json.dumps(handle.history().as_json()))
    return file


def test_the_same_code_passes(saved: Path) -> None:
    replay(shop(price=5), saved)
    replay(shop(price=5), json.loads(saved.read_text()))


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (lambda: shop(price=6), "18"),
        (lambda: shop(price=5, ask_twice=True), "charge"),
        (App, "no orchestration 'order'"),
    ],
)
def test_code_that_decides_otherwise_is_told_where(saved: Path, app: Callable[[], App], expected: str) -> None:
    with pytest.raises(ReplayFailed, match=rf"offset \d+: .*{expected}") as caught:
        replay(app(), saved)
    assert 1 == len(caught.value.findings)


def test_numbers_of_any_size_replay_as_they_were(tmp_path: Path) -> None:
    app = App()

    @app.orchestration
    async def count(ctx: OrchestrationContext, number: int) -> int:
        ctx.set_custom_status(str(number))
        return number + 1

    with run(app) as env:
        handle = env.start(count, 2**70)
        assert 2**70 + 1 == handle.result()
        (tmp_path / "count.json").write_text(json.dumps(handle.history().as_json()))

    replay(app, tmp_path / "count.json")


@pytest.mark.parametrize("content", [{}, {"turns": []}, [1]])
def test_what_is_no_history_is_refused(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "other.json"
    for text in (json.dumps(content), "no JSON"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"other\.json is no history as `perdure history ID --json` saves it"):
            replay(App(), file)


@pytest.mark.parametrize("kept", [slice(1, None), slice(0, 0)])
def test_a_history_without_its_beginning_is_refused(saved: Path, kept: slice) -> None:
    """There would be nothing to replay, and nothing found."""
    history = json.loads(saved.read_text())
    history["turns"] = history["turns"][kept]

    with pytest.raises(ValueError, match="no whole history: there is no ExecutionStarted in its first turn"):
        replay(App(), history)


@pytest.mark.parametrize("last", [3, 4])
def test_the_history_of_an_instance_that_continued_as_new_replays(last: int) -> None:
    """It begins within the turn that ended the execution before."""

    def counter(until: int) -> App:
        app = App()

        @app.orchestration
        async def count(ctx: OrchestrationContext, number: int) -> int:
            number += await ctx.wait_for_external_event("add", data_type=int)
            if number < until:
                ctx.continue_as_new(number)
            return number

        return app

    with run(counter(3)) as env:
        handle = env.start("count", 0)
        for _ in range(3):
            handle.raise_event("add", 1)
        assert 3 == handle.result()
        history = handle.history().as_json()

    if last == 3:
        replay(counter(last), history)
    else:
        with pytest.raises(ReplayFailed):
            replay(counter(last), history)


def test_a_list_in_another_order_is_another_input_and_a_set_never_is() -> None:
    def packs(*items: str) -> App:
        app = App()

        @app.activity
        def pack(items: list[str]) -> int:
            return len(items)

        @app.activity
        def label(items: set[str]) -> int:
            return len(items)

        @app.orchestration
        async def order(ctx: OrchestrationContext) -> int:
            await ctx.call_activity(label, set(items))
            return await ctx.call_activity(pack, list(items))

        return app

    with run(packs("hat", "coat")) as env:
        history = env.start("order").history().as_json()

    replay(packs("hat", "coat"), history)
    with pytest.raises(ReplayFailed, match=r"TaskScheduled #2 'pack' with input"):
        replay(packs("coat", "hat"), history)
