"""Foreign messages: plain JSON that any producer may put on an inbox (R9), read into the messages of schemas/messages.py."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from perdure.schemas import messages as ms
from perdure.schemas.codec import WireError
from perdure.schemas.messages import Inbound, ReusePolicy

_VERBS = ("start", "raise", "cancel", "terminate", "suspend", "resume", "purge")
_FIELDS = {
    "start": {"start", "id", "input", "tags", "start_at", "reuse", "request_id"},
    "raise": {"raise", "id", "input", "request_id"},
}
_REUSE = {"reject": ReusePolicy.REJECT, "return": ReusePolicy.RETURN, "replace": ReusePolicy.REPLACE}


def decode_foreign(value: bytes, generated_id: str) -> Inbound:
    """Read one JSON message; a start without an id gets `generated_id`. Raises WireError, which says what was expected."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise WireError("inbox message", "a JSON object", f"text that is not JSON ({error})") from None
    verbs = [verb for verb in _VERBS if verb in fields]
    if len(verbs) != 1:
        raise WireError("inbox message", f"exactly one of {', '.join(_VERBS)}", ", ".join(sorted(fields)) or "nothing")
    verb = verbs[0]
    _check_fields(verb, fields)
    return _READ[verb](fields, generated_id) if verb in _READ else _read_control(verb, fields)


def _check_fields(verb: str, fields: dict[str, Any]) -> None:
    known = _FIELDS.get(verb, {verb, "reason", "force", "request_id"})
    unknown = sorted(set(fields) - known)
    if unknown:
        raise WireError(f"{verb!r} message", f"the fields {', '.join(sorted(known))}", ", ".join(unknown))
    for name in (verb, "id", "reuse", "request_id"):
        if name in fields and not isinstance(fields[name], str):
            raise WireError(f"{name!r} of a {verb!r} message", "a string", type(fields[name]).__name__)
    if not fields[verb]:
        raise WireError(f"{verb!r} message", "a name or an id", "an empty string")


def _read_start(fields: dict[str, Any], generated_id: str) -> Inbound:
    tags = fields.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(tag, str) for tag in tags.values()):
        raise WireError("'tags'", "an object of strings", repr(tags))
    reuse = fields.get("reuse", "reject")
    if reuse not in _REUSE:
        raise WireError("'reuse'", f"one of {', '.join(_REUSE)}", repr(reuse))
    body = ms.Start(
        fields["start"],
        orjson.dumps(fields.get("input")),
        tags,
        start_at_ms=_read_time(fields.get("start_at", 0)),
        reuse=_REUSE[reuse],
    )
    return Inbound(fields.get("id") or generated_id, body, fields.get("request_id", ""))


def _read_time(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        at = datetime.fromisoformat(str(value))
    except (TypeError, ValueError):
        raise WireError("'start_at'", "milliseconds or an ISO 8601 time", repr(value)) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)


def _read_raise(fields: dict[str, Any], _generated_id: str) -> Inbound:
    if not fields.get("id"):
        raise WireError("'raise' message", "the 'id' of its instance", "none")
    return Inbound(
        fields["id"], ms.RaiseEvent(fields["raise"], orjson.dumps(fields.get("input"))), fields.get("request_id", "")
    )


def _read_control(verb: str, fields: dict[str, Any]) -> Inbound:
    reason = fields.get("reason", "")
    bodies: dict[str, Callable[[], ms.Body]] = {
        "cancel": lambda: ms.Cancel(str(reason)),
        "terminate": lambda: ms.Terminate(orjson.dumps(reason)),
        "suspend": lambda: ms.Suspend(str(reason)),
        "resume": lambda: ms.Resume(str(reason)),
        "purge": lambda: ms.Purge(bool(fields.get("force", False))),
    }
    return Inbound(fields[verb], bodies[verb](), fields.get("request_id", ""))


_READ: dict[str, Callable[[dict[str, Any], str], Inbound]] = {"start": _read_start, "raise": _read_raise}
