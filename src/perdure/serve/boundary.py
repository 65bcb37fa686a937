"""What every request passes before any route: who may come in, how much, and how paths are read.

Rules of this file: a token is compared in constant time; without one the server is on loopback, and a web page that a browser
shows must not reach it (a foreign Origin or Host is refused, and so is what a browser says comes from another site); a path is
routed before its escapes are read, so that an instance id may hold a slash; what goes wrong inside is for the log, and the caller
hears only that it did.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from perdure.actors.limits import DEFAULT_LIMITS
from perdure.errors import NoAnswer, Unauthorized
from perdure.loopback import is_loopback

from .description import STYLE_HASH
from .openapi import OPEN_PATHS
from .problems import problem, problem_of

_log = structlog.get_logger("perdure.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# JSON may escape every character of a payload.
BODY_BYTES_MAX = 4 * DEFAULT_LIMITS.payload_bytes_max
# For the metrics: who asked went, or took too long and was let go (`connection.py`), before all of the request was there. Nobody hears it.
_GONE = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_SITES = frozenset({"cross-site", "same-site"})
# Answers are data: no page shows them in a frame, guesses their type, keeps them, or loads anything through them.
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", f"default-src 'none'; style-src '{STYLE_HASH}'; frame-ancestors 'none'".encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class RequestMetrics:
    """Requests by route and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "perdure_http_requests",
            "Requests answered; 499: given up before all of the request was there.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "perdure_http_request_seconds", "Time to answer, waits included.", ("method", "route"), registry=registry
        )

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        # Any caller may make up a method, and each would be kept for ever.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class Boundary:
    """The outermost layer of the API."""

    def __init__(self, app: AsgiApp, token: str, metrics: RequestMetrics) -> None:
        self._app = app
        self._token = token.encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "the server takes no other requests"
        began, status = time.perf_counter(), 0
        arriving = _Arriving(receive)
        inner: Scope = {**scope, "path": scope.get("raw_path", scope["path"].encode()).decode("latin-1")}

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refuse(scope["path"], headers)
        try:
            await (refusal or self._app)(inner, arriving.take, note)
        except asyncio.CancelledError:
            if status:
                raise
            await _STOPPING(inner, receive, note)  # the server stops, and has waited for this one long enough
        except ClientDisconnect:
            arriving.abandoned = True
        except Exception:
            _log.exception("request.failed", method=scope["method"], path=inner["path"])
            if status:
                raise  # the answer has begun, and can only be cut off
            await _FAILED(inner, receive, note)
        finally:
            if arriving.abandoned:  # what was made of half a body, nobody hears
                status = _GONE
                _log.info("request.abandoned", method=scope["method"], path=inner["path"])
            self._metrics.note(inner, status, time.perf_counter() - began)

    def _refuse(self, path: str, headers: MutableMapping[str, str]) -> Response | None:
        if path not in OPEN_PATHS:
            if self._token:
                if not hmac.compare_digest(self._token, _bearer(headers)):
                    return problem_of(Unauthorized("the API wants its token, as `Authorization: Bearer TOKEN`"))
            elif not is_loopback(_host_name(headers.get("host", ""))):
                return problem(403, "Forbidden", "without a token this API answers on loopback only", "forbidden")
        origin = headers.get("origin")
        foreign = origin is not None and _place(origin) != headers.get("host")
        if foreign or headers.get("sec-fetch-site") in _OTHER_SITES:
            return problem(403, "Forbidden", "requests of other sites' pages are refused", "forbidden")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return problem(400, "Bad request", "the content's length is no number", "bad-request")
        if int(length) > BODY_BYTES_MAX:
            return problem(413, "Payload too large", f"a body has at most {BODY_BYTES_MAX} bytes", "payload-too-large")
        return None


def _bearer(headers: MutableMapping[str, str]) -> bytes:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if kind.lower() == "bearer" else b""


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """Host and port of an origin; nothing for `null` and for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


_STOPPING = problem_of(NoAnswer("the API stops, and does not know whether this was done; ask again, with the same key"))
_FAILED = problem(500, "Internal error", "the request failed inside; the server's log says how", "internal")


class _Arriving:
    """A request as it comes: no more of it than a body may have, whatever its headers say, and whether it ended before all was there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._whole = False
        self.abandoned = False

    async def take(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.abandoned |= not self._whole
            return message
        self._whole = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > BODY_BYTES_MAX:
            raise HTTPException(413, f"a body has at most {BODY_BYTES_MAX} bytes")
        return message
