"""What happens to worker processes and to their group."""

import asyncio
import signal
import threading
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, TopicPartition

from .ground import KafkaGround
from .stage import Fault, Stage

SOJOURN_SECONDS_MAX = 8.0


async def kill_worker(stage: Stage) -> None:
    with stage.take() as worker:
        if worker is not None:
            worker.kill()
            stage.count("worker.killed")
            await stage.pause(0.2, 2.0)
            worker.start()


async def stop_worker(stage: Stage) -> None:
    """A deploy: every worker in turn stops in order and starts again."""
    for each in stage.workers:
        with stage.take(each) as worker:
            if worker is None:
                continue
            worker.ask_to_stop()
            code = await asyncio.to_thread(worker.wait)
            # One that has only begun to start does not know yet what to do when it is asked.
            assert code in (0, -signal.SIGTERM), f"{worker.name} ended with {code}"
            stage.count("worker.stopped", int(code == 0))
            worker.start()
            await stage.pause(0.5, 1.0)


async def scale_out_and_in(stage: Stage) -> None:
    """One more worker comes, has its share for a while, and stops in order."""
    more = stage.ground.worker(f"more-{next(stage.numbers)}")
    more.start()
    await stage.pause(4, 8)
    more.ask_to_stop()
    code = await asyncio.to_thread(more.wait)
    assert code in (0, -signal.SIGTERM), f"{more.name} ended with {code}"
    stage.count("group.scaled", int(code == 0))


async def make_zombie(stage: Stage) -> None:
    """Stop a process's time for longer than its session; it comes back and believes that it owns."""
    with stage.take() as worker:
        if worker is not None:
            worker.freeze()
            await asyncio.sleep(stage.session_seconds * 2 + 1)
            worker.thaw()
            stage.count("worker.zombie")


async def pause_worker(stage: Stage) -> None:
    """The same for less than a session: nobody is to notice."""
    with stage.take() as worker:
        if worker is not None:
            worker.freeze()
            await stage.pause(0.2, 0.6 * stage.session_seconds)
            worker.thaw()
            stage.count("worker.paused")


async def rebalance_often(stage: Stage) -> None:
    """Somebody joins the group and leaves it as soon as it has a share, again and again."""
    for _ in range(round(6 * stage.scale)):
        if await asyncio.to_thread(_stay_a_while, stage.ground):
            stage.count("group.rebalanced")


def _stay_a_while(ground: KafkaGround) -> bool:
    """Be a member; with what it is given it does nothing. True if it came to that."""
    settings = {
        "bootstrap.servers": ground.settings.servers,
        "group.id": ground.settings.hub,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 6_000,
        "enable.auto.commit": False,
        "auto.offset.reset": "latest",
        "log_level": 0,
    }
    member, joined = Consumer(settings), threading.Event()

    def take(consumer: Consumer, given: list[TopicPartition]) -> None:
        joined.set()
        consumer.incremental_assign(given)
        consumer.pause(given)

    member.subscribe([ground.settings.topics.inbox], on_assign=take)
    until = time.monotonic() + SOJOURN_SECONDS_MAX
    while not joined.is_set() and time.monotonic() < until:
        member.poll(0.1)
    member.close()
    return joined.is_set()


OF_WORKERS: Mapping[str, Fault] = {
    "worker.killed": kill_worker,
    "worker.stopped": stop_worker,
    "worker.zombie": make_zombie,
    "worker.paused": pause_worker,
    "group.rebalanced": rebalance_often,
    "group.scaled": scale_out_and_in,
}
