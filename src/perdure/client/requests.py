"""Requests and what their answers mean, without any I/O: written once, for every way in and for both faces.

Rules of this file: what can be refused here is refused before it is sent; an answer becomes a value or an error of
`perdure.errors`, never both.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypedDict

from perdure.actors.definitions import Definition
from perdure.actors.errors import ValueRefused
from perdure.actors.limits import (
    DEFAULT_LIMITS,
    check_definition_name,
    check_event_name,
    check_instance_id,
    check_new_instance_id,
    check_reason,
    check_request_id,
    check_start_events,
    check_tags,
)
from perdure.actors.values import encode_plain
from perdure.errors import (
    InstanceAlreadyExists,
    InstanceCanceled,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceTerminated,
    InvalidRequest,
    NotCompleted,
    OrchestrationFailed,
    PayloadTooLarge,
    PerdureError,
    RequestRefused,
    StartUnknown,
)
from perdure.partitions.index import decode_cursor
from perdure.schemas import messages as ms
from perdure.schemas.events import Status
from perdure.schemas.messages import ReplyCode, ReusePolicy

from .answers import reading_answer
from .views import Held, Instance, View, decode_json, held_of


class IfExists(Enum):
    """What a start does when its id is taken: fail, give back the instance that is there, or end that one and start anew.

    REPLACE takes the place of a finished instance; of a running one only where `replace_statuses` names its status.
    """

    REJECT = "reject"
    RETURN = "return"
    REPLACE = "replace"


class StartOptions(TypedDict, total=False):
    """The options of `start`.

    `start_at` is when the first turn is taken (default: now). `events` are (name, payload) pairs, raised before the first turn,
    so that nobody has to race the instance. `request_id` makes a start that is repeated after `StartUnknown` the same request.
    `tell_end=False` spares the hub the message that tells of the end, where nobody will wait for it.
    """

    instance_id: str | None
    tags: Mapping[str, str]
    start_at: datetime | None
    if_exists: "IfExists | str"
    replace_statuses: Sequence["Status | str"]
    events: Sequence[tuple[str, Any]]
    request_id: str
    tell_end: bool


class ListOptions(TypedDict, total=False):
    """Which instances `list` shows: all that meet every condition that is given. `after` is the `next` of an earlier page."""

    status: "Sequence[Status | str] | Status | str"
    name: str
    prefix: str
    tags: Mapping[str, str]
    created_from: datetime | None
    created_to: datetime | None
    held: bool | None
    limit: int
    after: str | None


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A start, checked and ready to be sent as often as it takes."""

    instance_id: str
    request_id: str
    body: ms.Start


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start. `created` is False where an instance of this id was there and was given back."""

    instance_id: str
    execution_id: str
    created: bool = True
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A list, as the hub understands it; `limit` is of the whole page."""

    arguments: View = field(default_factory=dict[str, Any])
    limit: int = 100


def make_start(
    orchestration: Definition[Any, Any] | str, value: Any, options: StartOptions, new_id: str
) -> StartRequest:
    """Check a start. Raises InvalidRequest."""
    name = orchestration if isinstance(orchestration, str) else orchestration.name
    payload = encode_payload(orchestration, value)
    return start_of_payload(name, payload, options, new_id)


def start_of_payload(name: str, payload: bytes, options: StartOptions, new_id: str) -> StartRequest:
    """Check a start whose input is JSON already. Raises InvalidRequest."""
    _check_options(options, StartOptions, "a start")
    events = options.get("events", ())
    request_id = options.get("request_id") or new_id
    instance_id = options.get("instance_id")
    if instance_id is None:
        instance_id = request_id  # a start that is repeated must name the same instance
    with _refusing():
        check_definition_name(name)
        check_new_instance_id(instance_id)
        check_start_events(len(events))
    start_at = options.get("start_at")
    body = ms.Start(
        name,
        check_payload(payload, f"the input of {name!r}"),
        _checked_tags(options.get("tags") or {}),
        start_at_ms=0 if start_at is None else max(0, milliseconds_of(start_at, "start_at")),
        **_reuse(options.get("if_exists", IfExists.REJECT), options.get("replace_statuses", ())),
        events=tuple((each.name, each.input) for each in map(_start_event, events)),
        tell_end=options.get("tell_end", True),
    )
    return StartRequest(
        instance_id,
        checked_request_id(request_id),
        body,
    )


def _start_event(event: tuple[str, Any]) -> ms.RaiseEvent:
    if not isinstance(event, tuple | list) or len(event) != 2:
        raise InvalidRequest(f"events are (name, payload) pairs; found {event!r:.60}")
    return make_event(*event)


def make_event(name: str, value: Any) -> ms.RaiseEvent:
    """An external event. Raises InvalidRequest."""
    try:
        payload = encode_plain(value)
    except ValueRefused as error:
        raise InvalidRequest(f"event {name!r}: {error}", error.path) from error
    return event_of_payload(name, payload)


