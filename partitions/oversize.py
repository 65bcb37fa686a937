"""A send that is larger than any record of the log: nobody could deliver it, and all behind it would wait for ever (R7)."""

from dataclasses import replace

from perdure.actors.outgoing import child_result
from perdure.schemas import messages as ms
from perdure.schemas.events import Failure
from perdure.schemas.messages import Inbound

FAILURE_TYPE = "MessageTooLarge"


def describe_oversize(size: int, bytes_max: int) -> str:
    return f"a message of {size} bytes, and at most {bytes_max} can be sent; pass a reference instead"


def sent_instead(message: Inbound, reason: str) -> Inbound | None:
    """What is sent in its place, so that nobody waits for ever: a failure to the parent whose child cannot be started, or whose
    child's result cannot be told. Of everything else the dead letter tells."""
    body, failure = message.body, Failure(FAILURE_TYPE, reason, retriable=False)
    if isinstance(body, ms.ChildResult):
        return replace(message, origin=None, body=replace(body, result=b"null", failure=failure))
    if isinstance(body, ms.Start) and body.parent is not None:
        told = child_result(message.instance_id, body.parent, failure=failure)
        return Inbound(told.instance_id, told.body, told.request_id)
    return None
