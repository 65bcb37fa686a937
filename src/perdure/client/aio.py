"""The client, async: the one that does the work; `client.sync` is its other face."""

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload
from uuid import uuid4

from typing_extensions import Unpack

from perdure.actors.orchestration import Orchestration
from perdure.errors import HubUnavailable, NoAnswer, WaitTimeout
from perdure.partitions.ports import Log
from perdure.schemas.messages import Cancel, Purge, Resume, Suspend

from .requests import (
    ListOptions,
    Started,
    StartOptions,
    StartRequest,
    checked_id,
    checked_reason,
    checked_seconds,
    judge_end,
    make_event,
    make_list,
    make_start,
    make_terminate,
)
from .transport import Change, Ticket, Transport
from .views import Held, History, Instance, Page, encode_json, history_of, instance_of, page_of

I = TypeVar("I")  # noqa: E741 - input and output, as everywhere
O = TypeVar("O")  # noqa: E741
REQUEST_SECONDS = 30.0
_GLANCE_SECONDS = 2.0
_NO_PROPERTIES: Mapping[str, str | int | float | bool] = {}


class AsyncHandle(Generic[O]):
    """One instance, to ask things of. A handle from `start` also says what the start came to (`started`)."""

    def __init__(
        self,
        client: "AsyncClient",
        instance_id: str,
        orchestration: "Orchestration[Any, O] | None" = None,
        started: Started | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        self._client = client
        self._orchestration = orchestration
        self._ticket = ticket
        self.id = instance_id
        self.started = started

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    @property
    def held(self) -> Held | None:
        """Why the start is held, if it is: no worker knows the orchestration, for example. It goes on when one does."""
        return self.started.held if self.started is not None else None

    async def result(self, timeout: float | None = None) -> O:
        """Wait for the end and return what the orchestration returned. Raises NotCompleted or one of its kinds, WaitTimeout,
        InstanceNotFound."""
        instance = await self.wait(timeout)
        value = judge_end(instance)
        if self._orchestration is None:
            return cast("O", value)
        return cast("O", self._orchestration.result_codec.decode(encode_json(value)))

    async def wait(self, timeout: float | None = None) -> Instance:
        """Wait for the end, whatever it is. Raises WaitTimeout after `timeout` seconds; the instance goes on."""
        transport = self._client.transport
        view = await transport.wait(self.id, checked_seconds(timeout), self._ticket)
        if view is None:
            return await self._glance(timeout or 0)
        return instance_of(view)

    async def _glance(self, timeout: float) -> Instance:
        """A last look after a wait, whose end may have come meanwhile. Raises WaitTimeout."""
        try:
            instance = await self.get(timeout=_GLANCE_SECONDS)
        except (NoAnswer, HubUnavailable):
            text = f"instance {self.id!r} was not heard of for {timeout:g} s, and nobody answers for it now; is a worker running?"
            raise WaitTimeout(text, self.id) from None
        if instance.status.terminal:
            return instance
        text = f"instance {self.id!r} has not ended within {timeout:g} s; it is {instance.status.name} and goes on"
        if instance.held is not None:
            text += f" once what holds it is gone: {instance.held.reason}"
        raise WaitTimeout(text, self.id)

    async def get(self, timeout: float | None = None) -> Instance:
        """The instance now."""
        return instance_of(await self._client.transport.get(self.id, self._client.seconds(timeout)))

    async def history(self) -> History:
        """All its turns."""
        return history_of(await self._client.transport.history(self.id, self._client.seconds(None)))

    async def raise_event(self, name: str, value: Any = None) -> None:
        """Raise an external event; returns when that is durable."""
        await self._change(make_event(name, value))

    async def cancel(self, reason: str = "") -> None:
        """Ask it to stop: raises OrchestrationCanceled inside, and in its children, so that they can compensate."""
        await self._change(Cancel(checked_reason(reason)))

    async def terminate(self, reason: str = "", *, recursive: bool = True) -> None:
        """End it without asking, and its children too; `reason` becomes its result."""
        await self._change(make_terminate(reason, recursive=recursive))

    async def suspend(self, reason: str = "") -> None:
        """Let it decide nothing until `resume`; what happens meanwhile is kept for it."""
        await self._change(Suspend(checked_reason(reason)))

    async def resume(self, reason: str = "") -> None:
        """Let it go on after `suspend`, or try again what holds it."""
        await self._change(Resume(checked_reason(reason)))

    async def purge(self, *, force: bool = False) -> None:
        """Forget it. A running instance is forgotten only with `force`."""
        await self._change(Purge(force))

    async def _change(self, change: Change) -> None:
        await self._client.transport.change(self.id, change, uuid4().hex, self._client.seconds(None))


class AsyncClient:
    """Starts instances and asks things of them. Opens itself at first use; close it, or use it in `async with`.

    Belongs to one asyncio loop. `timeout` is how many seconds a request may take, waits for an end apart.
    """

    def __init__(self, transport: Transport, *, timeout: float = REQUEST_SECONDS) -> None:
        self.transport = transport
        self.timeout = checked_seconds(timeout) or 0.0

    @classmethod
    def connect(cls, **flags: Any) -> Self:
        """Find the hub by the configuration: PERDURE_* variables over perdure.toml, or a `perdure dev` that runs near here.
        `flags` are settings by name, over both. Raises ConfigError, and HubRefused where the hub that runs here is another."""
        from perdure.config import as_argument, load_settings
        from perdure.connection import connect_transport

        loaded = load_settings(flags, spell=as_argument)
        return cls(connect_transport(loaded), timeout=loaded.settings.request_timeout)

    @classmethod
    def kafka(
        cls,
        hub: str,
        brokers: str,
        *,
        properties: Mapping[str, str | int | float | bool] = _NO_PROPERTIES,
        timeout: float = REQUEST_SECONDS,
    ) -> Self:
        """A client that needs nothing but Kafka. `properties` are librdkafka's (`[kafka]` in perdure.toml)."""
        from perdure.connection import kafka_transport

        seconds = checked_seconds(timeout) or 0.0
        return cls(kafka_transport(hub, brokers, properties, seconds), timeout=seconds)

    @classmethod
    def http(cls, url: str, token: str = "", *, timeout: float = REQUEST_SECONDS) -> Self:
        """A client of `perdure serve` or `perdure dev`."""
        from .http_transport import HttpTransport

        return cls(HttpTransport(url, token), timeout=timeout)

    @classmethod
    def over(cls, log: Log, *, timeout: float = REQUEST_SECONDS) -> Self:
        """A client in the process of its hub, on a log handle of its own, which it closes: `EmbeddedLog.share()`."""
        from .log_transport import LogTransport

        return cls(LogTransport(lambda: log), timeout=timeout)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Find the hub now, or see that it is still there. Raises HubError."""
        await self.transport.open(self.timeout)

    async def close(self) -> None:
        await self.transport.close()

    def seconds(self, timeout: float | None) -> float:
        """How long one request may take."""
        return self.timeout if timeout is None else checked_seconds(timeout) or 0.0

    @overload
    async def start(
        self, orchestration: Orchestration[None, O], input: None = None, **options: Unpack[StartOptions]
    ) -> AsyncHandle[O]: ...
    @overload
    async def start(
        self, orchestration: Orchestration[I, O], input: I, **options: Unpack[StartOptions]
    ) -> AsyncHandle[O]: ...
    @overload
    async def start(
        self, orchestration: str, input: Any = None, **options: Unpack[StartOptions]
    ) -> AsyncHandle[Any]: ...
    async def start(
        self,
        orchestration: Orchestration[Any, Any] | str,
        input: Any = None,  # noqa: A002 - as the programming model calls it
        **options: Unpack[StartOptions],
    ) -> AsyncHandle[Any]:
        """Start an instance; returns when that is durable. Without an `instance_id` it gets a new one.

        Raises InvalidRequest before anything is sent, InstanceAlreadyExists, and StartUnknown where nobody answered.
        """
        request = make_start(orchestration, input, options, uuid4().hex)
        definition = None if isinstance(orchestration, str) else orchestration
        return await self.send_start(request, definition)

    async def send_start(
        self, request: StartRequest, orchestration: Orchestration[Any, Any] | None = None
    ) -> AsyncHandle[Any]:
        """Start what was checked already."""
        started, ticket = await self.transport.start(request, self.timeout)
        return AsyncHandle(self, request.instance_id, orchestration, started, ticket)

    @overload
    def instance(self, instance_id: str) -> AsyncHandle[Any]: ...
    @overload
    def instance(self, instance_id: str, orchestration: Orchestration[Any, O]) -> AsyncHandle[O]: ...
    def instance(self, instance_id: str, orchestration: Orchestration[Any, Any] | None = None) -> AsyncHandle[Any]:
        """The handle of an instance that is there already; `orchestration` says how its result is read. Asks nothing yet."""
        return AsyncHandle(self, checked_id(instance_id), orchestration)

    async def list(self, **options: Unpack[ListOptions]) -> Page:
        """One page of instances, newest first, from the index and never from histories."""
        return page_of(await self.transport.list(make_list(options), self.timeout))

    async def list_all(self, **options: Unpack[ListOptions]) -> AsyncIterator[Instance]:
        """Every instance that meets the conditions, page by page. Raises NoAnswer where a partition is silent."""
        while True:
            page = await self.list(**options)
            if page.silent:
                raise NoAnswer(f"partitions {', '.join(map(str, page.silent))} did not answer; is a worker running?")
            for instance in page:
                yield instance
            if page.next is None:
                return
            options["after"] = page.next