def event_of_payload(name: str, payload: bytes) -> ms.RaiseEvent:
    """An external event whose payload is JSON already. Raises InvalidRequest."""
    with _refusing():
        check_event_name(name)
    return ms.RaiseEvent(name, check_payload(payload, f"event {name!r}"))


def make_terminate(reason: str, *, recursive: bool) -> ms.Terminate:
    """A termination; its reason, where there is one, becomes the result. Raises InvalidRequest."""
    return ms.Terminate(encode_plain(checked_reason(reason) or None), recursive)


def make_list(options: ListOptions) -> ListRequest:
    """Check a list. Raises InvalidRequest."""
    _check_options(options, ListOptions, "a list")
    for name, kind in _LIST_KINDS.items():
        if (given := options.get(name)) is not None and not isinstance(given, kind):
            raise InvalidRequest(f"{name} of a list is of type {kind.__name__}; found {given!r:.60}")
    limit = options.get("limit", 100)
    if limit < 1:
        raise InvalidRequest(f"the limit of a list is at least 1, not {limit}")
    after = options.get("after")
    if after is not None:
        try:
            decode_cursor(after)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
    status = options.get("status", ())
    created_from, created_to = options.get("created_from"), options.get("created_to")
    arguments: View = {
        "status": [each.name for each in statuses_of((status,) if isinstance(status, Status | str) else status)],
        "name": options.get("name"),
        "prefix": options.get("prefix"),
        "tag": dict(_checked_tags(options.get("tags") or {})),
        "created_from": None if created_from is None else milliseconds_of(created_from, "created_from"),
        "created_to": None if created_to is None else milliseconds_of(created_to, "created_to"),
        "held": options.get("held"),
        "after": after,
    }
    return ListRequest({name: value for name, value in arguments.items() if value not in (None, [], {})}, limit)


_LIST_KINDS: dict[str, type] = {"name": str, "prefix": str, "held": bool, "limit": int, "after": str}


def _check_options(given: Mapping[str, Any], known: type[Any], what: str) -> None:
    if unknown := sorted(given.keys() - known.__annotations__.keys()):
        raise InvalidRequest(f"{what} does not know {', '.join(unknown)}; it knows {', '.join(known.__annotations__)}")


def encode_payload(orchestration: Definition[Any, Any] | str, value: Any) -> bytes:
    """The JSON of an orchestration's input, by its annotation where the definition is at hand. Raises InvalidRequest."""
    try:
        return encode_plain(value) if isinstance(orchestration, str) else orchestration.encode_input(value)
    except ValueRefused as error:
        raise InvalidRequest(str(error), error.path) from error


def check_payload(payload: bytes, what: str) -> bytes:
    """Raise PayloadTooLarge where a payload is over the limit."""
    limit = DEFAULT_LIMITS.payload_bytes_max
    if len(payload) > limit:
        raise PayloadTooLarge(
            f"{what} has {len(payload)} bytes of JSON, at most {limit} are allowed; store it elsewhere and send its address"
        )
    return payload


def check_size(message: bytes, bytes_max: int) -> bytes:
    """Raise PayloadTooLarge where a request is more than one record of the log takes, though each payload in it is not."""
    if len(message) > bytes_max:
        raise PayloadTooLarge(
            f"the request has {len(message)} bytes in all (payloads, tags, events, reason), at most {bytes_max} are allowed; "
            "store some of it elsewhere and send its address"
        )
    return message


