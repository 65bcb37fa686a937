"""The way in through the log itself: requests on the inbox, answers on the replies (R5, R7).

Rules of this file: a request that is sent again keeps its id, so it is done once; the log is opened, waited on and closed by one
thread, and everything else is on the client's loop; an answer that nobody waits for is dropped.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4
from weakref import WeakSet, WeakValueDictionary

import orjson
import structlog

from perdure.errors import HubError, HubUnavailable, InstanceNotFound, NoAnswer, RequestRefused, StartUnknown
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull, Log, ReplyReader
from perdure.schemas.codec import WireError, decode_reply, encode_inbound
from perdure.schemas.messages import Body, Inbound, Purge, Query, QueryKind, RaiseLevel, Reply, ReplyCode, ReplyTo

from .answers import reading_answer
from .hubs import open_errors
from .merging import merge_pages
from .requests import ListRequest, Started, StartRequest, check_size, judge, judge_purge, judge_start
from .transport import Change
from .transport import Ticket as AnyTicket
from .views import View

_log = structlog.get_logger("perdure.client")
RESEND_SECONDS = 2.0
RESEND_SECONDS_MAX = 5.0
LIST_SECONDS_MAX = 5.0
_TAKE_SECONDS = 0.1
_FULL_PAUSE_SECONDS = 0.01


class Ticket:
    """The answers to one request: the first one, and for a start or a wait the news that the instance has ended."""

    __slots__ = ("__weakref__", "asked_at", "ended", "first", "namesakes", "request_id", "trouble")

    def __init__(self, request_id: str, loop: asyncio.AbstractEventLoop, namesakes: "WeakSet[Ticket]") -> None:
        self.request_id = request_id
        # They keep each other findable: who asked the same before, or asks it at this moment, waits for the same answers.
        self.namesakes = namesakes
        namesakes.add(self)
        self.asked_at = loop.time()
        self.first: asyncio.Future[Reply] = loop.create_future()
        self.ended: asyncio.Future[Reply] = loop.create_future()
        self.trouble = ""

    def take(self, reply: Reply) -> None:
        """A refusal after the first answer can only be the answer to a wait."""
        if reply.code == ReplyCode.ENDED:
            _settle(self.ended, reply)
        elif not self.first.done():
            self.first.set_result(reply)
        elif reply.code not in (ReplyCode.OK, ReplyCode.HELD):
            _settle(self.ended, reply)


def _settle(future: "asyncio.Future[Reply]", reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)


@dataclass(frozen=True, slots=True)
class _Open:
    """What there is while the log is open."""

    log: Log
    loop: asyncio.AbstractEventLoop
    reply_to: ReplyTo

    @property
    def partition_count(self) -> int:
        return self.log.identity.partition_count


class LogTransport:
    """`client.transport.Transport` over any log. `open_log` is called on the transport's own thread, which also closes the log."""

    def __init__(self, open_log: Callable[[], Log]) -> None:
        self._open_log = open_log
        self._client_id = uuid4().hex
        self._opening: asyncio.Task[_Open] | None = None
        self._open: _Open | None = None
        self._tickets: WeakValueDictionary[str, WeakSet[Ticket]] = WeakValueDictionary()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    async def open(self) -> None:
        await self._ready()

    async def _ready(self) -> _Open:
        """The open log. Whoever comes while it is being opened shares the attempt, and its failure; the next one tries again."""
        if self._open is not None:
            return self._open
        if self._opening is None:
            self._opening = asyncio.create_task(self._start_thread())
            self._opening.add_done_callback(self._end_opening)
        return await asyncio.shield(self._opening)

    def _end_opening(self, attempt: "asyncio.Task[_Open]") -> None:
        self._opening = None
        if not attempt.cancelled():
            attempt.exception()  # everybody who asked may be gone

    async def _start_thread(self) -> _Open:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[_Open] = loop.create_future()
        self._closing.clear()
        self._thread = threading.Thread(target=self._run, args=(loop, opened), name="perdure-client", daemon=True)
        self._thread.start()
        self._open = await opened
        return self._open

    async def close(self) -> None:
        """Let the log go. Tickets that are out stay unanswered."""
        thread, self._thread, self._open = self._thread, None, None
        self._closing.set()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    # On the transport's thread.

    def _run(self, loop: asyncio.AbstractEventLoop, opened: "asyncio.Future[_Open]") -> None:
        log: Log | None = None
        try:
            with open_errors():
                log = self._open_log()
                replies = log.open_replies(self._client_id)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for the log
            if log is not None:
                log.close()
            _tell(loop, _fail_future, opened, error)
            return
        _tell(loop, _set_future, opened, _Open(log, loop, ReplyTo(self._client_id, replies.partition)))
        try:
            self._pump(log, replies, loop)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            _log.exception("replies cannot be read any more")
            _tell(loop, self._give_up, HubUnavailable(f"the hub's replies cannot be read any more: {error}"))
        finally:
            replies.close()
            log.close()

    def _pump(self, log: Log, replies: ReplyReader, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closing.is_set():
            mine = [reply for record in replies.take(_TAKE_SECONDS) if (reply := self._mine(record.value)) is not None]
            if mine:
                _tell(loop, self._route, mine)
            log.wait(0)  # lets the log report deliveries

    def _mine(self, value: bytes | None) -> Reply | None:
        """Clients share the partitions of the replies; what cannot be read is nobody's."""
        try:
            reply = decode_reply(value or b"")
        except WireError:
            return None
        return reply if reply.client_id == self._client_id else None

    # On the loop.

    def _route(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            for ticket in tuple(self._tickets.get(reply.request_id, ())):
                ticket.take(reply)

    def _give_up(self, error: HubError) -> None:
        """The log is gone; the next request opens it anew."""
        self._open = None
        for ticket in [ticket for tickets in list(self._tickets.values()) for ticket in tuple(tickets)]:
            for future in (ticket.first, ticket.ended):
                _fail_future(future, error)

    def _ticket(self, request_id: str, opened: _Open) -> Ticket:
        tickets = self._tickets.get(request_id)
        if tickets is None:
            tickets = self._tickets[request_id] = WeakSet()
        return Ticket(request_id, opened.loop, tickets)

    async def _ask(self, ticket: Ticket, partition: int, inbound: Inbound, until: float) -> Reply:
        """Send until there is an answer. Raises NoAnswer, and PayloadTooLarge where no log would take it."""
        opened = await self._ready()
        value = check_size(encode_inbound(inbound), opened.log.record_bytes_max)
        pause = RESEND_SECONDS
        while True:
            await self._publish(ticket, partition, inbound.instance_id, value, until)
            if await _done(ticket.first, min(opened.loop.time() + pause, until)):
                return ticket.first.result()
            if opened.loop.time() >= until:
                raise NoAnswer(_nobody(partition, ticket), inbound.instance_id)
            pause = min(pause * 1.5, RESEND_SECONDS_MAX)

    async def _publish(self, ticket: Ticket, partition: int, key: str, value: bytes, until: float) -> None:
        opened = await self._ready()

        def note(error: str | None) -> None:
            ticket.trouble = error or ""

        while True:
            try:
                opened.log.publisher.publish_inbox(partition, key, value, note)
            except BufferFull:
                ticket.trouble = "the local queue is full"
                if opened.loop.time() >= until:
                    raise NoAnswer(_nobody(partition, ticket), key) from None
                await asyncio.sleep(_FULL_PAUSE_SECONDS)
            else:
                return

    async def _request(self, instance_id: str, body: Body, request_id: str, until: float) -> tuple[Reply, bool]:
        """The first answer of an instance, and whether it took more than one sending."""
        opened = await self._ready()
        ticket = self._ticket(request_id, opened)
        partition = partition_of(instance_id, opened.partition_count)
        sent_at = opened.loop.time()
        reply = await self._ask(
            ticket, partition, Inbound(instance_id, body, request_id, reply_to=opened.reply_to), until
        )
        return reply, opened.loop.time() - sent_at >= RESEND_SECONDS

    async def start(self, request: StartRequest, seconds: float) -> tuple[Started, AnyTicket | None]:
        opened = await self._ready()
        until = opened.loop.time() + seconds
        ticket = self._ticket(request.request_id, opened)
        partition = partition_of(request.instance_id, opened.partition_count)
        inbound = Inbound(request.instance_id, request.body, request.request_id, reply_to=opened.reply_to)
        try:
            reply = await self._ask(ticket, partition, inbound, until)
        except (NoAnswer, HubError) as error:
            raise StartUnknown(
                f"instance {request.instance_id!r} may have been started or not: {error}; start it again with the same "
                f"instance_id and request_id {request.request_id!r}, and it is started once",
                request.instance_id,
                request.request_id,
            ) from error
        started = judge_start(reply.code, reply.body, request.instance_id)
        return started, ticket if request.body.tell_end else None

    async def change(self, instance_id: str, change: Change, request_id: str, seconds: float) -> None:
        opened = await self._ready()
        reply, repeated = await self._request(instance_id, change, request_id, opened.loop.time() + seconds)
        if not isinstance(change, Purge):
            judge(reply.code, reply.body, instance_id)
            return
        try:
            judge_purge(reply.code, reply.body, instance_id)
        except InstanceNotFound:
            # The answer to the first sending was lost, and the instance is gone because of it.
            if not repeated:
                raise

    async def get(self, instance_id: str, seconds: float) -> View:
        opened = await self._ready()
        query = Query(QueryKind.GET)
        reply, _ = await self._request(instance_id, query, uuid4().hex, opened.loop.time() + seconds)
        return judge(reply.code, reply.body, instance_id)

    async def wait(self, instance_id: str, seconds: float | None, ticket: AnyTicket | None) -> View | None:
        opened = await self._ready()
        until = float("inf") if seconds is None else opened.loop.time() + seconds
        partition = partition_of(instance_id, opened.partition_count)
        mine = ticket if isinstance(ticket, Ticket) else self._ticket(uuid4().hex, opened)
        # A watch that is not young may be gone with the owner that had it.
        told = mine is ticket and (mine.ended.done() or opened.loop.time() - mine.asked_at < RESEND_SECONDS)
        if mine is not ticket:
            mine.first.cancel()  # so that whatever comes is about the end
        inbound = Inbound(instance_id, Query(QueryKind.WAIT), mine.request_id, reply_to=opened.reply_to)
        value, pause = encode_inbound(inbound), RESEND_SECONDS
        while True:
            # The start asked to be told already; a watch is in its owner's memory only, so it is asked for again.
            if not told:
                await self._publish(mine, partition, instance_id, value, until)
            if await _done(mine.ended, min(opened.loop.time() + pause, until)):
                reply = mine.ended.result()
                return judge(reply.code, reply.body, instance_id)
            if opened.loop.time() >= until:
                return None
            told, pause = False, min(pause * 1.5, RESEND_SECONDS_MAX)

    async def history(self, instance_id: str, seconds: float) -> View:
        opened = await self._ready()
        until = opened.loop.time() + seconds
        turns: list[Any] = []
        begin: int | None = 1
        view: View = {}
        while begin is not None:
            query = Query(QueryKind.HISTORY, orjson.dumps({"from": begin}))
            reply, _ = await self._request(instance_id, query, uuid4().hex, until)
            view = judge(reply.code, reply.body, instance_id)
            with reading_answer(f"the history of {instance_id!r}"):
                turns += view["turns"]
                begin = _next_turn(view["next"], begin)
        return {"instance": view.get("instance"), "turns": turns}

    async def list(self, request: ListRequest, seconds: float) -> View:
        opened = await self._ready()
        until = opened.loop.time() + min(seconds, LIST_SECONDS_MAX)
        silent: dict[int, None] = {}
        instances: list[View] = []
        after: str | None = request.arguments.get("after")
        while True:
            wanted = request.limit - len(instances)
            arguments = {**request.arguments, "limit": min(wanted, 1000), **({"after": after} if after else {})}
            asked = [partition for partition in range(opened.partition_count) if partition not in silent]
            pages = await asyncio.gather(*(self._list_one(partition, arguments, until) for partition in asked))
            silent.update((partition, None) for partition, page in zip(asked, pages, strict=True) if page is None)
            if len(silent) == opened.partition_count:
                raise NoAnswer(f"none of the {opened.partition_count} partitions answered; is a worker running?")
            with reading_answer("a list"):
                more, after = merge_pages([page for page in pages if page is not None], min(wanted, 1000))
            instances += more
            if after is None or len(instances) >= request.limit or opened.loop.time() >= until:
                return {"instances": instances, "next": after, "silent": sorted(silent)}

    async def _list_one(self, partition: int, arguments: View, until: float) -> View | None:
        """The page of one partition; None if it is silent."""
        try:
            return await self._ask_partition(partition, Query(QueryKind.LIST, orjson.dumps(arguments)), until)
        except NoAnswer:
            return None

    async def _ask_partition(self, partition: int, body: Body, until: float) -> View:
        """The answer to what is asked of a partition and of no instance. Raises NoAnswer and RequestRefused."""
        opened = await self._ready()
        ticket = self._ticket(uuid4().hex, opened)
        inbound = Inbound("", body, ticket.request_id, reply_to=opened.reply_to)
        reply = await self._ask(ticket, partition, inbound, until)
        return judge(reply.code, reply.body, "")

    async def partitions(self, seconds: float) -> Sequence[View]:
        """Each partition with its format level and the newest that its owner reads. Raises NoAnswer where one is silent."""
        opened = await self._ready()
        until = opened.loop.time() + seconds
        query = Query(QueryKind.PARTITION)
        return await asyncio.gather(
            *(self._ask_partition(partition, query, until) for partition in range(opened.partition_count))
        )

    async def raise_level(self, level: int | None, seconds: float) -> Sequence[View]:
        """Have all partitions written at `level`, or at the newest that all owners read, once every one of them reads it (R12).
        Returns them as they are then. Raises RequestRefused where an owner does not, and NoAnswer where one is silent."""
        found = await self.partitions(seconds)
        wanted = min(view["reads"] for view in found) if level is None else level
        older = [view["partition"] for view in found if view["reads"] < wanted]
        if older:
            raise RequestRefused(
                f"level {wanted} cannot be read by the owners of partitions {', '.join(map(str, older))}: deploy newer workers first"
            )
        opened = await self._ready()
        until = opened.loop.time() + seconds
        below = [view["partition"] for view in found if view["level"] < wanted]
        await asyncio.gather(*(self._ask_partition(partition, RaiseLevel(wanted), until) for partition in below))
        return await self.partitions(seconds)


def _next_turn(following: Any, begin: int) -> int | None:
    """Where a history goes on: always further on, so that it comes to an end."""
    if following is None or (isinstance(following, int) and following > begin):
        return following
    raise ValueError(f"it goes on with turn {following!r:.40} after turn {begin}")


def _nobody(partition: int, ticket: Ticket) -> str:
    trouble = f" ({ticket.trouble})" if ticket.trouble else ""
    return f"partition {partition} did not answer in time{trouble}; is a worker of this hub running?"


async def _done(future: "asyncio.Future[Reply]", at: float) -> bool:
    """Wait for a future until the loop's time is `at`; the future lives on."""
    if not future.done():
        timeout = at - asyncio.get_running_loop().time()
        await asyncio.wait((future,), timeout=None if timeout == float("inf") else max(timeout, 0))
    return future.done()


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *arguments: object) -> None:
    """Call on the loop; one that is closed has nobody who waits."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *arguments)


def _set_future(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _fail_future(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting
