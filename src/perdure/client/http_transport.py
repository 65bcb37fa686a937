"""The way in through the HTTP API (`perdure serve`, `perdure dev`).

Rules of this file: a request that is sent again keeps its id, so it is done once; what the API refuses is raised as what the
client of a log would raise.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from perdure import errors
from perdure.errors import HubUnavailable, InstanceNotFound, NoAnswer, PerdureError, RequestRefused, StartUnknown
from perdure.masking import masked
from perdure.schemas import messages as ms
from perdure.schemas.events import Status
from perdure.schemas.messages import Purge, ReusePolicy
from perdure.schemas.views import time_to_json
from perdure.segments import to_segment

from .answers import reading_answer
from .requests import ListRequest, Started, StartRequest, start_unknown, started_of
from .transport import Change, Ticket
from .views import View, decode_json, encode_json

WAIT_SECONDS = 20.0
_ANSWER_SECONDS = 10.0
_SLACK_SECONDS = 2.0
_CONNECT_SECONDS_MAX = 3.0
_PAUSE_SECONDS = 0.2
_PAUSE_SECONDS_MAX = 2.0
# Told by the API, or by what stands in front of it.
_PASSING = frozenset({429, 502, 503, 504})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class _Call:
    """One request; `json` is its body, `sent` how often it went out, `reached` whether it may have come to somebody."""

    method: str
    path: str
    json: bytes | None = None
    params: Mapping[str, Any] | None = None
    request_id: str = ""
    patience_seconds: float = 0.0
    sent: int = 0
    reached: bool = False


class HttpTransport:
    """`client.transport.Transport` over HTTP."""

    def __init__(self, url: str, token: str = "") -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise errors.ConfigError(f"the url of an API begins with http:// or https://, found {masked(url)!r}")
        self._url = masked(url.rstrip("/"))  # for messages: whom a proxy knows us as is no part of them
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A proxy has no way to this machine's own loopback.
        own = (urlsplit(url).hostname or "") in _LOOPBACK
        self._reached = False
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"), headers=headers, trust_env=not own, timeout=_ANSWER_SECONDS
        )

    async def open(self, seconds: float) -> None:
        await self._send(_Call("GET", "/healthz"), min(seconds, _CONNECT_SECONDS_MAX))

    async def close(self) -> None:
        await self._http.aclose()

    async def start(self, request: StartRequest, seconds: float) -> tuple[Started, Ticket | None]:
        call = _Call("POST", "/v1/instances", encode_json(_start_body(request)), request_id=request.request_id)
        try:
            answer = await self._send(call, seconds)
        except (NoAnswer, HubUnavailable) as error:
            if not call.reached:
                raise  # nothing was sent, so nothing is unknown
            raise start_unknown(request, error) from error
        return started_of(_read(answer), request.instance_id), None

    async def change(self, instance_id: str, change: Change, request_id: str, seconds: float) -> None:
        method, tail, json, params = _change_call(change)
        call = _Call(method, _path(instance_id) + tail, json, params, request_id)
        try:
            await self._send(call, seconds)
        except InstanceNotFound:
            # The answer to the first sending was lost, and the instance is gone because of it.
            if not (isinstance(change, Purge) and call.sent > 1):
                raise

    async def get(self, instance_id: str, seconds: float) -> View:
        return await self._read(_Call("GET", _path(instance_id)), seconds)

    async def wait(self, instance_id: str, seconds: float | None, ticket: Ticket | None) -> View | None:
        until = float("inf") if seconds is None else time.monotonic() + seconds
        while True:
            left = max(until - time.monotonic(), 0)
            wait = min(left, WAIT_SECONDS)
            call = _Call("GET", f"{_path(instance_id)}/result", params={"wait": wait}, patience_seconds=wait)
            try:
                answer = await self._send(call, min(wait + _ANSWER_SECONDS, left + _SLACK_SECONDS))
            except (NoAnswer, HubUnavailable):
                # Whoever waits goes on over a restart of the API, or of all workers; an API that never was there is an error.
                if not self._reached:
                    raise
            else:
                view = _read(answer)
                if answer.status_code == 200:
                    return view
            if time.monotonic() >= until:
                return None

    async def list(self, request: ListRequest, seconds: float) -> View:
        arguments = dict(request.arguments)
        params: dict[str, Any] = {"limit": min(request.limit, 1000)}
        params["tag"] = [f"{key}={value}" for key, value in arguments.pop("tag", {}).items()]
        for name in ("created_from", "created_to"):
            if name in arguments:
                params[name] = time_to_json(arguments.pop(name))
        return await self._read(_Call("GET", "/v1/instances", params={**arguments, **params}), seconds)

    async def history(self, instance_id: str, seconds: float) -> View:
        return await self._read(_Call("GET", f"{_path(instance_id)}/history"), seconds)

    async def _read(self, call: _Call, seconds: float) -> View:
        return _read(await self._send(call, seconds))

    async def _send(self, call: _Call, seconds: float) -> httpx.Response:
        """Send until it is answered. Raises what the API says, HubUnavailable if it was never reached, NoAnswer."""
        began = time.monotonic()
        told: PerdureError | None = None  # what the API said last, which tells more than that it is silent now
        for pause in _pauses():
            left = began + seconds - time.monotonic()
            try:
                answer = await self._send_once(call, left)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble: PerdureError = HubUnavailable(
                    f"nothing answers at {self._url}: {error}; is `perdure dev` or `perdure serve` running there?"
                )
                over = not call.reached and time.monotonic() - began >= _CONNECT_SECONDS_MAX
            except httpx.HTTPError as error:
                call.reached, over = True, False
                trouble = told or NoAnswer(f"no answer from {self._url} ({type(error).__name__})")
            else:
                call.reached = True
                if answer.status_code < 400 and _is_ours(answer):
                    self._reached = True
                    return answer
                trouble = told = error_of(answer)
                over = answer.status_code not in _PASSING
            if over or time.monotonic() + pause >= began + seconds:
                raise trouble
            await asyncio.sleep(pause)
        raise AssertionError("pauses have no end")

    async def _send_once(self, call: _Call, left: float) -> httpx.Response:
        headers = {"Idempotency-Key": call.request_id or uuid4().hex} if call.method != "GET" else {}
        if call.json is not None:
            headers["Content-Type"] = "application/json"
        params = {name: value for name, value in (call.params or {}).items() if value not in (None, [])}
        call.sent += 1
        timeout = max(min(left, _ANSWER_SECONDS + call.patience_seconds), 0.5)
        return await self._http.request(
            call.method, call.path, content=call.json, params=params or None, headers=headers, timeout=timeout
        )


def _read(answer: httpx.Response) -> View:
    """An answer that is good, as the object that every one of ours is. Raises HubRefused."""
    with reading_answer(masked(str(answer.request.url))):
        view = decode_json(answer.content)
        if not isinstance(view, dict):
            raise TypeError(f"a {type(view).__name__}")
        return view


def _pauses() -> Iterator[float]:
    pause = _PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 2, _PAUSE_SECONDS_MAX)


def _path(instance_id: str) -> str:
    return f"/v1/instances/{to_segment(instance_id)}"


def _start_body(request: StartRequest) -> View:
    body = request.body
    return {
        "name": body.name,
        "input": decode_json(body.input),
        "instance_id": request.instance_id,
        "tags": dict(body.tags),
        "start_at": time_to_json(body.start_at_ms) if body.start_at_ms else None,
        "if_exists": ReusePolicy(body.reuse).name.lower(),
        "replace_statuses": [Status(status).name for status in body.reuse_statuses],
        "events": [{"name": name, "input": decode_json(payload)} for name, payload in body.events],
    }


def _change_call(change: Change) -> tuple[str, str, bytes | None, Mapping[str, Any] | None]:
    """Method, rest of the path, body and query of one change."""
    match change:
        case ms.RaiseEvent(name, payload):
            return "POST", f"/events/{to_segment(name)}", payload, None
        case ms.Terminate(reason, recursive):
            body = {"reason": decode_json(reason) or "", "recursive": recursive}
            return "POST", "/terminate", encode_json(body), None
        case ms.Purge(force):
            return "DELETE", "", None, {"force": str(force).lower()}
        case ms.Cancel(reason) | ms.Suspend(reason) | ms.Resume(reason):
            return "POST", f"/{type(change).__name__.lower()}", encode_json({"reason": reason}), None


def _is_ours(answer: httpx.Response) -> bool:
    """False for the page of something else that answers at this address."""
    return answer.status_code == 204 or answer.headers.get("content-type", "").startswith("application/json")


def error_of(answer: httpx.Response) -> PerdureError:
    """What a problem of the API is here."""
    try:
        problem: View = decode_json(answer.content)
        code, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return NoAnswer(
            f"{masked(str(answer.request.url))} answered {answer.status_code}, and not as Perdure's API does"
        )
    kind = _KINDS.get(code, RequestRefused)
    if issubclass(kind, errors.Unauthorized):
        detail = f"{answer.request.url.host}:{answer.request.url.port} wants a token, or another one than was given; set PERDURE_TOKEN"
    instance_id = str(problem.get("instance_id", ""))
    if issubclass(kind, StartUnknown):
        return kind(detail, instance_id, str(problem.get("request_id", "")))
    if issubclass(kind, errors.InvalidRequest):
        return kind(detail, str(problem.get("path", "")))
    if issubclass(kind, RequestRefused | NoAnswer):
        return kind(detail, instance_id)
    return kind(detail)


_KINDS: dict[str, type[PerdureError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PerdureError) and "code" in vars(kind)
}
