"""A client opens its log when it is first needed: once for all who ask, again after a failure, and anew when it was lost."""

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from perdure.client import AsyncClient
from perdure.client.log_transport import LogTransport
from perdure.errors import HubUnavailable
from perdure.partitions.embedded.log import EmbeddedLog
from perdure.partitions.ports import LogUnavailable
from tests.client.hub import echo, running_hub


class Door:
    """Opens a log slowly; closed for the first few times."""

    def __init__(self, hub_log: EmbeddedLog, closed: int = 0) -> None:
        self._hub_log = hub_log
        self._closed = closed
        self.opened: list[EmbeddedLog] = []
        self.tries = 0

    def __call__(self) -> EmbeddedLog:
        self.tries += 1
        time.sleep(0.1)
        if self.tries <= self._closed:
            raise LogUnavailable("the door is closed")
        self.opened.append(self._hub_log.share())
        return self.opened[-1]


def test_many_who_come_at_once_share_one_attempt_and_its_failure(tmp_path: Path) -> None:
    async def ask() -> None:
        with running_hub(tmp_path) as hub:
            door = Door(hub.log, closed=1)
            client = AsyncClient(LogTransport(door))
            outcomes = await asyncio.gather(*(client.list() for _ in range(20)), return_exceptions=True)
            assert [HubUnavailable] * 20 == [type(outcome) for outcome in outcomes]
            assert 1 == door.tries
            handles = await asyncio.gather(*(client.start(echo, number) for number in range(20)))
            assert list(range(20)) == [await handle.result(20) for handle in handles]
            assert 2 == door.tries
            await client.close()

    asyncio.run(ask())


def test_who_gives_up_while_it_is_opened_leaves_it_to_the_others(tmp_path: Path) -> None:
    async def ask() -> None:
        with running_hub(tmp_path) as hub:
            found, door = threading.Event(), Door(hub.log)

            def open_log() -> EmbeddedLog:
                assert found.wait(60)
                return door()

            client = AsyncClient(LogTransport(open_log))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.list(), 0.01)
            found.set()
            assert 0 == len(await client.list())
            assert 1 == door.tries
            await client.close()

    asyncio.run(ask())


def test_the_time_of_a_request_is_over_also_while_the_hub_is_being_found(tmp_path: Path) -> None:
    """The attempt goes on, and serves who comes later."""

    async def ask() -> None:
        with running_hub(tmp_path) as hub:
            found, door = threading.Event(), Door(hub.log)

            def open_log() -> EmbeddedLog:
                assert found.wait(60)
                return door()

            client = AsyncClient(LogTransport(open_log), timeout=0.05)
            handle = client.instance("i")
            for request in (client.open, client.list, handle.get, handle.history, handle.cancel, handle.purge):
                with pytest.raises(HubUnavailable, match=r"the hub was not found within 0\.0\d s"):
                    await request()
            with pytest.raises(HubUnavailable):  # nothing was sent, so nothing is unknown
                await client.start(echo, 1)
            found.set()
            client.timeout = 20.0
            assert 1 == await (await client.start(echo, 1)).result(20)
            assert 1 == door.tries
            await client.close()

    asyncio.run(ask())


def test_a_client_that_is_closed_while_it_looks_for_its_hub_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def ask() -> None:
        with running_hub(tmp_path) as hub:
            found, door = threading.Event(), Door(hub.log)

            def open_log() -> EmbeddedLog:
                assert found.wait(60)
                return door()

            client = AsyncClient(LogTransport(open_log))
            asking = [asyncio.create_task(client.list()), asyncio.create_task(client.open())]
            await asyncio.sleep(0)
            await client.close()
            for each in asking:
                with pytest.raises(HubUnavailable, match="closed"):
                    await each
            found.set()
            # Its thread closes what it found all the same; the client can be used again.
            assert 0 == len(await client.list())
            await client.close()

    asyncio.run(ask())


def test_a_log_that_is_lost_is_opened_anew(tmp_path: Path) -> None:
    async def ask() -> None:
        with running_hub(tmp_path) as hub:
            door = Door(hub.log)
            client = AsyncClient(LogTransport(door))
            assert 1 == await (await client.start(echo, 1)).result(20)

            def fail(_: float) -> None:
                raise LogUnavailable("the replies are gone")

            door.opened[0].wait = fail  # type: ignore[method-assign]
            deadline = time.monotonic() + 20
            while len(door.opened) == 1 and time.monotonic() < deadline:
                with suppress(HubUnavailable):
                    await client.list()
            assert 2 == await (await client.start(echo, 2)).result(20)
            await client.close()

    asyncio.run(ask())


def test_a_wait_that_is_cancelled_can_be_begun_again(tmp_path: Path) -> None:
    async def ask() -> None:
        from tests.client.hub import listen

        with running_hub(tmp_path) as hub:
            async with AsyncClient.over(hub.log.share()) as client:
                handle = await client.start(listen)
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(handle.result(), 0.05)
                await handle.raise_event("go", "there")
                assert "there" == await handle.result(20)

    asyncio.run(ask())
