"""A send that no record can hold keeps nobody waiting: neither its sender, nor all that is sent after it."""

from collections.abc import Iterator

import pytest

from perdure import App, OrchestrationContext, TaskFailedError
from perdure.partitions.partitioner import partition_of
from perdure.testing import Environment, run

PARTITIONS = 2
RECORD_BYTES_MAX = 3_000
app = App()


@app.orchestration
async def size_of(ctx: OrchestrationContext, text: str) -> int:
    return len(text)


@app.orchestration
async def text_of(ctx: OrchestrationContext, size: int) -> str:
    return "x" * size


@app.orchestration
async def listen(ctx: OrchestrationContext) -> str:
    got: str = await ctx.wait_for_external_event("go")
    return got


@app.orchestration
async def ask(ctx: OrchestrationContext, wanted: list[object]) -> list[object]:
    """A child elsewhere with too much, then one with little."""
    name, given, little = wanted
    outcomes: list[object] = []
    for value in (given, little):
        child = other_side_of(ctx.instance_id, f"{name}-{len(outcomes)}")
        try:
            outcomes.append(await ctx.call_sub_orchestrator(str(name), value, instance_id=child))
        except TaskFailedError as error:
            outcomes.append(error.failure.type)
    return outcomes


@app.orchestration
async def tell(ctx: OrchestrationContext, to: str) -> None:
    ctx.send_event(to, "go", data="x" * 2 * RECORD_BYTES_MAX)
    ctx.send_event(to, "go", data="a word")


def other_side_of(instance_id: str, prefix: str) -> str:
    """An id on the other partition."""
    home = partition_of(instance_id, PARTITIONS)
    return next(name for number in range(99) if partition_of(name := f"{prefix}-{number}", PARTITIONS) != home)


@pytest.fixture
def env() -> Iterator[Environment]:
    with run(app, partitions=PARTITIONS) as env:
        env.hub._log.record_bytes_max = RECORD_BYTES_MAX
        yield env


def dead_letters(env: Environment) -> list[dict[str, bytes]]:
    records = env.hub._log._hub.journal("dead-letter", 0).read_some(0, 100)
    return [dict(record.headers) for record in records]


def test_a_child_that_cannot_be_started_fails_and_the_next_one_runs(env: Environment) -> None:
    assert ["MessageTooLarge", 4] == env.run(ask, ["size_of", "x" * 2 * RECORD_BYTES_MAX, "four"])
    (letter,) = dead_letters(env)
    assert b"at most 3000 can be sent" in letter["perdure-reason"]


def test_a_childs_result_that_cannot_be_told_fails_at_its_parent(env: Environment) -> None:
    assert ["MessageTooLarge", "xx"] == env.run(ask, ["text_of", 2 * RECORD_BYTES_MAX, 2])


def test_an_event_that_cannot_be_sent_is_a_dead_letter_and_the_next_one_comes(env: Environment) -> None:
    listening = env.start(listen)
    env.run(tell, listening.id, instance_id=other_side_of(listening.id, "teller"))

    assert "a word" == listening.result()
    assert [listening.id.encode()] == [letter["perdure-instance"] for letter in dead_letters(env)]
