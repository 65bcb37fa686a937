"""A flooded inbox over slow activities: what is in memory stays bounded, and all of it is worked off without a hand from outside."""

import asyncio
from collections.abc import Mapping

import orjson

from perdure.partitions.partitioner import partition_of
from tests.simulation.plans import job_of

from .processes import Expected
from .stage import Fault, Stage

STARTS = 2_500
START_BYTES = 24_000
RESIDENT_BYTES_MAX = 700 * 2**20
"""For each process, flood after flood: Python, RocksDB's and the client's own buffers, and no more of it than a bounded part. Five
floods of 57 MB in a row left 340 to 420 MB."""
LOOK_SECONDS = 0.2


async def flood(stage: Stage) -> None:
    """Starts come faster than activities run, from a producer that nobody holds back."""
    ground, number = stage.ground, next(stage.numbers)
    peaks = {worker.name: 0 for worker in stage.workers}

    async def look() -> None:
        while True:
            for worker in stage.workers:
                peaks[worker.name] = max(peaks[worker.name], worker.resident_bytes())
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(look())
    names = [f"flood-{number}-{each}" for each in range(STARTS)]
    job = {**job_of([["call", 1], ["call", 2]]), "filling": "x" * START_BYTES}
    for name in names:
        start = {"start": "program", "id": name, "input": job, "request_id": f"{name}/start"}
        ground.publish(partition_of(name, ground.terms.partitions), name, orjson.dumps(start))
        if len(ground.producer) > 500:
            await asyncio.sleep(0.01)
    stage.count("inbox.flooded")
    while (await stage.load.unfinished()) != []:
        await asyncio.sleep(0.5)
    looking.cancel()
    told = ", ".join(f"{name} {size >> 20} MB" for name, size in peaks.items())
    print(f"  {STARTS} starts of {STARTS * START_BYTES >> 20} MB; resident at most {told}", flush=True)
    assert max(peaks.values()) < RESIDENT_BYTES_MAX, told
    stage.count("inbox.worked-off")


OF_FLOODS: Mapping[str, Fault] = {"inbox.worked-off": flood}
EXPECTED: Mapping[str, Expected] = {"inbox.flooded": {r"partition\.checkpoint_late": ""}}
"""What this makes a process cry at error level."""
