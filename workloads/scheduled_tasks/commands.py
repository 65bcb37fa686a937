"""What its owner does with a scheduled task, through a client: create, look, pause, resume, update, run now, delete."""

import json
from dataclasses import asdict
from typing import Any

from perdure.client import Client, Handle, Instance, StartOptions

from .orchestrations import COMMAND, scheduled_task
from .schedule import Command, CommandKind, Schedule, schedule_instance_id
from .task import ScheduledTask, validate


def create(client: Client, task: ScheduledTask) -> Handle[Schedule]:
    """Begin a schedule. Raises InvalidTask with all that is wrong, and InstanceAlreadyExists."""
    validate(task)
    options = StartOptions(instance_id=schedule_instance_id(task.id), tags={"owner": task.owner})
    return client.start(scheduled_task, Schedule(task), **options)


def update(client: Client, task: ScheduledTask) -> None:
    """Give a schedule its new task. Raises InvalidTask."""
    _send(client, validate(task).id, Command(CommandKind.UPDATE, task))


def pause(client: Client, task_id: str) -> None:
    """Let it run nothing until `resume`; what passes meanwhile is not owed."""
    _send(client, task_id, Command(CommandKind.PAUSE))


def resume(client: Client, task_id: str) -> None:
    _send(client, task_id, Command(CommandKind.RESUME))


def run_now(client: Client, task_id: str) -> None:
    """Run it once, beside its schedule."""
    _send(client, task_id, Command(CommandKind.RUN_NOW))


def delete(client: Client, task_id: str) -> None:
    """End it after what it is doing."""
    _send(client, task_id, Command(CommandKind.DELETE))


def status(client: Client, task_id: str) -> Any:
    """What it does now, when it runs next and its latest runs (`schedule.encode_status`)."""
    return client.instance(schedule_instance_id(task_id)).get().custom_status


def runs(client: Client, task_id: str) -> list[Instance]:
    """Its run history, newest first: one instance for each run."""
    return list(client.list_all(name="scheduled_run", prefix=f"run-{task_id}-"))


def command_value(command: Command) -> Any:
    """A command as JSON has it: what the event carries."""
    return json.loads(json.dumps(asdict(command)))


def _send(client: Client, task_id: str, command: Command) -> None:
    client.instance(schedule_instance_id(task_id)).raise_event(COMMAND, command_value(command))
