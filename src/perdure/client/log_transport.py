"""The way in through the log itself: requests on the inbox, answers on the replies (R5, R7).

Rules of this file: a request that is sent again keeps its id, so it is done once; the time that it may take runs from the call, also
while the log is being opened; an answer that nobody waits for is dropped.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4
from weakref import WeakSet, WeakValueDictionary

import orjson

from perdure.errors import HubError, InstanceNotFound, NoAnswer, RequestRefused
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull, Log
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import Body, Inbound, Purge, Query, QueryKind, RaiseLevel, Reply, ReplyCode

from .answers import reading_answer
from .log_thread import LogThread, OpenedLog, fail_future
from .merging import merge_pages
from .requests import ListRequest, Started, StartRequest, check_size, judge, judge_purge, judge_start, start_unknown
from .transport import Change
from .transport import Ticket as AnyTicket
from .views import View

RESEND_SECONDS = 2.0
RESEND_SECONDS_MAX = 5.0
LIST_SECONDS_MAX = 5.0
_FULL_PAUSE_SECONDS = 0.01
_SLACK_SECONDS = 2.0


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


class LogTransport:
    """`client.transport.Transport` over any log. `open_log` is called on a thread of the transport's own, which also closes the log."""

    def __init__(self, open_log: Callable[[], Log]) -> None:
        self._thread = LogThread(open_log, client_id := uuid4().hex, self._route, self._give_up)
        self._client_id = client_id
        self._tickets: WeakValueDictionary[str, WeakSet[Ticket]] = WeakValueDictionary()

    async def open(self, seconds: float) -> None:
        await self._thread.check(_until(seconds))

    async def close(self) -> None:
        """Let the log go. Tickets that are out stay unanswered."""
        await self._thread.close()

    def _route(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            for ticket in tuple(self._tickets.get(reply.request_id, ())):
                ticket.take(reply)

    def _give_up(self, error: HubError) -> None:
        """The log is gone, and with it what is on its way."""
        for ticket in [ticket for tickets in list(self._tickets.values()) for ticket in tuple(tickets)]:
            for future in (ticket.first, ticket.ended):
                fail_future(future, error)

    def _ticket(self, request_id: str, opened: OpenedLog) -> Ticket:
        tickets = self._tickets.get(request_id)
        if tickets is None:
            tickets = self._tickets[request_id] = WeakSet()
        return Ticket(request_id, opened.loop, tickets)

    async def _ask(self, ticket: Ticket, partition: int, inbound: Inbound, until: float) -> Reply:
        """Send until there is an answer. Raises NoAnswer, and PayloadTooLarge where no log would take it."""
        opened = await self._thread.opened(until)
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
        opened = await self._thread.opened(until)

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
        opened = await self._thread.opened(until)
        ticket = self._ticket(request_id, opened)
        partition = partition_of(instance_id, opened.partition_count)
        sent_at = opened.loop.time()
        reply = await self._ask(
            ticket, partition, Inbound(instance_id, body, request_id, reply_to=opened.reply_to), until
        )
        return reply, opened.loop.time() - sent_at >= RESEND_SECONDS

    async def start(self, request: StartRequest, seconds: float) -> tuple[Started, AnyTicket | None]:
        until = _until(seconds)
        opened = await self._thread.opened(until)
        ticket = self._ticket(request.request_id, opened)
        partition = partition_of(request.instance_id, opened.partition_count)
        inbound = Inbound(request.instance_id, request.body, request.request_id, reply_to=opened.reply_to)
        try:
            reply = await self._ask(ticket, partition, inbound, until)
        except (NoAnswer, HubError) as error:
            raise start_unknown(request, error) from error
        started = judge_start(reply.code, reply.body, request.instance_id)
        return started, ticket if request.body.tell_end else None

    async def change(self, instance_id: str, change: Change, request_id: str, seconds: float) -> None:
        reply, repeated = await self._request(instance_id, change, request_id, _until(seconds))
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
        reply, _ = await self._request(instance_id, Query(QueryKind.GET), uuid4().hex, _until(seconds))
        return judge(reply.code, reply.body, instance_id)

    async def wait(self, instance_id: str, seconds: float | None, ticket: AnyTicket | None) -> View | None:
        until = float("inf") if seconds is None else _until(seconds)
        # A glance opens the log too.
        opened = await self._thread.opened(until + _SLACK_SECONDS)
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
        until = _until(seconds)
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
        until = _until(seconds)
        opened = await self._thread.opened(until)
        until = min(until, _until(LIST_SECONDS_MAX))
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
        opened = await self._thread.opened(until)
        ticket = self._ticket(uuid4().hex, opened)
        inbound = Inbound("", body, ticket.request_id, reply_to=opened.reply_to)
        reply = await self._ask(ticket, partition, inbound, until)
        return judge(reply.code, reply.body, "")

    async def partitions(self, seconds: float) -> Sequence[View]:
        """Each partition with its format level and the newest that its owner reads. Raises NoAnswer where one is silent."""
        until = _until(seconds)
        opened = await self._thread.opened(until)
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
        until = _until(seconds)
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


def _until(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
