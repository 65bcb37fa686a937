"""Admission: what a message of the inbox may hold. Anybody may have sent it, so every field is checked once, here.

Rules of this file: what a fold, a key of the store or an answer could not hold later is refused now, with what was expected and
what was found; nothing here knows the state of an instance. What only the engine says (a sequence of its own, how a task ended, a
start by a parent) counts only with the topic id of this hub's history, which nobody knows who has no right on that topic (R7).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from perdure.actors.limits import (
    Limits,
    check_client_id,
    check_definition_name,
    check_event_name,
    check_instance_id,
    check_reason,
    check_request_id,
    check_start_events,
    check_tags,
)
from perdure.actors.values import is_too_deep
from perdure.schemas import messages as ms
from perdure.schemas.events import Failure, Status
from perdure.schemas.messages import Inbound, Origin, ReplyTo

from .ports import HubIdentity

# The engine's own request ids are made of up to two instance ids.
ID_CHARS_MAX = 500
YEAR_9999_MS = 253_402_300_799_999
_STATUSES = frozenset(int(status) for status in Status if status != Status.CONTINUED_AS_NEW)


class NotAdmitted(ValueError):
    """The message cannot be taken; says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The checks of one hub. Each raises ValueError."""

    hub: HubIdentity
    limits: Limits

    def check_origin(self, origin: Origin) -> None:
        """Only partitions of this very history send with an origin (R7)."""
        hub = self.hub
        if origin.topic_id != hub.history_topic_id or not 0 <= origin.partition < hub.partition_count:
            raise NotAdmitted(
                f"its origin is partition {origin.partition} of history {origin.topic_id!r:.60}; this hub's history is "
                f"{hub.history_topic_id!r}, with {hub.partition_count} partitions"
            )
        if origin.sequence < 1:
            raise NotAdmitted(f"its origin has sequence {origin.sequence}; sequences begin with 1")

    def check_envelope(self, message: Inbound) -> None:
        """All but the body."""
        if isinstance(message.body, ms.RaiseLevel):
            if message.instance_id:
                raise NotAdmitted("to raise the format level is asked of a partition, and not of an instance")
        elif message.instance_id or not isinstance(message.body, ms.Query):
            check_instance_id(message.instance_id, self.limits)
        if message.origin is not None:
            _check_length("a request id", message.request_id)
        else:
            check_request_id(message.request_id, self.limits)
            _check_is_no_forgery(message.body)
        if message.reply_to is not None:
            self.check_reply_to(message.reply_to)

    def check_reply_to(self, to: ReplyTo) -> None:
        check_client_id(to.client_id, self.limits)
        if not 0 <= to.partition < self.hub.partition_count:
            raise NotAdmitted(
                f"it wants its reply on partition {to.partition}; this hub has {self.hub.partition_count} of them"
            )

    def check_body(self, body: ms.Body) -> None:
        check = _CHECKS.get(type(body))
        if check is not None:
            check(self, body)

    def check_payload(self, what: str, data: bytes) -> None:
        """JSON text, of a size and depth that others can read."""
        limit = self.limits.payload_bytes_max
        if len(data) > limit:
            raise NotAdmitted(f"{what} has {len(data)} bytes of JSON, at most {limit} are allowed")
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise NotAdmitted(f"{what} is not JSON: {error}") from None
        if is_too_deep(data):
            raise NotAdmitted(f"{what} is nested too deep")

    def check_failure(self, failure: Failure | None) -> None:
        while failure is not None:
            self.check_payload("the details of a failure", failure.details)
            failure = failure.cause

    def check_events(self, events: Sequence[tuple[str, bytes]]) -> None:
        for name, payload in events:
            check_event_name(name, self.limits)
            self.check_payload(f"event {name!r}", payload)


def _check_length(what: str, text: str) -> None:
    if len(text) > ID_CHARS_MAX:
        raise NotAdmitted(f"{what} has at most {ID_CHARS_MAX} characters, this one {len(text)}")


def _check_is_no_forgery(body: ms.Body) -> None:
    """Before a message is forwarded, too: what is passed on has an origin, that of the partition which did (R9)."""
    if isinstance(body, ms.TaskResult | ms.ChildResult):
        raise NotAdmitted("how a task ended comes from the engine alone, with its origin")
    if isinstance(body, ms.Start) and body.parent is not None:
        raise NotAdmitted("a start by a parent comes from the engine alone, with its origin")


def _check_start(admission: Admission, start: ms.Start) -> None:
    check_definition_name(start.name, admission.limits)
    if not _STATUSES.issuperset(start.reuse_statuses):
        raise NotAdmitted(f"statuses are among {sorted(_STATUSES)}, found {start.reuse_statuses!r:.60}")
    if not 0 <= start.start_at_ms <= YEAR_9999_MS:
        raise NotAdmitted(f"a start is due between the years 1970 and 9999, not at {start.start_at_ms} ms")
    admission.check_payload(f"the input of {start.name!r:.60}", start.input)
    check_tags(start.tags, admission.limits)
    check_start_events(len(start.events), admission.limits)
    admission.check_events(start.events)
    if start.parent is not None:
        check_instance_id(start.parent.instance_id, admission.limits)
        _check_length("an execution id", start.parent.execution_id)


def _check_result(admission: Admission, body: ms.TaskResult | ms.ChildResult) -> None:
    admission.check_payload("a result", body.result)
    admission.check_failure(body.failure)


_CHECKS = cast(
    "dict[type[Any], Callable[[Admission, Any], None]]",
    {
        ms.Start: _check_start,
        ms.RaiseEvent: lambda admission, body: admission.check_events(((body.name, body.input),)),
        ms.Cancel: lambda admission, body: check_reason(body.reason, admission.limits),
        ms.Suspend: lambda admission, body: check_reason(body.reason, admission.limits),
        ms.Resume: lambda admission, body: check_reason(body.reason, admission.limits),
        ms.Terminate: lambda admission, body: admission.check_payload("a reason", body.reason),
        ms.TaskResult: _check_result,
        ms.ChildResult: _check_result,
    },
)
