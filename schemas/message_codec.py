"""Inbox messages and replies: values to bytes and back.

An inbox value that does not begin with the mark is a foreign producer's JSON, if anything, and none of this file's business.
"""

from operator import attrgetter
from typing import Any

from .avro import WireError, shipped
from .messages import (
    Body,
    Cancel,
    ChildResult,
    Inbound,
    Origin,
    Purge,
    Query,
    RaiseEvent,
    RaiseLevel,
    Reply,
    ReplyTo,
    Resume,
    Start,
    Suspend,
    TaskResult,
    Terminate,
)
from .reader import make_decode
from .record_codec import strip_mark
from .shapes import shape_of
from .writer import Encode, make_encode

INBOX_MARK = b"\xd1"
REPLY_MARK = b"\xd2"
_TRAVELLING: tuple[type[Any], ...] = (
    Start,
    RaiseEvent,
    Cancel,
    Terminate,
    Suspend,
    Resume,
    Purge,
    TaskResult,
    ChildResult,
    Query,
    RaiseLevel,
)
# Anybody may send one. Far more than the engine takes of anything, so that it can say what is too much.
ITEMS_MAX = 10_000
_SCHEMAS = {cls.KIND: (cls, shipped(cls.__name__, 1)) for cls in _TRAVELLING}
_ENCODES: dict[type[Any], Encode] = {cls: make_encode(schema) for cls, schema in _SCHEMAS.values()}
_DECODES = {kind: shape_of(cls).decoder(schema, ITEMS_MAX) for kind, (cls, schema) in _SCHEMAS.items()}
_INBOUND = shipped("Inbound", 1)
_REPLY = shipped("Reply", 1)


class UnreadableBody(WireError):
    """A message whose body cannot be read, though its envelope can: a newer build may have sent it. Its origin counts (R7)."""

    def __init__(self, error: WireError, origin: Origin | None) -> None:
        super().__init__(error.where, error.expected, error.found)
        self.origin = origin


def _encode_body(inbound: Inbound) -> bytes:
    encode = _ENCODES.get(type(inbound.body))
    if encode is None:
        raise WireError("inbox message", "a message that travels", type(inbound.body).__name__)
    return encode(inbound.body)


_encode_inbound = make_encode(_INBOUND, mark=INBOX_MARK, gets={"kind": attrgetter("body.KIND"), "body": _encode_body})
_decode_inbound = make_decode(_INBOUND, makes={"Origin": Origin, "ReplyTo": ReplyTo})
_encode_reply = make_encode(_REPLY, mark=REPLY_MARK)
_decode_reply = shape_of(Reply).decoder(_REPLY)


def encode_inbound(inbound: Inbound) -> bytes:
    return _encode_inbound(inbound)


def decode_inbound(value: bytes, bytes_max: int | None = None) -> Inbound:
    """Raises UnreadableBody where only the body is at fault, or there is more than `bytes_max` of it; else WireError."""
    datum = _decode_inbound(strip_mark(value, INBOX_MARK, "inbox message"))
    try:
        # What two bytes stand for may take hundreds in memory.
        if bytes_max is not None and len(value) > bytes_max:
            raise WireError("inbox message", f"at most {bytes_max} bytes", f"{len(value)} bytes")
        body = _decode_body(datum["kind"], datum["body"])
    except WireError as error:
        raise UnreadableBody(error, datum["origin"]) from error
    return Inbound(
        datum["instance_id"], body, datum["request_id"], datum["origin"], datum["reply_to"], datum["forwards"]
    )


def _decode_body(kind: int, data: bytes) -> Body:
    decode = _DECODES.get(kind)
    if decode is None:
        raise WireError("inbox message", f"a kind among {sorted(_DECODES)}", str(kind))
    body: Body = decode(data)
    return body


def encode_reply(reply: Reply) -> bytes:
    return _encode_reply(reply)


def decode_reply(value: bytes) -> Reply:
    return _decode_reply(strip_mark(value, REPLY_MARK, "reply"))
