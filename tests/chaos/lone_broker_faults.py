"""What happens to a broker that is the only one, of a hub that trims its logs: it is killed, and may forget where a log begins."""

import asyncio
import time
from collections.abc import Mapping

from perdure.partitions.kafka.history import TopicReads
from perdure.partitions.ports import LogUnavailable

from .processes import Expected
from .stage import Fault, Stage

TRIMMED_SECONDS_MAX = 40.0
ANSWER_SECONDS_MAX = 60.0


async def move_start_back(stage: Stage) -> None:
    """The start of a log is written down once a minute; a broker that is killed in between finds an older one."""
    if stage.broker is None:
        return
    before = await asyncio.to_thread(_wait_for_trims, stage)
    async with stage.rolling:
        await asyncio.to_thread(stage.broker.kill)
        stage.count("broker.killed")
        await stage.pause(0.2, 2.0)
        await asyncio.to_thread(stage.broker.start)
    after = await asyncio.to_thread(_starts, stage)
    moved = sum(after[partition] < start for partition, start in before.items())
    if moved:
        stage.count("broker.start-moved-back", moved)


def _wait_for_trims(stage: Stage) -> Mapping[int, int]:
    until = time.monotonic() + TRIMMED_SECONDS_MAX
    while not any((starts := _starts(stage)).values()) and time.monotonic() < until:
        time.sleep(0.2)
    return starts


def _starts(stage: Stage) -> Mapping[int, int]:
    """Where the history of each partition begins."""
    reads, topic = TopicReads(stage.ground.settings), stage.ground.settings.topics.history
    until = time.monotonic() + ANSWER_SECONDS_MAX
    try:
        while True:
            try:
                return {each: reads.span(topic, each).start for each in range(stage.ground.terms.partitions)}
            except LogUnavailable:  # a broker that has just come back leads nothing yet
                if time.monotonic() > until:
                    raise
    finally:
        reads.close()


OF_LONE_BROKERS: Mapping[str, Fault] = {"broker.start-moved-back": move_start_back}
_AWAY = {r"FAIL .*": "", r"partition\.checkpoint_late|hub\.unavailable": ""}
EXPECTED: Mapping[str, Expected] = {"broker.killed": _AWAY}
"""What this makes a process cry at error level."""
