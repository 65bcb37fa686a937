"""What happens to the state directories of workers, between two lives of theirs or under one."""

import asyncio
import re
from collections.abc import Mapping

from .disks import damage, lose
from .processes import Expected, Worker
from .stage import Fault, Stage

# A store is written once a checkpoint is due, and its process may just be starting.
FELT_SECONDS_MAX = 30.0
_FULL = r"cannot be used|cannot use|No space left|IO error|StoreUnavailable|StoreCorrupt"


async def lose_disk(stage: Stage) -> None:
    with stage.take() as worker:
        if worker is not None:
            worker.kill()
            if lose(worker.directory):
                stage.count("disk.lost")
            worker.start()


def damaged(name: str, pattern: str, *, truncate: bool = False) -> Fault:
    """Bits are flipped in all files of a kind, or they are cut short, between two lives."""

    async def act(stage: Stage) -> None:
        with stage.take() as worker:
            if worker is not None:
                worker.kill()
                if damage(worker.directory, pattern, stage.dice, truncate=truncate):
                    stage.count(name)
                worker.start()

    return act


async def swap_disks(stage: Stage) -> None:
    """Two workers get each other's directory, as where volumes are mounted wrongly: stores of other partitions, or stale ones."""
    one, other = [worker for worker in stage.workers if not _has_disk(stage, worker)][:2]
    with stage.take(one) as first, stage.take(other) as second:
        if first is None or second is None:
            return
        for worker in (one, other):
            worker.kill()
        between = one.directory.with_suffix(".between")
        one.directory.rename(between)
        other.directory.rename(one.directory)
        between.rename(other.directory)
        stage.count("disk.swapped")
        for worker in (one, other):
            worker.start()


def _has_disk(stage: Stage, worker: Worker) -> bool:
    return stage.disk is not None and stage.disk.directory == worker.directory


async def fill_disk(stage: Stage) -> None:
    """It is full until the process that has it says so, and for a while after that."""
    disk = stage.disk
    if disk is None:
        return
    (worker,) = (each for each in stage.workers if _has_disk(stage, each))
    before = len(worker.said())
    disk.fill()
    for _ in range(round(FELT_SECONDS_MAX / 0.2)):
        await asyncio.sleep(0.2)
        if re.search(_FULL, worker.said()[before:]):
            stage.count("disk.full")
            await asyncio.sleep(2)
            break
    disk.clear()


async def forbid_writes(stage: Stage) -> None:
    """A process that may not write its directory refuses to start, and says so; the others have its share."""
    disk = stage.disk
    with stage.take(*[each for each in stage.workers if _has_disk(stage, each)]) as worker:
        if disk is None or worker is None:
            return
        worker.kill()
        if disk.make_read_only():
            worker.start()
            code = await asyncio.to_thread(worker.wait, 30)
            disk.make_writable()
            assert code not in (0, None), f"{worker.name} works on a disk that it cannot write: {code}"
            stage.count("disk.read-only")
        worker.start()


OF_DISKS: Mapping[str, Fault] = {
    "disk.lost": lose_disk,
    "disk.sst-flipped": damaged("disk.sst-flipped", "*.sst"),
    "disk.manifest-flipped": damaged("disk.manifest-flipped", "MANIFEST-*"),
    "disk.current-flipped": damaged("disk.current-flipped", "CURRENT"),
    "disk.sst-truncated": damaged("disk.sst-truncated", "*.sst", truncate=True),
    "disk.manifest-truncated": damaged("disk.manifest-truncated", "MANIFEST-*", truncate=True),
    "disk.swapped": swap_disks,
}
OF_SMALL_DISKS: Mapping[str, Fault] = {"disk.full": fill_disk, "disk.read-only": forbid_writes}
EXPECTED: Mapping[str, Expected] = {
    "disk.full": {r"partition\.closed|partition\.crashed|partition\.close_failed|store\.discard_failed": _FULL},
    "disk.read-only": {r"worker\.refused": "Read-only file system"},
}
"""What these make a process cry at error level."""
