"""Errors as `application/problem+json` (RFC 9457): the status and what the client is told."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from perdure.errors import (
    HubError,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InvalidRequest,
    NoAnswer,
    PayloadTooLarge,
    PerdureError,
    RequestRefused,
    Unauthorized,
)

PROBLEM_TYPE = "urn:perdure:problem:"
MEDIA_TYPE = "application/problem+json"
# The most particular first.
_STATUSES: tuple[tuple[type[PerdureError], int, str], ...] = (
    (PayloadTooLarge, 413, "Payload too large"),
    (InvalidRequest, 422, "Invalid request"),
    (Unauthorized, 401, "Unauthorized"),
    (InstanceNotFound, 404, "No such instance"),
    (InstanceAlreadyExists, 409, "Instance exists"),
    (InstanceFinished, 409, "Instance has ended"),
    (InstanceNotFinished, 409, "Instance has not ended"),
    (RequestRefused, 409, "Refused"),
    (NoAnswer, 503, "No answer in time"),
    (HubError, 503, "The hub cannot be used now"),
    (PerdureError, 500, "Error"),
)
_RETRY_AFTER_SECONDS = 1


def problem(status: int, title: str, detail: str, code: str = "about", **more: str) -> Response:
    """One problem as a response."""
    content: dict[str, Any] = {"type": f"{PROBLEM_TYPE}{code}", "title": title, "status": status, "detail": detail}
    content.update({name: value for name, value in more.items() if value})
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if status == 503 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(content), status, headers, MEDIA_TYPE)


def problem_of(error: PerdureError) -> Response:
    """What the client is told of an error of ours."""
    status, title = next((status, title) for kind, status, title in _STATUSES if isinstance(error, kind))
    more = {name: str(getattr(error, name, "")) for name in ("instance_id", "request_id", "path")}
    return problem(status, title, str(error), error.code, **more)


async def answer_error(_request: Request, error: Exception) -> Response:
    """The exception handler for PerdureError."""
    assert isinstance(error, PerdureError)
    return problem_of(error)
