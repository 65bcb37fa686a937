"""A TCP proxy that is a bad network: it delays, holds, cuts and half-closes what goes through it.

Rules of this file: bytes of one direction of one connection keep their order, and none is lost but with its connection, as with
TCP; it lives on a thread and loop of its own, and any thread may tell it what to do.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

CHUNK_BYTES = 1 << 16


class Way(Enum):
    """A direction: UP to whom the proxy stands before, DOWN to whoever called."""

    UP = "up"
    DOWN = "down"


@dataclass(slots=True, eq=False)
class _Link:
    """One connection through the proxy."""

    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    writers: dict[Way, asyncio.StreamWriter] = field(default_factory=dict)
    dead: set[Way] = field(default_factory=set)


class Proxy:
    """Stands before a port of 127.0.0.1. `counts` says what it did."""

    def __init__(self, target_port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._delay_seconds = 0.0
        self._refusing = False
        self._loop = asyncio.new_event_loop()
        self._open = {way: asyncio.Event() for way in Way}
        for each in self._open.values():
            each.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._link, "127.0.0.1", 0, backlog=200))
        self.port: int = self._server.sockets[0].getsockname()[1]

    # What it can be told, from any thread.

    def delay(self, seconds: float) -> None:
        """What comes from now on arrives so much later; 0: at once."""
        self._delay_seconds = seconds

    def hold(self, *ways: Way) -> None:
        """Nothing goes on in these directions (in both, if none is named), and nobody is told, until `release`."""
        self._tell(lambda: [self._open[way].clear() for way in ways or Way])

    def release(self) -> None:
        """What was held goes on, and what was refused is accepted."""
        self._refusing = False
        self._tell(lambda: [each.set() for each in self._open.values()])

    def cut(self, *, refuse: bool = False) -> None:
        """Reset every connection; `refuse`: and every new one until `release`."""
        self._refusing = refuse
        self._tell(lambda: [self._drop(link) for link in list(self._links)])

    def half_close(self, way: Way) -> None:
        """End one direction of every connection, and leave the other one open."""
        self._tell(lambda: [self._end(link, way) for link in self._links])

    def close(self) -> None:
        if self._thread.is_alive():
            self._tell(lambda: [self._server.close(), *[self._drop(link) for link in list(self._links)]])
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    # On the loop.

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _tell(self, act: Callable[[], Any]) -> None:
        """Do it now, and come back when it is done."""

        async def do() -> None:
            act()

        self._do(do())

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.counts["refused"] += 1
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self.counts["linked"] += 1
        link = _Link(writers={Way.UP: back, Way.DOWN: writer})
        self._links.add(link)
        link.tasks = [
            asyncio.create_task(self._pump(link, Way.UP, reader)),
            asyncio.create_task(self._pump(link, Way.DOWN, there)),
        ]
        await asyncio.wait(link.tasks)
        self._drop(link)

    async def _pump(self, link: _Link, way: Way, reader: asyncio.StreamReader) -> None:
        """Take what comes as it comes, and let it go on when it is due."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.create_task(self._send(link, way, waiting))
        link.tasks.append(sending)
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await waiting.put((self._loop.time() + self._delay_seconds, data))
        await waiting.put((self._loop.time() + self._delay_seconds, b""))
        await sending

    async def _send(self, link: _Link, way: Way, waiting: "asyncio.Queue[tuple[float, bytes]]") -> None:
        writer = link.writers[way]
        while True:
            due, data = await waiting.get()
            if (left := due - self._loop.time()) > 0:
                self.counts["delayed"] += 1
                await asyncio.sleep(left)
            if not self._open[way].is_set():
                self.counts["held"] += 1
                await self._open[way].wait()
            if not data:
                self._end(link, way, counted=False)
                return
            if way not in link.dead:
                with suppress(OSError):
                    writer.write(data)
                    await writer.drain()

    def _end(self, link: _Link, way: Way, *, counted: bool = True) -> None:
        if way in link.dead:
            return
        link.dead.add(way)
        self.counts["half-closed"] += counted
        with suppress(OSError, RuntimeError):
            link.writers[way].write_eof()

    def _drop(self, link: _Link) -> None:
        if link not in self._links:
            return
        self._links.discard(link)
        self.counts["cut"] += not all(task.done() for task in link.tasks)
        for task in link.tasks:
            task.cancel()
        for writer in link.writers.values():
            writer.transport.abort()
