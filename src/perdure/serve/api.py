"""The API's routes: each one call of the client, answered with the hub's own JSON."""

import asyncio
import importlib.metadata
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import uuid4

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from perdure.actors.errors import ValueRefused
from perdure.actors.values import payload_of
from perdure.client import AsyncClient
from perdure.client.requests import (
    STATUSES,
    ListOptions,
    StartOptions,
    checked_id,
    checked_reason,
    checked_request_id,
    event_of_payload,
    make_list,
    make_terminate,
    start_of_payload,
)
from perdure.client.transport import Change
from perdure.client.views import View, decode_json, encode_json
from perdure.errors import InvalidRequest, PerdureError
from perdure.schemas.events import Status
from perdure.schemas.messages import Cancel, Purge, Resume, Suspend
from perdure.segments import from_segment, to_segment

from .boundary import Boundary, RequestMetrics
from .description import describe
from .models import (
    HealthModel,
    HistoryModel,
    InstanceModel,
    PageModel,
    ProblemModel,
    ReadyModel,
    ReasonBody,
    StartBody,
    StartedModel,
    TerminateBody,
)
from .openapi import Answers, DescribedApi, problems
from .problems import answer_error, problem

_log = structlog.get_logger("perdure.serve")
WAIT_SECONDS_MAX = 60.0
READY_SECONDS = 2.0
Answer = tuple[HTTPStatus, str, bytes]


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What else the process tells: its metrics, and whether it is ready beyond having found the hub. `beside` goes on beside the API
    until that stops."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    readiness: Callable[[], Answer] | None = None
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None


def create_api(client: AsyncClient, token: str = "", parts: ApiParts | None = None) -> FastAPI:
    """The API over one client. With a token every request needs it; without one only loopback is answered."""
    parts = parts or ApiParts()
    ProcessCollector(registry=parts.registry)

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        beside = asyncio.create_task(parts.beside()) if parts.beside is not None else None
        yield
        if beside is not None:
            beside.cancel()
        await client.close()

    api = DescribedApi(
        token=bool(token),
        title="Perdure",
        version=importlib.metadata.version("perdure"),
        summary="Start durable orchestrations, wait for them, and ask things of them.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.add_middleware(Boundary, token=token, metrics=RequestMetrics(parts.registry))  # pyright: ignore[reportArgumentType]
    api.add_exception_handler(PerdureError, answer_error)
    api.add_exception_handler(HTTPException, _answer_http_error)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.include_router(_Routes(client).router)
    _add_probes(api, client, parts)
    _add_description(api)
    return api


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status == 400:  # FastAPI's, where a body cannot be read at all
        text = "the body cannot be read as JSON: it is nested too deep, or a number in it is too long"
        return problem(422, "Invalid request", text, InvalidRequest.code)
    code = "payload-too-large" if status == 413 else status.phrase.lower().replace(" ", "-")
    return problem(status, status.phrase, str(error.detail), code)


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(422, "Invalid request", "; ".join(map(_fault, error.errors())), InvalidRequest.code)


def _fault(fault: dict[str, Any]) -> str:
    """One thing that is wrong, with its place."""
    place = [str(step) for step in fault["loc"]]
    if fault["type"] == "json_invalid":
        return f"the body is no JSON, at character {place[-1]}: {fault['ctx']['error']}"
    return f"{'.'.join(place)}: {fault['msg']}"


def _add_probes(api: FastAPI, client: AsyncClient, parts: ApiParts) -> None:
    """/healthz: the process lives; /readyz: it can do its work; /metrics."""

    any_time = problems()

    @api.get("/healthz", tags=["process"], response_model=HealthModel, responses=any_time)
    async def healthz() -> Response:
        """Is the process alive?"""
        return _json({"status": "ok"})

    unready: Answers = {
        503: {"model": ReadyModel | ProblemModel, "description": "Not now: what is not ready, or a problem."}
    }

    @api.get("/readyz", tags=["process"], response_model=ReadyModel, responses=any_time | unready)
    async def readyz() -> Response:
        """Can it do its work?"""
        try:
            await client.transport.open(READY_SECONDS)
        except PerdureError as error:
            # Anybody may ask, so the reason, with the brokers' addresses in it, is for the log.
            _log.warning("serve.not_ready", error=str(error))
            return problem(503, "Not ready", "the hub cannot be used now; the server's log says why", error.code)
        if parts.readiness is None:
            return _json({"ready": True})
        status, media_type, content = parts.readiness()
        return Response(content, status, media_type=media_type)

    @api.get("/metrics", tags=["process"], response_class=PlainTextResponse, responses=any_time)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(parts.registry), media_type=CONTENT_TYPE_LATEST)


