"""The two orchestrations of a scheduled task: the schedule, which lives for ever, and a run.

A schedule does one thing in each execution (obeys a command, runs an occurrence, or sleeps until the next) and continues as
new, so that its history stays short however old it gets. A run is a sub-orchestration with an id of its own, made from the
task and the occurrence, and can be looked up for as long as it is kept.
"""

from dataclasses import replace
from datetime import timedelta

from perdure import ExternalTask, OrchestrationContext, RetryPolicy, TaskFailedError, when_any
from workloads.remote import ModelRefused

from .activities import Delivery, Prompt, app, ask_model, check_task, deliver, plan_ahead
from .planning import Due, PlanRequest
from .schedule import (
    Command,
    CommandKind,
    RunRequest,
    RunResult,
    Schedule,
    encode_status,
    run_instance_id,
    take_command,
    take_run,
)
from .task import RunRecord, RunStatus

__all__ = ["app", "scheduled_run", "scheduled_task"]

COMMAND = "command"

_SHORTLY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1),
    max_number_of_attempts=8,
    backoff_coefficient=2,
    max_retry_interval=timedelta(minutes=1),
)
_FOR_AN_HOUR = RetryPolicy(
    first_retry_interval=timedelta(seconds=5),
    max_number_of_attempts=30,
    backoff_coefficient=2,
    max_retry_interval=timedelta(minutes=5),
    retry_timeout=timedelta(hours=1),
    non_retriable_errors=(ModelRefused,),
)


@app.orchestration
async def scheduled_task(ctx: OrchestrationContext, schedule: Schedule) -> Schedule:
    """Live one step of a schedule. It ends only when it is deleted; its result is then its last state."""
    command = ctx.wait_for_external_event(COMMAND, data_type=Command)
    if schedule.task.enabled:
        schedule = await _run_or_sleep(ctx, schedule, command)
    else:
        ctx.set_custom_status(encode_status(schedule, "paused"))
        await command
    if command.is_complete:
        asked = command.get_result()
        schedule = await _obey(ctx, schedule, asked)
        if asked.kind is CommandKind.DELETE:
            ctx.set_custom_status(encode_status(schedule, "deleted"))
            return schedule
    # Commands that nobody took yet go along.
    ctx.continue_as_new(schedule)
    return schedule


@app.orchestration
async def scheduled_run(ctx: OrchestrationContext, request: RunRequest) -> RunResult:
    """Ask the model and deliver its answer."""
    task = request.task
    ctx.set_custom_status("asking the model")
    text = await ctx.call_activity(ask_model, Prompt(task.prompt, task.model), retry_policy=_FOR_AN_HOUR)
    ctx.set_custom_status("delivering")
    delivery = Delivery(task.owner, task.id, ctx.instance_id, request.scheduled_for, text)
    place = await ctx.call_activity(deliver, delivery, retry_policy=_SHORTLY)
    ctx.set_custom_status("delivered")
    return RunResult(text, place)


async def _run_or_sleep(ctx: OrchestrationContext, schedule: Schedule, command: ExternalTask[Command]) -> Schedule:
    now = ctx.current_utc_datetime
    done_until = schedule.done_until or now
    plan = await ctx.call_activity(plan_ahead, PlanRequest(schedule.task, done_until, now), retry_policy=_SHORTLY)
    schedule = replace(schedule, done_until=done_until, skipped=schedule.skipped + plan.skipped)
    if plan.run:
        # One at a time: what is still owed after it is found again in the next execution, and a command comes in between.
        return await _run(ctx, schedule, plan.run[0])
    ctx.set_custom_status(encode_status(schedule, "waiting", plan.next_at))
    timer = ctx.create_timer(plan.next_at)
    await when_any([timer, command])
    timer.cancel()
    return replace(schedule, done_until=now)


async def _run(ctx: OrchestrationContext, schedule: Schedule, due: Due, *, by_hand: bool = False) -> Schedule:
    ctx.set_custom_status(encode_status(schedule, "running"))
    run_id, started_at = run_instance_id(schedule.task.id, due, by_hand=by_hand), ctx.current_utc_datetime
    try:
        result = await ctx.call_sub_orchestrator(scheduled_run, RunRequest(schedule.task, due.at), instance_id=run_id)
        status, summary = RunStatus.COMPLETED, result.text
    except TaskFailedError as error:
        # A run that fails is remembered; the schedule goes on with the next occurrence.
        status, summary = RunStatus.FAILED, str(error)
    run = RunRecord(run_id, due.at, started_at, ctx.current_utc_datetime, status, due.caught_up, summary)
    return take_run(schedule, run, by_hand=by_hand)


async def _obey(ctx: OrchestrationContext, schedule: Schedule, command: Command) -> Schedule:
    now = ctx.current_utc_datetime
    if command.kind is CommandKind.RUN_NOW:
        return await _run(ctx, schedule, Due(now), by_hand=True)
    problems: tuple[str, ...] = ()
    if command.kind is CommandKind.UPDATE and command.task is not None:
        problems = await ctx.call_activity(check_task, command.task, retry_policy=_SHORTLY)
        if command.task.id != schedule.task.id:
            problems = (*problems, f"the id of a task cannot change, from {schedule.task.id!r} to {command.task.id!r}")
    return take_command(schedule, command, problems, now)
