"""What people are told on stderr while a command waits: that nobody answers, that the instance is held, and that it goes on again.

Rules of this file: each thing is said once, and again only after another; looks go beside a wait and never end it.
"""

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from perdure.client.requests import ListRequest, Started, StartRequest
from perdure.client.transport import Change, Ticket, Transport
from perdure.client.views import Held, View, instance_of
from perdure.errors import HubError, NoAnswer, RequestRefused
from perdure.masking import masked

from .output import note, quoted

# An API that is not there is an error after three.
SILENCE_SECONDS = 4.0
_LOOK_SECONDS = 1.0
_LOOK_SECONDS_MAX = 5.0
_GLANCE_SECONDS = 3.0


@contextmanager
def telling_of_silence() -> Iterator[None]:
    """Say that there is no answer yet, where there is none for a while. Within an asyncio loop."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(SILENCE_SECONDS, note, "[yellow]no answer yet;[/] is a worker running?")
    try:
        yield
    finally:
        timer.cancel()


def held_text(instance_id: str, held: Held, word: str = "held:") -> str:
    """Markup that says why an instance is held, and what may be done."""
    from perdure.actors.executor import TURN_TOO_LONG
    from perdure.partitions.care import POISON

    name = quoted(shlex.quote(instance_id))
    # A name that was decided once stays decided: a worker that has it helps, corrected code only the next instance.
    way_on = "when a worker that knows it runs" if held.kind.startswith("unknown-") else "when corrected code runs"
    if held.kind == POISON:
        way_on = f"after `perdure resume {name}`"
    elif held.kind == TURN_TOO_LONG:  # the machine may have been slow for a while
        way_on += f" or after `perdure resume {name}`"
    return (
        f"[yellow]{word}[/] {quoted(masked(held.reason))}; it goes on {way_on}; "
        f"`perdure terminate {name}` ends it, `perdure purge --force {name}` removes it"
    )


class TellingTransport:
    """`client.transport.Transport` over another one, for a command that asks about one instance after the other."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._told: Held | None = None

    async def open(self, seconds: float) -> None:
        with telling_of_silence():
            await self._inner.open(seconds)

    async def close(self) -> None:
        await self._inner.close()

    async def start(self, request: StartRequest, seconds: float) -> tuple[Started, Ticket | None]:
        with telling_of_silence():
            started, ticket = await self._inner.start(request, seconds)
        self._tell(request.instance_id, started.held)
        return started, ticket

    async def change(self, instance_id: str, change: Change, request_id: str, seconds: float) -> None:
        with telling_of_silence():
            await self._inner.change(instance_id, change, request_id, seconds)

    async def get(self, instance_id: str, seconds: float) -> View:
        with telling_of_silence():
            return await self._inner.get(instance_id, seconds)

    async def history(self, instance_id: str, seconds: float) -> View:
        with telling_of_silence():
            return await self._inner.history(instance_id, seconds)

    async def list(self, request: ListRequest, seconds: float) -> View:
        with telling_of_silence():
            return await self._inner.list(request, seconds)

    async def wait(self, instance_id: str, seconds: float | None, ticket: Ticket | None) -> View | None:
        looks = asyncio.create_task(self._look(instance_id))
        try:
            return await self._inner.wait(instance_id, seconds, ticket)
        finally:
            looks.cancel()
            await asyncio.gather(looks, return_exceptions=True)

    async def _look(self, instance_id: str) -> None:
        """Look at the instance again and again. What is refused, the wait itself will tell."""
        pause, silent, began = _LOOK_SECONDS, False, monotonic()
        answered = False
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_SECONDS_MAX)
            try:
                instance = instance_of(await self._inner.get(instance_id, _GLANCE_SECONDS))
            except RequestRefused:
                return
            except (NoAnswer, HubError) as error:
                # Of an API that was never there the wait itself tells, and ends.
                if silent or not (answered or monotonic() - began >= SILENCE_SECONDS):
                    continue
                note(f"[yellow]still waiting:[/] {quoted(masked(str(error)))}")
                silent = True
                continue
            answered = True
            if silent:
                note("answered again; still waiting")
            silent = False
            if not instance.status.terminal:
                self._tell(instance_id, instance.held)

    def _tell(self, instance_id: str, held: Held | None) -> None:
        if held == self._told:
            return
        note(held_text(instance_id, held) if held is not None else "it goes on again")
        self._told = held