def _add_description(api: FastAPI) -> None:
    """/docs: FastAPI's own page runs scripts of another site, which could then do all that the API can."""

    @api.get("/docs", tags=["process"], response_class=HTMLResponse, responses=problems())
    async def docs() -> Response:
        """This description, as a page."""
        return Response(describe(api.openapi()), media_type="text/html")

    @api.get("/", tags=["process"], response_class=RedirectResponse, responses=problems())
    async def root() -> Response:
        """To this description: the address that a process prints at its start."""
        return RedirectResponse("docs")


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_json(content), status, headers, "application/json")


def _instance_id(
    instance_id: Annotated[str, Path(description="Percent-encoded where it holds `/`, `?`, `#` or `%`.")],
) -> str:
    return checked_id(_unescaped(instance_id))


def _unescaped(segment: str) -> str:
    """A segment of a path as it was meant. Raises InvalidRequest."""
    try:
        return from_segment(segment)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _request_id(
    idempotency_key: Annotated[
        str | None, Header(description="Repeat a request with the same key: it is done once.")
    ] = None,
) -> str:
    return checked_request_id(idempotency_key or uuid4().hex)


async def _check_is_json(request: Request) -> None:
    """A body of another type, as `curl -d` sends it, is told as that and not as JSON with nothing in it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if await request.body() and not re.fullmatch(r"application/(.+\+)?json", media_type):
        raise HTTPException(415, f"the body is {media_type or 'of no type'}; send it as application/json")


InstanceId = Annotated[str, Depends(_instance_id)]
RequestId = Annotated[str, Depends(_request_id)]


class _Filters:
    """The conditions of a list, from the query."""

    def __init__(
        self,
        status: Annotated[
            list[str] | None, Query(description=f"One of {', '.join(STATUSES)}; given several times: any of them.")
        ] = None,
        name: Annotated[str | None, Query(description="The orchestration.")] = None,
        prefix: Annotated[str | None, Query(description="What the id begins with.")] = None,
        tag: Annotated[list[str] | None, Query(description="`key=value`; given several times: all of them.")] = None,
        created_from: Annotated[
            datetime | None, Query(description="Created at this time or later; with its time zone.")
        ] = None,
        created_to: Annotated[datetime | None, Query(description="Created before this time.")] = None,
        held: Annotated[bool | None, Query(description="Only those that are held, or only the others.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
        after: Annotated[str | None, Query(description="`next` of an earlier page.")] = None,
    ) -> None:
        tags: dict[str, str] = {}
        for key, value in map(_key_and_value, tag or ()):
            if tags.setdefault(key, value) != value:
                raise InvalidRequest(f"no instance has two values of one tag: {key!r} is {tags[key]!r} and {value!r}")
        self.options = ListOptions(
            status=status or (),
            tags=tags,
            created_from=created_from,
            created_to=created_to,
            held=held,
            limit=limit,
            after=after,
        )
        if name is not None:
            self.options["name"] = name
        if prefix is not None:
            self.options["prefix"] = prefix


def _key_and_value(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise InvalidRequest(f"a tag is key=value, found {text!r}")
    return key, value


_STARTED: Answers = problems(409, 413, 415, 422, 503) | {
    200: {"model": StartedModel, "description": "An instance of this id was there, and is given back."},
    201: {"headers": {"Location": {"description": "The instance.", "schema": {"type": "string"}}}},
}


class _Routes:
    """The routes under /v1."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.router = router = APIRouter(prefix="/v1/instances", tags=["instances"])
        one = "/{instance_id}"
        add = router.add_api_route
        seen, asked = problems(404, 422, 503), problems(404, 409, 413, 422, 503)
        still: Answers = {202: {"model": InstanceModel, "description": "It has not ended."}}
        posted: dict[str, Any] = {"methods": ["POST"], "dependencies": [Depends(_check_is_json)]}
        add("", self.start, status_code=201, response_model=StartedModel, responses=_STARTED, **posted)
        add("", self.list, methods=["GET"], response_model=PageModel, responses=problems(422, 503))
        add(one, self.get, methods=["GET"], response_model=InstanceModel, responses=seen)
        add(f"{one}/result", self.result, methods=["GET"], response_model=InstanceModel, responses=seen | still)
        add(f"{one}/history", self.history, methods=["GET"], response_model=HistoryModel, responses=seen)
        changed: dict[str, Any] = {"status_code": 204, "response_description": "It is durable."}
        posted |= changed | {"responses": asked | problems(415)}
        body = {"requestBody": {"content": {"application/json": {"schema": {}, "example": {"approved": True}}}}}
        add(f"{one}/events/{{event}}", self.raise_event, openapi_extra=body, **posted)
        for change in (self.cancel, self.terminate, self.suspend, self.resume):
            add(f"{one}/{change.__name__}", change, **posted)
        add(one, self.purge, methods=["DELETE"], responses=asked, **changed)

    async def start(self, body: StartBody, request_id: RequestId) -> Response:
        """Start an instance; answers when that is durable."""
        options = StartOptions(
            instance_id=body.instance_id,
            tags=body.tags,
            start_at=body.start_at,
            if_exists=body.if_exists,
            replace_statuses=body.replace_statuses,
            events=[(event.name, event.input) for event in body.events],
            request_id=request_id,
            tell_end=False,
        )
        request = start_of_payload(body.name, _payload(body.input), options, request_id)
        started = (await self._client.send_start(request)).started
        assert started is not None
        held = None if started.held is None else {"kind": started.held.kind, "reason": started.held.reason}
        content = {
            "instance_id": started.instance_id,
            "execution_id": started.execution_id,
            "created": started.created,
            "held": held,
        }
        location = {"Location": f"/v1/instances/{to_segment(started.instance_id)}"}
        return _json(content, 201 if started.created else 200, location)

    async def list(self, filters: Annotated[_Filters, Depends()]) -> Response:
        """List instances, newest first."""
        return _json(await self._client.transport.list(make_list(filters.options), self._client.timeout))

    async def get(self, instance_id: InstanceId) -> Response:
        """Get one instance."""
        return _json(await self._get(instance_id))

    async def _get(self, instance_id: str) -> View:
        return await self._client.transport.get(instance_id, self._client.timeout)

    async def result(
        self,
        instance_id: InstanceId,
        wait: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX, description="Seconds to wait for the end.")] = 0,
    ) -> Response:
        """Wait for an instance to end: 200 with the instance, or 202 when it has not ended in time."""
        view = await self._client.transport.wait(instance_id, wait, None) if wait else None
        if view is None:
            view = await self._get(instance_id)
        return _json(view, 200 if Status[view["status"]].terminal else 202)

    async def history(self, instance_id: InstanceId) -> Response:
        """Get all turns of an instance."""
        return _json(await self._client.transport.history(instance_id, self._client.timeout))

    async def raise_event(
        self,
        instance_id: InstanceId,
        event: Annotated[str, Path(description="The event's name; case does not matter.")],
        request_id: RequestId,
        request: Request,
    ) -> Response:
        """Raise an external event; the body is its payload, any JSON."""
        body = await request.body()
        try:
            value = decode_json(body) if body else None
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"the body is no JSON: {error}") from error
        return await self._change(instance_id, event_of_payload(_unescaped(event), _payload(value)), request_id)

    async def cancel(self, instance_id: InstanceId, request_id: RequestId, body: ReasonBody | None = None) -> Response:
        """Ask an instance to stop, so that it can compensate."""
        return await self._change(instance_id, Cancel(_reason(body)), request_id)

    async def terminate(
        self, instance_id: InstanceId, request_id: RequestId, body: TerminateBody | None = None
    ) -> Response:
        """End an instance without asking it."""
        body = body or TerminateBody()
        change = make_terminate(body.reason, recursive=body.recursive)
        return await self._change(instance_id, change, request_id)

    async def suspend(self, instance_id: InstanceId, request_id: RequestId, body: ReasonBody | None = None) -> Response:
        """Let an instance decide nothing until it is resumed."""
        return await self._change(instance_id, Suspend(_reason(body)), request_id)

    async def resume(self, instance_id: InstanceId, request_id: RequestId, body: ReasonBody | None = None) -> Response:
        """Let an instance go on, or try again what holds it."""
        return await self._change(instance_id, Resume(_reason(body)), request_id)

    async def purge(
        self,
        instance_id: InstanceId,
        request_id: RequestId,
        force: Annotated[bool, Query(description="A running one too.")] = False,
    ) -> Response:
        """Forget an instance that has ended; with `force` a running one too."""
        return await self._change(instance_id, Purge(force), request_id)

    async def _change(self, instance_id: str, change: Change, request_id: str) -> Response:
        await self._client.transport.change(instance_id, change, request_id, self._client.timeout)
        return Response(status_code=204)


def _payload(value: Any) -> bytes:
    """JSON that came as JSON, integers of any size included."""
    try:
        return payload_of(value)
    except ValueRefused as error:
        raise InvalidRequest(str(error)) from error


def _reason(body: ReasonBody | None) -> str:
    return "" if body is None else checked_reason(body.reason)
