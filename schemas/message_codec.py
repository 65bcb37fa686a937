"""Inbox messages and replies: values to bytes and back.

An inbox value that begins with `{` is a foreign producer's JSON and none of this file's business.
"""

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
    Reply,
    ReplyTo,
    Resume,
    Start,
    Suspend,
    TaskResult,
    Terminate,
)
from .record_codec import strip_mark
from .shapes import Shape, shape_of

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
)
_BODIES = {cls.KIND: (shape_of(cls), shipped(cls.__name__, 1)) for cls in _TRAVELLING}
_INBOUND = shipped("Inbound", 1)
_REPLY = shipped("Reply", 1)
_REPLY_SHAPE: Shape[Reply] = shape_of(Reply)


def encode_inbound(inbound: Inbound) -> bytes:
    body: Any = inbound.body
    if type(body) not in _TRAVELLING:
        raise WireError("inbox message", "a message that travels", type(body).__name__)
    shape, schema = _BODIES[body.KIND]
    origin, reply_to = inbound.origin, inbound.reply_to
    return INBOX_MARK + _INBOUND.write(
        {
            "instance_id": inbound.instance_id,
            "kind": body.KIND,
            "body": schema.write(shape.write(body)),
            "request_id": inbound.request_id,
            "origin": None if origin is None else ("perdure.Origin", shape_of(Origin).write(origin)),
            "reply_to": None if reply_to is None else ("perdure.ReplyTo", shape_of(ReplyTo).write(reply_to)),
            "forwards": inbound.forwards,
        }
    )


def decode_inbound(value: bytes) -> Inbound:
    datum = _INBOUND.read(strip_mark(value, INBOX_MARK, "inbox message"))
    origin, reply_to = datum["origin"], datum["reply_to"]
    return Inbound(
        instance_id=datum["instance_id"],
        body=_decode_body(datum["kind"], datum["body"]),
        request_id=datum["request_id"],
        origin=None if origin is None else Origin(**origin),
        reply_to=None if reply_to is None else ReplyTo(**reply_to),
        forwards=datum["forwards"],
    )


def _decode_body(kind: int, data: bytes) -> Body:
    if kind not in _BODIES:
        raise WireError("inbox message", f"a kind among {sorted(_BODIES)}", str(kind))
    shape, schema = _BODIES[kind]
    datum = schema.read(data)
    try:
        body: Body = shape.read(datum)
    except ValueError as error:
        raise WireError(schema.name, "values of its class", str(error)) from error
    return body


def encode_reply(reply: Reply) -> bytes:
    return REPLY_MARK + _REPLY.write(_REPLY_SHAPE.write(reply))


def decode_reply(value: bytes) -> Reply:
    return _REPLY_SHAPE.read(_REPLY.read(strip_mark(value, REPLY_MARK, "reply")))
