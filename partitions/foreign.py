"""Foreign messages: plain JSON that any producer may put on an inbox (R9), read into the messages of schemas/messages.py.

Rules of this file: what cannot be taken as it stands is refused with what was expected and what was found, and nothing in it
is guessed; whatever passes here is what a client of ours could have sent.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from perdure.actors.errors import ValueRefused
from perdure.actors.limits import DEFAULT_LIMITS, check_event_name, check_new_instance_id, check_reason, check_tags
from perdure.actors.values import payload_of
from perdure.schemas import messages as ms
from perdure.schemas.codec import WireError
from perdure.schemas.events import Status
from perdure.schemas.messages import Inbound, ReusePolicy

Fields = dict[str, Any]
_VERBS = ("start", "raise", "cancel", "terminate", "suspend", "resume", "purge")
_FIELDS: dict[str, dict[str, type]] = {
    "start": {
        "start": str,
        "id": str,
        "input": object,
        "tags": dict,
        "start_at": object,
        "if_exists": str,
        "replace_statuses": list,
        "events": list,
        "request_id": str,
    },
    "raise": {"raise": str, "id": str, "input": object, "request_id": str},
    "cancel": {"cancel": str, "reason": str, "request_id": str},
    "terminate": {"terminate": str, "reason": str, "recursive": bool, "request_id": str},
    "suspend": {"suspend": str, "reason": str, "request_id": str},
    "resume": {"resume": str, "reason": str, "request_id": str},
    "purge": {"purge": str, "force": bool, "request_id": str},
}
_KINDS = {str: "a string", dict: "an object", list: "a list", bool: "true or false"}
_REUSE = {"reject": ReusePolicy.REJECT, "return": ReusePolicy.RETURN, "replace": ReusePolicy.REPLACE}
_STATUSES = [status.name for status in Status if status != Status.CONTINUED_AS_NEW]
_FOUND_CHARS_MAX = 100
_YEAR_9999_MS = 253_402_300_799_999
_REQUEST_ID_CHARS_MAX = 200
_NAME_CHARS_MAX = 500


def decode_foreign(value: bytes, generated_id: str) -> Inbound:
    """Read one JSON message; a start without an id gets `generated_id`. Raises WireError, which says what was expected."""
    try:
        text = value.decode("utf-8-sig")
        fields = json.loads(text)
        if "\\u" in text:
            payload_of(fields)  # an escape may make half a character, which no record can hold
    except (ValueError, RecursionError, ValueRefused) as error:
        raise WireError("inbox message", "a JSON object in UTF-8", f"what is none ({error})") from None
    if not isinstance(fields, dict):
        raise WireError("inbox message", "a JSON object", type(fields).__name__)
    verbs = [verb for verb in _VERBS if verb in fields]
    if len(verbs) != 1:
        raise WireError("inbox message", f"exactly one of {', '.join(_VERBS)}", _short(", ".join(fields)) or "nothing")
    verb = verbs[0]
    _check_fields(verb, fields)
    try:
        return _READ[verb](fields, generated_id)
    except (ValueRefused, ValueError) as error:
        raise WireError(f"{verb!r} message", "what can be kept", str(error)) from None


def _check_fields(verb: str, fields: Fields) -> None:
    known = _FIELDS[verb]
    if unknown := sorted(fields.keys() - known.keys()):
        raise WireError(f"{verb!r} message", f"no other fields than {', '.join(known)}", _short(", ".join(unknown)))
    for name, found in fields.items():
        if not isinstance(found, known[name]):
            raise WireError(f"{name!r} of a {verb!r} message", _KINDS[known[name]], _short(repr(found)))
    if not fields[verb] or len(fields[verb]) > _NAME_CHARS_MAX:
        expected = f"a name or an id of 1 to {_NAME_CHARS_MAX} characters"
        raise WireError(f"{verb!r} message", expected, str(len(fields[verb])))
    if len(fields.get("request_id", "")) > _REQUEST_ID_CHARS_MAX:
        raise WireError("'request_id'", f"at most {_REQUEST_ID_CHARS_MAX} characters", str(len(fields["request_id"])))


def _short(text: str) -> str:
    return text if len(text) <= _FOUND_CHARS_MAX else f"{text[:_FOUND_CHARS_MAX]}..."


def _read_start(fields: Fields, generated_id: str) -> Inbound:
    instance_id = fields.get("id") or generated_id
    check_new_instance_id(instance_id)
    tags = fields.get("tags", {})
    check_tags(tags)
    reuse = fields.get("if_exists", "reject")
    if reuse not in _REUSE:
        raise WireError("'if_exists'", f"one of {', '.join(_REUSE)}", _short(repr(reuse)))
    body = ms.Start(
        fields["start"],
        _payload("'input'", fields.get("input")),
        tags,
        start_at_ms=_read_time(fields.get("start_at", 0)),
        reuse=_REUSE[reuse],
        reuse_statuses=tuple(_read_status(each) for each in fields.get("replace_statuses", ())),
        events=tuple(_read_event(each) for each in fields.get("events", ())),
    )
    return Inbound(instance_id, body, fields.get("request_id", ""))


def _read_time(value: Any) -> int:
    """Milliseconds since the Unix epoch; of a time without a zone, UTC. The past is now."""
    if isinstance(value, int) and not isinstance(value, bool):
        at_ms = value
    else:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            expected = "milliseconds since 1970 or an ISO 8601 time"
            raise WireError("'start_at'", expected, _short(repr(value))) from None
        aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        at_ms = int(aware.timestamp() * 1000)
    if at_ms > _YEAR_9999_MS:
        raise WireError("'start_at'", "a time before the year 10000", _short(repr(value)))
    return max(at_ms, 0)


def _read_status(name: Any) -> int:
    if name not in _STATUSES:
        raise WireError("'replace_statuses'", f"some of {', '.join(_STATUSES)}", _short(repr(name)))
    return int(Status[name])


def _read_event(event: Any) -> tuple[str, bytes]:
    if not isinstance(event, dict) or not isinstance(event.get("name"), str) or event.keys() - {"name", "input"}:
        raise WireError("'events'", 'objects as {"name": "go", "input": 1}', _short(repr(event)))
    check_event_name(event["name"])
    return event["name"], _payload(f"event {event['name']!r}", event.get("input"))


def _read_raise(fields: Fields, _generated_id: str) -> Inbound:
    if not fields.get("id"):
        raise WireError("'raise' message", "the 'id' of its instance", "none")
    check_event_name(fields["raise"])
    body = ms.RaiseEvent(fields["raise"], _payload(f"event {fields['raise']!r}", fields.get("input")))
    return Inbound(fields["id"], body, fields.get("request_id", ""))


def _payload(what: str, value: Any) -> bytes:
    data, limit = payload_of(value), DEFAULT_LIMITS.payload_bytes_max
    if len(data) > limit:
        raise WireError(what, f"at most {limit} bytes of JSON", f"{len(data)} bytes")
    return data


def _read_control(verb: str, make: Callable[[Fields], ms.Body]) -> Callable[[Fields, str], Inbound]:
    def read(fields: Fields, _generated_id: str) -> Inbound:
        return Inbound(fields[verb], make(fields), fields.get("request_id", ""))

    return read


def _reason(fields: Fields) -> str:
    reason: str = fields.get("reason", "")
    check_reason(reason)
    return reason


_READ: dict[str, Callable[[Fields, str], Inbound]] = {
    "start": _read_start,
    "raise": _read_raise,
    "cancel": _read_control("cancel", lambda fields: ms.Cancel(_reason(fields))),
    "terminate": _read_control(
        "terminate",
        lambda fields: ms.Terminate(_payload("'reason'", _reason(fields) or None), fields.get("recursive", True)),
    ),
    "suspend": _read_control("suspend", lambda fields: ms.Suspend(_reason(fields))),
    "resume": _read_control("resume", lambda fields: ms.Resume(_reason(fields))),
    "purge": _read_control("purge", lambda fields: ms.Purge(fields.get("force", False))),
}
