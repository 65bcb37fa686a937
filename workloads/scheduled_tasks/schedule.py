"""A schedule's state between two of its steps, and what commands and runs make of it. Pure; the orchestration carries it."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .planning import Due
from .task import RunRecord, RunStatus, ScheduledTask

RUNS_KEPT = 20
SUMMARY_CHARACTERS = 200


class CommandKind(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    UPDATE = "update"
    RUN_NOW = "run_now"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Command:
    """What its owner wants of a schedule. All commands are one kind of event, so that they are obeyed in the order given."""

    kind: CommandKind
    task: ScheduledTask | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """All occurrences up to `done_until` are dealt with; None until the first step. `runs` are the latest, oldest first."""

    task: ScheduledTask
    done_until: datetime | None = None
    runs: tuple[RunRecord, ...] = ()
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What one run needs to know."""

    task: ScheduledTask
    scheduled_for: datetime


@dataclass(frozen=True, slots=True)
class RunResult:
    """The model's whole answer, and where it was delivered."""

    text: str
    delivered_to: str


def schedule_instance_id(task_id: str) -> str:
    return f"schedule-{task_id}"


def run_instance_id(task_id: str, due: Due, *, by_hand: bool = False) -> str:
    """The id of the run for an occurrence: always the same, so that an occurrence cannot run twice."""
    return f"run-{task_id}-{'by-hand-' if by_hand else ''}{due.at.astimezone(UTC):%Y%m%dT%H%M%S}Z"


def take_run(schedule: Schedule, run: RunRecord, *, by_hand: bool = False) -> Schedule:
    """Remember a run. One by hand leaves the occurrences alone."""
    done = run.status is RunStatus.COMPLETED
    return replace(
        schedule,
        done_until=schedule.done_until if by_hand else run.scheduled_for,
        runs=(*schedule.runs, replace(run, summary=run.summary[:SUMMARY_CHARACTERS]))[-RUNS_KEPT:],
        completed=schedule.completed + done,
        failed=schedule.failed + (not done),
    )


def take_command(schedule: Schedule, command: Command, problems: tuple[str, ...], now: datetime) -> Schedule:
    """Obey a command that changes the schedule. What passed while it was paused, or under its old cron, is not owed."""
    match command.kind:
        case CommandKind.PAUSE:
            return replace(schedule, task=replace(schedule.task, enabled=False))
        case CommandKind.RESUME:
            return replace(schedule, task=replace(schedule.task, enabled=True), done_until=now)
        case CommandKind.UPDATE if command.task is not None and not problems:
            return replace(schedule, task=command.task, done_until=now, refused="")
        case CommandKind.UPDATE:
            return replace(schedule, refused="; ".join(problems) or "an update must carry the new task")
        case CommandKind.RUN_NOW | CommandKind.DELETE:
            return schedule


def encode_status(schedule: Schedule, doing: str, next_at: datetime | None = None) -> dict[str, Any]:
    """Return what anyone may read of a schedule while it lives, as JSON."""
    status: dict[str, Any] = json.loads(
        json.dumps(
            {
                "doing": doing,
                "task": asdict(schedule.task),
                "next_at": next_at,
                "completed": schedule.completed,
                "failed": schedule.failed,
                "skipped": schedule.skipped,
                "refused": schedule.refused,
                "runs": [asdict(run) for run in schedule.runs],
            },
            default=_text,
        )
    )
    return status


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
