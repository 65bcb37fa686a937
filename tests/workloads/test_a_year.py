"""A scheduled task through a year of mornings in virtual time, over both clock changes, with all that its owner may do to it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from perdure.schemas.events import Status
from perdure.testing import Environment, EnvironmentHandle
from tests.workloads.models import model_server
from workloads.remote import ModelRefused
from workloads.scheduled_tasks.activities import app, ask_model, deliver
from workloads.scheduled_tasks.commands import command_value
from workloads.scheduled_tasks.orchestrations import COMMAND, scheduled_task
from workloads.scheduled_tasks.schedule import Command, CommandKind, Schedule, schedule_instance_id
from workloads.scheduled_tasks.task import CatchUp, Missed, ScheduledTask

BERLIN = ZoneInfo("Europe/Berlin")
MORNING = ScheduledTask("news", "ada", "What is new in asyncio?", "0 7 * * *", "Europe/Berlin")
DAY = timedelta(days=1)


@pytest.fixture
def env(perdure_env: Callable[..., Environment]) -> Environment:
    env = perdure_env(app, now=datetime(2026, 1, 1, tzinfo=UTC))
    env.fake(ask_model, lambda prompt: f"news for {prompt.text}")
    env.fake(deliver, lambda delivery: f"mail/{delivery.run_id}")
    return env


def begin(env: Environment, task: ScheduledTask = MORNING) -> EnvironmentHandle[Schedule]:
    return env.start(scheduled_task, Schedule(task), instance_id=schedule_instance_id(task.id))


def status(handle: EnvironmentHandle[Any]) -> dict[str, Any]:
    shown: dict[str, Any] = handle.get().custom_status
    return shown


def test_a_year_of_mornings(env: Environment) -> None:
    told: list[datetime] = []
    env.fake(deliver, lambda delivery: told.append(env.now) or "mail")
    begin(env)
    env.advance(365 * DAY)

    assert [date(2026, 1, 1) + n * DAY for n in range(365)] == [moment.astimezone(BERLIN).date() for moment in told]
    assert {(7, 0, 0)} == {(local.hour, local.minute, local.second) for local in (t.astimezone(BERLIN) for t in told)}
    # Both clock changes are in it: seven o'clock is at six or at five by UTC.
    assert {5, 6} == {moment.hour for moment in told}
    assert [(2026, 3, 29), (2026, 10, 25)] == [
        (moment.year, moment.month, moment.day) for before, moment in pairwise(told) if moment - before != DAY
    ]


def test_each_run_is_an_instance_and_the_schedule_remembers_the_last_ones(env: Environment) -> None:
    handle = begin(env)
    env.advance(30 * DAY)

    assert ("waiting", 30, 0) == (status(handle)["doing"], status(handle)["completed"], status(handle)["failed"])
    assert 20 == len(status(handle)["runs"])
    runs = env.list(name="scheduled_run", status="COMPLETED", limit=1000)
    assert 30 == len(runs)
    assert handle.get().generation > 30


def test_its_owner_pauses_resumes_updates_runs_and_deletes_it(env: Environment) -> None:
    handle = begin(env)
    env.advance(2 * DAY)
    handle.raise_event(COMMAND, command_value(Command(CommandKind.PAUSE)))
    env.advance(10 * DAY)
    assert ("paused", 2) == (status(handle)["doing"], status(handle)["completed"])

    handle.raise_event(COMMAND, command_value(Command(CommandKind.RESUME)))
    env.advance(DAY)
    assert 3 == status(handle)["completed"]

    handle.raise_event(COMMAND, command_value(Command(CommandKind.UPDATE, replace(MORNING, cron="0 7 * * 1"))))
    env.advance(7 * DAY)
    assert 4 == status(handle)["completed"]
    handle.raise_event(COMMAND, command_value(Command(CommandKind.UPDATE, replace(MORNING, cron="nonsense"))))
    assert "expected five" in status(handle)["refused"]

    handle.raise_event(COMMAND, command_value(Command(CommandKind.RUN_NOW)))
    assert 5 == status(handle)["completed"]
    handle.raise_event(COMMAND, command_value(Command(CommandKind.DELETE)))
    assert 5 == handle.result().completed
    assert Status.COMPLETED == handle.get().status


@pytest.mark.parametrize(("missed", "runs"), [(Missed.SKIP, 0), (Missed.ONCE, 1), (Missed.ALL, 3)])
def test_an_outage_is_caught_up_as_its_policy_says(env: Environment, missed: Missed, runs: int) -> None:
    handle = begin(env, replace(MORNING, catch_up=CatchUp(missed, at_most=3)))
    env.advance(2 * DAY)
    assert 2 == status(handle)["completed"]

    # Five days in which no worker runs.
    env.hub.clock.pass_until(env.hub.clock.wall_ms() + 5 * 86_400_000)
    env.advance(timedelta(minutes=1))

    assert 2 + runs == status(handle)["completed"]
    assert 5 - runs == status(handle)["skipped"]


def test_a_model_that_is_away_is_asked_again_and_one_that_refuses_is_not(env: Environment) -> None:
    answers = iter([OSError("away"), OSError("away"), "good morning", ModelRefused("not this")])

    def answer(prompt: Any) -> str:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    asked = env.fake(ask_model, answer)
    handle = begin(env)
    env.advance(2 * DAY)

    assert 4 == len(asked.calls)
    assert ["completed", "failed"] == [run["status"] for run in status(handle)["runs"]]
    assert ["not this" in status(handle)["runs"][1]["summary"], 1, 1] == [
        True,
        status(handle)["completed"],
        status(handle)["failed"],
    ]


def test_a_run_asks_the_endpoint_that_is_set_and_delivers_its_answer(
    perdure_env: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PERDURE_RESULTS", str(tmp_path))
    env = perdure_env(app, now=datetime(2026, 1, 1, tzinfo=UTC))
    with model_server() as server:
        monkeypatch.setenv("PERDURE_MODEL_URL", server.url)
        monkeypatch.setenv("PERDURE_MODEL_KEY", "secret")
        server.troubles = [503]
        handle = begin(env)
        env.advance(DAY)

    (delivered,) = (tmp_path / "ada").iterdir()
    assert "You said: What is new in asyncio?" == json.loads(delivered.read_bytes())["answer"]
    assert ("completed", "You said: What is new in asyncio?") == (
        status(handle)["runs"][0]["status"],
        status(handle)["runs"][0]["summary"],
    )
    keys = [headers["idempotency-key"] for _, headers, _ in server.asked]
    assert 2 == len(keys)
    assert keys[0] == keys[1], "a repeated call has the key of the first"
