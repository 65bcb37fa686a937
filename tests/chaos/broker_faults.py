"""What happens to brokers, of which there are three."""

import asyncio
from collections.abc import Mapping

from .processes import Expected
from .stage import Fault, Stage


async def kill_leader(stage: Stage) -> None:
    brokers, ground = stage.brokers, stage.ground
    if brokers is not None:
        async with stage.rolling:
            partition = stage.dice.randrange(ground.terms.partitions)
            node = await asyncio.to_thread(brokers.leader_of, ground.settings.topics.history, partition)
            await asyncio.to_thread(node.kill)
            stage.count("broker.leader-killed")
            await stage.pause(2, 4)
            await _come_back(stage)


async def take_two_away(stage: Stage) -> None:
    """Two of three are gone: no append is acknowledged until one is back."""
    if stage.brokers is not None:
        async with stage.rolling:
            for node in stage.dice.sample(stage.brokers.nodes, 2):
                await asyncio.to_thread(node.kill)
            stage.count("broker.two-away")
            await stage.pause(3, 5)
            await _come_back(stage)


async def roll_brokers(stage: Stage) -> None:
    if stage.brokers is not None:
        async with stage.rolling:
            for node in stage.brokers.nodes:
                await asyncio.to_thread(node.pause)
                stage.count("broker.restarted")
                await _come_back(stage)


async def take_one_away(stage: Stage) -> None:
    """One of three is away for long; two are enough."""
    if stage.brokers is not None:
        async with stage.rolling:
            node = stage.dice.choice(stage.brokers.nodes)
            await asyncio.to_thread(node.kill)
            stage.count("broker.one-away")
            await asyncio.sleep(15 * stage.scale)
            await _come_back(stage)


async def freeze_broker(stage: Stage) -> None:
    """A broker holds its connections and answers nothing."""
    if stage.brokers is not None:
        async with stage.rolling:
            node = stage.dice.choice(stage.brokers.nodes)
            node.freeze()
            await stage.pause(4, 6)
            node.thaw()
            stage.count("broker.frozen")
            await _come_back(stage)


async def _come_back(stage: Stage) -> None:
    assert stage.brokers is not None
    topics = stage.ground.settings.topics
    await asyncio.to_thread(stage.brokers.start)
    await asyncio.to_thread(stage.brokers.await_in_sync, [topics.history, topics.inbox])


OF_BROKERS: Mapping[str, Fault] = {
    "broker.leader-killed": kill_leader,
    "broker.two-away": take_two_away,
    "broker.restarted": roll_brokers,
    "broker.one-away": take_one_away,
    "broker.frozen": freeze_broker,
}
_AWAY = {r"FAIL .*": "", r"partition\.checkpoint_late|hub\.unavailable": ""}
EXPECTED: Mapping[str, Expected] = dict.fromkeys(OF_BROKERS, _AWAY)
"""What these make a process cry at error level: the client's own complaints, and that no checkpoint could be appended."""
