"""What a scheduled task does outside the log: take stock of the calendar, ask a model, deliver the answer."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from perdure import ActivityContext, App
from workloads.files import replace_file

from .language_models import configured_model
from .planning import Plan, PlanRequest, take_stock
from .task import ModelOptions, ScheduledTask, find_problems

app = App()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked."""

    text: str
    options: ModelOptions


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer on its way to its owner."""

    owner: str
    task_id: str
    run_id: str
    scheduled_for: datetime
    text: str


@app.activity
def plan_ahead(request: PlanRequest) -> Plan:
    """Take stock of a schedule; an activity, so that a new time zone database cannot change what history says."""
    return take_stock(request)


@app.activity
def check_task(task: ScheduledTask) -> tuple[str, ...]:
    """Say what is wrong with a task; an activity for the same reason."""
    return find_problems(task)


@app.activity
async def ask_model(ctx: ActivityContext, prompt: Prompt) -> str:
    """Put the prompt to the configured model. A model that knows idempotency keys bills a repeated call once."""
    return await configured_model().answer(prompt.text, prompt.options, ctx.idempotency_key)


@app.activity
def deliver(delivery: Delivery) -> str:
    """Write the answer into its owner's folder under PERDURE_RESULTS; again, the same file with the same words."""
    folder = Path(os.environ.get("PERDURE_RESULTS", "build/results")) / quote(delivery.owner, safe="@ ")
    path = folder / f"{delivery.run_id}.json"
    answer = {
        "task": delivery.task_id,
        "run": delivery.run_id,
        "scheduled_for": delivery.scheduled_for.astimezone(UTC).isoformat(),
        "answer": delivery.text,
    }
    replace_file(path, json.dumps(answer, ensure_ascii=False, indent=1).encode())
    return str(path)