@contextmanager
def _refusing() -> Iterator[None]:
    """What a limit refuses is an invalid request."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidRequest(str(error)) from error


def checked_id(instance_id: str) -> str:
    """Raise InvalidRequest unless it can name an instance."""
    with _refusing():
        check_instance_id(instance_id)
    return instance_id


def checked_seconds(timeout: float | None) -> float | None:
    """Raise InvalidRequest for a time that nobody can wait."""
    if timeout is not None and not timeout >= 0:
        raise InvalidRequest(f"a time-out is a number of seconds, 0 or more; found {timeout}")
    return timeout


def checked_request_id(request_id: str) -> str:
    """Raise InvalidRequest unless a request may be called so."""
    with _refusing():
        check_request_id(request_id)
    return request_id


def milliseconds_of(moment: datetime, what: str) -> int:
    """Milliseconds since the Unix epoch. Raises InvalidRequest for a time without a zone, which could be any."""
    if not isinstance(moment, datetime):
        raise InvalidRequest(f"{what} is a datetime with its zone; found {moment!r:.60}")
    if moment.tzinfo is None:
        raise InvalidRequest(f"{what} needs a time zone, as in datetime.now(UTC); found {moment.isoformat()}")
    return int(moment.astimezone(UTC).timestamp() * 1000)


def statuses_of(statuses: Sequence[Status | str]) -> tuple[Status, ...]:
    """Statuses by name, without regard to case. Raises InvalidRequest."""
    found: list[Status] = []
    for status in statuses:
        name = status.name if isinstance(status, Status) else str(status).upper()
        if name not in STATUSES:
            raise InvalidRequest(f"a status is one of {', '.join(STATUSES)}; found {status!r}")
        found.append(Status[name])
    return tuple(found)


def _checked_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(tags, Mapping):
        raise InvalidRequest(f"tags are strings by strings; found {tags!r:.60}")
    with _refusing():
        return check_tags(tags)


def checked_reason(reason: str) -> str:
    """Raise InvalidRequest unless it can be recorded as one."""
    with _refusing():
        check_reason(reason)
    return reason


class _Reuse(TypedDict):
    reuse: ReusePolicy
    reuse_statuses: tuple[int, ...]


def _reuse(if_exists: IfExists | str, replace_statuses: "Sequence[Status | str]") -> _Reuse:
    policy, statuses = _if_exists(if_exists), tuple(int(status) for status in statuses_of(replace_statuses))
    if statuses and policy != IfExists.REPLACE:
        raise InvalidRequest(f"replace_statuses go with if_exists=replace; found if_exists={policy.value}")
    return {"reuse": _REUSE[policy], "reuse_statuses": statuses}


def _if_exists(value: IfExists | str) -> IfExists:
    try:
        return IfExists(value)
    except ValueError:
        names = ", ".join(each.value for each in IfExists)
        raise InvalidRequest(f"if_exists is one of {names}; found {value!r}") from None


_REUSE = {
    IfExists.REJECT: ReusePolicy.REJECT,
    IfExists.RETURN: ReusePolicy.RETURN,
    IfExists.REPLACE: ReusePolicy.REPLACE,
}
STATUSES = tuple(status.name for status in Status if status != Status.CONTINUED_AS_NEW)


# Answers.


def judge(code: int, body: bytes, instance_id: str) -> View:
    """The body of an answer that says yes. Raises RequestRefused or one of its kinds."""
    with reading_answer(repr(instance_id)):
        fields = decode_json(body) or {}
        if not isinstance(fields, dict):
            raise TypeError(f"a {type(fields).__name__}")
        if code in (ReplyCode.OK, ReplyCode.HELD, ReplyCode.ENDED):
            return fields
        refusal = _REFUSALS.get(ReplyCode(code), RequestRefused)
        raise refusal(_with_advice(str(fields.get("message", "")), refusal), instance_id)


def judge_start(code: int, body: bytes, instance_id: str) -> Started:
    return started_of(judge(code, body, instance_id), instance_id)


def started_of(view: View, instance_id: str) -> Started:
    """The start that a view tells of, which must be of this instance."""
    with reading_answer(repr(instance_id)):
        if view["instance_id"] != instance_id:
            raise ValueError(f"it is about {view['instance_id']!r:.200}")
        return Started(instance_id, str(view["execution_id"] or ""), bool(view["created"]), held_of(view.get("held")))


def start_unknown(request: StartRequest, error: PerdureError) -> StartUnknown:
    """What to raise of a start that nobody has answered."""
    if isinstance(error, StartUnknown):  # an API says so already
        return error
    return StartUnknown(
        f"instance {request.instance_id!r} may have been started or not ({error}); start it again with the same instance_id "
        f"and request_id {request.request_id!r}, and it is started once",
        request.instance_id,
        request.request_id,
    )


def judge_purge(code: int, body: bytes, instance_id: str) -> None:
    """The one refusal of a purge is that of a running instance."""
    if code == ReplyCode.REFUSED:
        with reading_answer(repr(instance_id)):
            raise InstanceNotFinished(str(decode_json(body).get("message", "")), instance_id)
    judge(code, body, instance_id)


def judge_end(instance: Instance) -> Any:
    """The result of an instance that has ended. Raises NotCompleted or one of its kinds."""
    if instance.status == Status.COMPLETED:
        return instance.result
    raise _ENDS.get(instance.status, NotCompleted)(instance)


_REFUSALS: dict[ReplyCode, type[RequestRefused]] = {
    ReplyCode.ALREADY_EXISTS: InstanceAlreadyExists,
    ReplyCode.NOT_FOUND: InstanceNotFound,
    ReplyCode.ALREADY_FINISHED: InstanceFinished,
}
_ADVICE: dict[type[RequestRefused], str] = {
    InstanceAlreadyExists: "choose another id, or if_exists=return to get it back; if_exists=replace takes the place "
    "of one that has ended, and of another where replace_statuses names its status",
    InstanceFinished: "it has ended, and takes no more requests",
    InstanceNotFound: "check the id, and that it is this hub's",
}
_ENDS: dict[Status, type[NotCompleted]] = {
    Status.FAILED: OrchestrationFailed,
    Status.CANCELED: InstanceCanceled,
    Status.TERMINATED: InstanceTerminated,
}


def _with_advice(message: str, refusal: type[RequestRefused]) -> str:
    advice = _ADVICE.get(refusal)
    return f"{message}; {advice}" if advice else message
