"""Queries: reads of confirmed state (R16), and the clients who wait for an instance to end.

Answers are bodies of `Reply`; their shapes are JSON and the same over Kafka and HTTP.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from perdure.schemas.codec import decode_turn, encode_reply
from perdure.schemas.messages import Inbound, Query, QueryKind, Reply, ReplyCode, ReplyTo
from perdure.schemas.records import FIRST_LEVEL, LEVEL
from perdure.schemas.views import HistoryTurn, turn_to_json

from .header import InstanceHeader, header_view, read_header
from .index import decode_list_query, list_instances
from .keys import ANCHOR, end_of, history_prefix
from .ledger import decode_stored_turn
from .ports import BufferFull, Clock, Publisher, Store
from .state import decode_anchor
from .watchers import Watchers

HISTORY_REPLY_BYTES_MAX = 900_000


class Replies:
    """What goes back to clients. Best effort: a client that hears nothing asks again."""

    def __init__(self, publisher: Publisher, partition: int) -> None:
        self._publisher = publisher
        self._partition = partition
        self.lost = 0

    def send(self, to: ReplyTo, request_id: str, code: ReplyCode, body: bytes, offset: int) -> None:
        reply = Reply(to.client_id, request_id, code, body, self._partition, offset)
        try:
            self._publisher.publish_reply(to.partition, to.client_id, encode_reply(reply))
        except BufferFull:
            self.lost += 1


class Queries:
    """Answers reads from the store of one partition."""

    def __init__(self, store: Store, partition: int, replies: Replies, clock: Clock) -> None:
        self._store = store
        self._partition = partition
        self._replies = replies
        self.watchers = Watchers(clock)
        self.barriers: list[Inbound] = []

    def ask(self, message: Inbound, as_of: int) -> None:
        """Answer one query now, or keep it until its instance ends (WAIT) or the next append is confirmed (BARRIER)."""
        query, to = message.body, message.reply_to
        assert isinstance(query, Query)
        if to is None:
            return
        if query.query == QueryKind.WAIT:
            self.watch(message, as_of)
        elif query.query == QueryKind.BARRIER:
            self.barriers.append(message)
        else:
            code, body = self.read(message.instance_id, query, as_of)
            self._replies.send(to, message.request_id, code, body, as_of)

    def read(self, instance_id: str, query: Query, as_of: int) -> tuple[ReplyCode, bytes]:
        """The answer to a GET, LIST, HISTORY or PARTITION."""
        if query.query == QueryKind.LIST:
            return self._list(query.arguments, as_of)
        if query.query == QueryKind.PARTITION:
            return self._partition_view(as_of)
        header = read_header(self._store, instance_id)
        if header is None:
            return ReplyCode.NOT_FOUND, _no_instance(instance_id)
        if query.query == QueryKind.GET:
            return ReplyCode.OK, self._view(header, as_of)
        return self._history(header, query.arguments, as_of)

    def _partition_view(self, as_of: int) -> tuple[ReplyCode, bytes]:
        """The partition's format level, and the newest one that its owner reads (R12)."""
        value = self._store.get(ANCHOR)
        found = decode_anchor(value) if value is not None else None
        level = found[1].level if found is not None else FIRST_LEVEL
        view = {"partition": self._partition, "level": level, "reads": LEVEL, "as_of": as_of}
        return ReplyCode.OK, orjson.dumps(view)

    def _view(self, header: InstanceHeader, as_of: int) -> bytes:
        return orjson.dumps(header_view(header, self._partition, as_of))

    def _list(self, arguments: bytes, as_of: int) -> tuple[ReplyCode, bytes]:
        try:
            headers, cursor = list_instances(self._store, decode_list_query(arguments))
        except ValueError as error:
            return ReplyCode.REFUSED, orjson.dumps({"message": str(error)})
        views = [header_view(header, self._partition, as_of) for header in headers]
        return ReplyCode.OK, orjson.dumps({"instances": views, "next": cursor})

    def _history(self, header: InstanceHeader, arguments: bytes, as_of: int) -> tuple[ReplyCode, bytes]:
        """Turns from number `from` on, as many as fit one reply; `next` is the number to go on from."""
        try:
            begin = _first_turn(arguments)
        except ValueError as error:
            return ReplyCode.REFUSED, orjson.dumps({"message": str(error)})
        turns: list[Any] = []
        size, following = 0, None
        prefix = history_prefix(header.instance_id)
        for key, value in self._store.scan(prefix + begin.to_bytes(8, "big"), end_of(prefix)):
            size += 3 * len(value)
            if turns and size > HISTORY_REPLY_BYTES_MAX:
                following = int.from_bytes(key[-8:], "big")
                break
            offset, level, encoded = decode_stored_turn(value)
            body = decode_turn(encoded, level)
            turns.append(turn_to_json(HistoryTurn(offset, body.time_ms, body.decided, body.events)))
        view = header_view(header, self._partition, as_of)
        return ReplyCode.OK, orjson.dumps({"instance": view, "turns": turns, "next": following})

    def watch(self, message: Inbound, as_of: int) -> None:
        """Tell the requester when the instance ends; at once if it has."""
        header = read_header(self._store, message.instance_id)
        if header is not None and not header.status.terminal:
            self.expect_end(message)
            return
        assert message.reply_to is not None
        if header is None:
            text = _no_instance(message.instance_id)
            self._replies.send(message.reply_to, message.request_id, ReplyCode.NOT_FOUND, text, as_of)
        else:
            self._replies.send(message.reply_to, message.request_id, ReplyCode.ENDED, self._view(header, as_of), as_of)

    def expect_end(self, message: Inbound) -> None:
        """Tell the requester when the instance ends, which runs."""
        assert message.reply_to is not None
        self.watchers.add(message.instance_id, message.reply_to, message.request_id)

    def tell_ended(self, headers: Iterable[InstanceHeader], as_of: int) -> None:
        """These instances have just ended."""
        for header in headers:
            watching = self.watchers.take(header.instance_id)
            body = self._view(header, as_of) if watching else b""
            for to, request_id in watching:
                self._replies.send(to, request_id, ReplyCode.ENDED, body, as_of)

    def tell_forgotten(self, instance_id: str, as_of: int) -> None:
        """The instance was purged while it ran: there is no end to wait for."""
        for to, request_id in self.watchers.take(instance_id):
            self._replies.send(to, request_id, ReplyCode.NOT_FOUND, _no_instance(instance_id), as_of)


def _no_instance(instance_id: str) -> bytes:
    return orjson.dumps({"message": f"no instance {instance_id!r}"})


def _first_turn(arguments: bytes) -> int:
    """The turn that a history begins with. Raises ValueError."""
    fields = orjson.loads(arguments)
    begin = fields.get("from", 1) if isinstance(fields, dict) else None
    if not isinstance(begin, int) or isinstance(begin, bool) or not 1 <= begin < 1 << 63:
        raise ValueError(f"the arguments of a history are {{'from': a turn, from 1 on}}, not {arguments[:40]!r}")
    return begin
