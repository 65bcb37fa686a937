"""What every request passes before any route: who may come in, how much, and how paths are read.

Rules of this file: a token is compared in constant time; without one the server is on loopback, and a web page that a browser
shows must not reach it (a foreign Origin or Host is refused); a path is routed before its escapes are read, so that an instance
id may hold a slash.
"""

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import Response

from perdure.actors.limits import DEFAULT_LIMITS
from perdure.errors import Unauthorized

from .problems import problem, problem_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# JSON may escape every character of a payload.
BODY_BYTES_MAX = 4 * DEFAULT_LIMITS.payload_bytes_max
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class RequestMetrics:
    """Requests by route and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "perdure_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "perdure_http_request_seconds", "Time to answer, waits included.", ("method", "route"), registry=registry
        )

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(scope["method"], route, str(status)).inc()
        self._seconds.labels(scope["method"], route).observe(seconds)


class Boundary:
    """The outermost layer of the API."""

    def __init__(self, app: AsgiApp, token: str, metrics: RequestMetrics) -> None:
        self._app = app
        self._token = token.encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        inner: Scope = {**scope, "path": scope.get("raw_path", scope["path"].encode()).decode("latin-1")}

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refuse(scope["path"], headers)
        if refusal is not None:
            await refusal(scope, receive, note)
        else:
            await self._app(inner, _limited(receive), note)
        self._metrics.note(inner, status, time.perf_counter() - began)

    def _refuse(self, path: str, headers: MutableMapping[str, str]) -> Response | None:
        if path not in _OPEN_PATHS:
            if self._token:
                if not hmac.compare_digest(self._token, _bearer(headers)):
                    return problem_of(Unauthorized("the API wants its token, as `Authorization: Bearer TOKEN`"))
            elif _host_name(headers.get("host", "")) not in _LOOPBACK_NAMES:
                return problem(403, "Forbidden", "without a token this API answers on loopback only", "forbidden")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return problem(403, "Forbidden", f"requests of other sites' pages are refused: {origin}", "forbidden")
        if int(headers.get("content-length", "0") or 0) > BODY_BYTES_MAX:
            return problem(413, "Payload too large", f"a body has at most {BODY_BYTES_MAX} bytes", "payload-too-large")
        return None


def _bearer(headers: MutableMapping[str, str]) -> bytes:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if kind.lower() == "bearer" else b""


def _host_name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _limited(receive: Receive) -> Receive:
    """Read no more than a body may have, whatever its headers say."""
    size = 0

    async def take() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > BODY_BYTES_MAX:
            raise HTTPException(413, f"a body has at most {BODY_BYTES_MAX} bytes")
        return message

    return take
