"""The app that is killed: every activity leaves key, attempt and process in a synced file that the engine knows nothing of."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from perdure import ActivityContext, App, OrchestrationContext, when_all

FILE_VARIABLE = "KILL_TEST_EFFECTS"
STEPS = 3
app = App()


def append_effect(ctx: ActivityContext, key: str) -> None:
    """One line, durable before the activity goes on."""
    with Path(os.environ[FILE_VARIABLE]).open("ab", buffering=0) as file:
        file.write(f"{key} {ctx.attempt} {os.getpid()}\n".encode())
        os.fsync(file.fileno())


@app.activity
def plain_step(ctx: ActivityContext, key: str) -> str:
    append_effect(ctx, key)
    time.sleep(0.05)
    return key


@app.activity
async def async_step(ctx: ActivityContext, key: str) -> str:
    append_effect(ctx, key)
    await asyncio.sleep(0.2)
    return key


@app.orchestration
async def leaf(ctx: OrchestrationContext, key: str) -> str:
    return await ctx.call_activity(plain_step, key)


@app.orchestration
async def chain(ctx: OrchestrationContext, name: str) -> list[str]:
    """Steps of every kind, one after another and side by side, with sleeps between."""
    done: list[str] = []
    for step in range(STEPS):
        both = [
            ctx.call_activity(async_step, f"{name}/{step}/async"),
            ctx.call_activity(plain_step, f"{name}/{step}/plain"),
        ]
        done += await when_all(both)
        done.append(await ctx.call_sub_orchestrator(leaf, f"{name}/{step}/leaf"))
        await ctx.create_timer(timedelta(milliseconds=500))
    return done
