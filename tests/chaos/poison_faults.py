"""What comes from within: code that kills its process, beside healthy instances that are to keep their pace."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from perdure.client import AsyncClient, AsyncHandle
from perdure.client.requests import Status
from perdure.errors import StartUnknown

from .stage import Fault, Stage

PROBES = 40
PROBE_SECONDS = 0.2
PACE_SECONDS_MAX = 2.0
"""In the median: 0.02 s where nothing else is wrong; who meets a take-over waits for its end."""


async def kill_by_code(stage: Stage) -> None:
    """An orchestration that kills whoever decides for it is held in the end; an operator terminates it."""
    async with _client(stage) as client:
        async with stage.deadly():
            handle = await _start(client, "killer", f"killer-{next(stage.numbers)}", None)
            async with asyncio.timeout(120):
                while not (await handle.get()).held:
                    await asyncio.sleep(0.2)
        await handle.terminate("it kills")
        assert (await handle.wait(60)).status is Status.TERMINATED
    stage.count("poison.orchestration")


async def kill_by_activity(stage: Stage) -> None:
    """An activity that kills its process fails in the end, and its orchestration hears of it."""
    async with _client(stage) as client, stage.deadly():
        handle = await _start(client, "victim", f"victim-{next(stage.numbers)}", None)
        assert await handle.result(120) == "ActivityCrashed"
    stage.count("poison.activity")


async def look_on(stage: Stage) -> None:
    """Healthy instances all over the hub, one after the other; how long each took is kept."""
    async with _client(stage) as client:
        for _ in range(PROBES):
            began = time.monotonic()
            handle = await _start(client, "count", f"probe-{next(stage.numbers)}", [1, 2])
            assert await handle.result(120) == 3
            stage.probes.append(time.monotonic() - began)
            await asyncio.sleep(PROBE_SECONDS)
    pace = sorted(stage.probes)
    print(
        f"  {len(pace)} healthy instances beside: median {pace[len(pace) // 2]:.2f} s, slowest {pace[-1]:.2f} s",
        flush=True,
    )
    assert pace[len(pace) // 2] < PACE_SECONDS_MAX, (
        f"healthy instances take {pace[len(pace) // 2]:.2f} s beside killers"
    )
    stage.count("poison.beside")


@asynccontextmanager
async def _client(stage: Stage) -> AsyncIterator[AsyncClient]:
    settings = stage.ground.settings
    async with AsyncClient.kafka(settings.hub, settings.servers) as client:
        yield client


async def _start(client: AsyncClient, orchestration: str, name: str, value: Any) -> AsyncHandle[Any]:
    while True:
        try:
            return await client.start(orchestration, value, instance_id=name, request_id=f"{name}/start")
        except StartUnknown:
            continue


OF_CODE: Mapping[str, Fault] = {"poison.orchestration": kill_by_code, "poison.activity": kill_by_activity}
BESIDE: Mapping[str, Fault] = {"poison.beside": look_on}
