"""What a scheduled AI task is, and what is wrong with one that cannot run."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .occurrences import BadSchedule, find_zone, parse_cron

MAX_PROMPT_CHARACTERS = 8_000
MAX_CATCH_UP_RUNS = 100
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Missed(StrEnum):
    """What to do about occurrences that passed while nothing could run them."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CatchUp:
    """An occurrence that runs within `grace_seconds` is on time and always runs; one found later was missed.

    ONCE makes one run for all that were missed together, ALL one for each of the `at_most` latest of them, oldest first.
    """

    missed: Missed = Missed.ONCE
    at_most: int = 5
    grace_seconds: int = 60


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How the model is asked. An empty `name` leaves the choice to the deployment; `instructions` is the system prompt."""

    name: str = ""
    instructions: str = ""
    temperature: float = 0.2
    max_output_tokens: int = 500


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """A prompt that is put to a model whenever `cron` fires on the clocks of `time_zone`."""

    id: str
    owner: str
    prompt: str
    cron: str
    time_zone: str = "UTC"
    catch_up: CatchUp = field(default_factory=CatchUp)
    model: ModelOptions = field(default_factory=ModelOptions)
    enabled: bool = True


class RunStatus(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the schedule remembers it; the run's own instance `run_id` holds all of it."""

    run_id: str
    scheduled_for: datetime
    started_at: datetime
    finished_at: datetime
    status: RunStatus
    caught_up: bool = False
    summary: str = ""


class InvalidTask(ValueError):
    """The task cannot be scheduled; `problems` says all that is wrong with it, one sentence each."""

    def __init__(self, task_id: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"task {task_id!r} cannot be scheduled: {'; '.join(problems)}")
        self.problems = problems


def find_problems(task: ScheduledTask) -> tuple[str, ...]:
    """Return all that keeps `task` from being scheduled, nothing if it can be."""
    return (*_problems_of_text(task), *_problems_of_schedule(task), *_problems_of_options(task))


def validate(task: ScheduledTask) -> ScheduledTask:
    """Return `task`, or raise InvalidTask with everything that is wrong with it."""
    if problems := find_problems(task):
        raise InvalidTask(task.id, problems)
    return task


def _problems_of_text(task: ScheduledTask) -> list[str]:
    problems = []
    if not _ID.fullmatch(task.id):
        problems.append(
            f"id {task.id!r} must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    if not task.owner.strip():
        problems.append("owner is empty; name the person whom the result is for")
    if not task.prompt.strip():
        problems.append("prompt is empty; say what the model is to do")
    if len(task.prompt) > MAX_PROMPT_CHARACTERS:
        problems.append(f"prompt has {len(task.prompt):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are sent")
    return problems


def _problems_of_schedule(task: ScheduledTask) -> list[str]:
    problems = []
    for check in (lambda: parse_cron(task.cron), lambda: find_zone(task.time_zone)):
        try:
            check()
        except BadSchedule as error:
            problems.append(str(error))
    return problems


def _problems_of_options(task: ScheduledTask) -> list[str]:
    problems = []
    if not 1 <= task.catch_up.at_most <= MAX_CATCH_UP_RUNS:
        problems.append(f"catch_up.at_most is {task.catch_up.at_most}; expected 1 to {MAX_CATCH_UP_RUNS} runs")
    if task.catch_up.grace_seconds < 0:
        problems.append(f"catch_up.grace_seconds is {task.catch_up.grace_seconds}; expected 0 or more")
    if not 0 <= task.model.temperature <= 2:
        problems.append(f"model.temperature is {task.model.temperature}; expected 0 to 2")
    if not 1 <= task.model.max_output_tokens <= 32_000:
        problems.append(f"model.max_output_tokens is {task.model.max_output_tokens}; expected 1 to 32,000")
    return problems
