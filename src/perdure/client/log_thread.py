"""The log of a client: opened, waited on and closed by one thread, while all else is on the client's loop.

Rules of this file: who comes while it is being opened shares the attempt and its failure, and waits no longer than there is time; an
attempt that nobody waits for goes on for those who come later.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from perdure.errors import HubError, HubMissing, HubRefused, HubUnavailable
from perdure.partitions.ports import Log, ReplyReader
from perdure.schemas.codec import WireError, decode_reply
from perdure.schemas.messages import Reply, ReplyTo

from .hubs import open_errors

_log = structlog.get_logger("perdure.client")
_TAKE_SECONDS = 0.1
# Whoever asks again so soon is told the same.
_SEEN_SECONDS = 1.0
CLOSED = "the client was closed meanwhile"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """What there is while the log is open."""

    log: Log
    loop: asyncio.AbstractEventLoop
    reply_to: ReplyTo

    @property
    def partition_count(self) -> int:
        return self.log.identity.partition_count


class LogThread:
    """`take` is called on the loop with what comes for the client; `give_up` when the log is lost, which the next caller of `opened`
    opens anew. `until` is always a time of the loop."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        client_id: str,
        take: Callable[[Sequence[Reply]], None],
        give_up: Callable[[HubError], None],
    ) -> None:
        self._open_log = open_log
        self._client_id = client_id
        self._take = take
        self._give_up = give_up
        self._opening: asyncio.Task[OpenedLog] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._open: OpenedLog | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._seen_at = 0.0

    async def opened(self, until: float) -> OpenedLog:
        """The open log. Raises HubError."""
        if self._open is not None:
            return self._open
        if self._opening is None:
            self._opening = asyncio.create_task(self._start())
            self._opening.add_done_callback(self._end_opening)
        return await _within(self._opening, until, "was not found")

    async def check(self, until: float) -> None:
        """Open the log, or ask the brokers whether the hub is still there. Raises HubError."""
        opened = await self.opened(until)
        if opened.loop.time() - self._seen_at < _SEEN_SECONDS:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(opened))
            self._looking.add_done_callback(self._end_looking)
        await _within(self._looking, until, "did not answer")

    async def close(self) -> None:
        """Let the log go. One that is still being opened is closed by its thread, for which nobody waits."""
        thread, self._thread, opened = self._thread, None, self._open
        self._open = None
        self._closing.set()
        for task in (self._opening, self._looking):
            if task is not None:
                task.cancel()
        if thread is not None and opened is not None:
            await asyncio.to_thread(thread.join)

    async def _start(self) -> OpenedLog:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[OpenedLog] = loop.create_future()
        self._closing = closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(loop, found, closing), name="perdure-client", daemon=True
        )
        self._thread.start()
        self._open = await found
        self._seen_at = loop.time()
        return self._open

    def _end_opening(self, attempt: "asyncio.Task[OpenedLog]") -> None:
        self._opening = None
        if not attempt.cancelled():
            attempt.exception()  # everybody who asked may be gone

    async def _look(self, opened: OpenedLog) -> None:
        try:
            with open_errors():
                await asyncio.to_thread(opened.log.check_identity)
        except (HubMissing, HubRefused) as error:
            self._lose(opened, error)
            raise
        self._seen_at = opened.loop.time()

    def _end_looking(self, look: "asyncio.Task[None]") -> None:
        self._looking = None
        if not look.cancelled():
            look.exception()

    def _lose(self, opened: OpenedLog, error: HubError) -> None:
        if self._open is opened:
            self._open = None
            self._closing.set()
            self._give_up(error)

    # On the thread.

    def _run(
        self, loop: asyncio.AbstractEventLoop, found: "asyncio.Future[OpenedLog]", closing: threading.Event
    ) -> None:
        log: Log | None = None
        try:
            with open_errors():
                log = self._open_log()
                replies = log.open_replies(self._client_id)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for the log
            if log is not None:
                log.close()
            _tell(loop, fail_future, found, error)
            return
        opened = OpenedLog(log, loop, ReplyTo(self._client_id, replies.partition))
        _tell(loop, _set_future, found, opened)
        try:
            self._pump(opened, replies, closing)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            _log.exception("replies cannot be read any more")
            trouble = HubUnavailable(f"the hub's replies cannot be read any more: {error}")
            _tell(loop, self._lose, opened, trouble)
        finally:
            replies.close()
            log.close()

    def _pump(self, opened: OpenedLog, replies: ReplyReader, closing: threading.Event) -> None:
        while not closing.is_set():
            mine = [reply for record in replies.take(_TAKE_SECONDS) if (reply := self._mine(record.value)) is not None]
            if mine:
                _tell(opened.loop, self._take, mine)
            opened.log.wait(0)  # lets the log report deliveries

    def _mine(self, value: bytes | None) -> Reply | None:
        """Clients share the partitions of the replies; what cannot be read is nobody's."""
        try:
            reply = decode_reply(value or b"")
        except WireError:
            return None
        return reply if reply.client_id == self._client_id else None


async def _within(task: "asyncio.Task[T]", until: float, trouble: str) -> T:
    """What others may wait for as well: it goes on where our time is over. Raises HubUnavailable then."""
    left = max(until - asyncio.get_running_loop().time(), 0)
    await asyncio.wait((task,), timeout=None if left == float("inf") else left)
    if not task.done():
        raise HubUnavailable(
            f"the hub {trouble} within {left:.2f} s; do the brokers run, and can they be reached from here?"
        )
    if task.cancelled():
        raise HubUnavailable(CLOSED)
    return task.result()


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *arguments: object) -> None:
    """Call on the loop; one that is closed has nobody who waits."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *arguments)


def _set_future(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def fail_future(future: "asyncio.Future[T]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting
