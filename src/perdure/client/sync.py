"""The client, for code that is not async: the same calls, made on a loop in a thread of the client's own. Any thread may call."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from typing_extensions import Unpack

from perdure.actors.orchestration import Orchestration
from perdure.errors import HubUnavailable
from perdure.partitions.ports import Log

from .aio import REQUEST_SECONDS, AsyncClient, AsyncHandle
from .log_thread import CLOSED
from .requests import ListOptions, Started, StartOptions
from .views import Held, History, Instance, Page

I = TypeVar("I")  # noqa: E741 - input and output, as everywhere
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")
_NO_PROPERTIES: Mapping[str, str | int | float | bool] = {}


class _LoopThread:
    """An asyncio loop that runs until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._waits: set[Future[Any]] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-client-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop; an interrupt of the waiting thread cancels it. Raises HubUnavailable where the loop is closed
        meanwhile."""
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("the client is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._waits.add(future)
        try:
            return future.result()
        except CancelledError:
            if self._closed:
                raise HubUnavailable(CLOSED) from None
            raise
        except BaseException:
            future.cancel()
            raise
        finally:
            self._waits.discard(future)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """End the loop, after `last`. Whoever waits for something on it is told: nobody else would ever do that."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for wait in tuple(self._waits):
            wait.cancel()
        try:
            if last is not None:
                asyncio.run_coroutine_threadsafe(last(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Handle(Generic[O]):
    """One instance, to ask things of. A handle from `start` also says what the start came to (`started`)."""

    def __init__(self, inner: AsyncHandle[O], run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._inner = inner
        self._run = run

    def __repr__(self) -> str:
        return f"<Handle {self.id!r}>"

    @property
    def id(self) -> str:
        return self._inner.id

    @property
    def started(self) -> Started | None:
        return self._inner.started

    @property
    def held(self) -> Held | None:
        """Why the start is held, if it is: no worker knows the orchestration, for example. It goes on when one does."""
        return self._inner.held

    def result(self, timeout: float | None = None) -> O:
        """Wait for the end and return what the orchestration returned. Raises NotCompleted or one of its kinds, WaitTimeout,
        InstanceNotFound."""
        result: O = self._run(self._inner.result(timeout))
        return result

    def wait(self, timeout: float | None = None) -> Instance:
        """Wait for the end, whatever it is. Raises WaitTimeout after `timeout` seconds; the instance goes on."""
        instance: Instance = self._run(self._inner.wait(timeout))
        return instance

    def get(self, timeout: float | None = None) -> Instance:
        """The instance now."""
        instance: Instance = self._run(self._inner.get(timeout))
        return instance

    def history(self) -> History:
        """All its turns."""
        history: History = self._run(self._inner.history())
        return history

    def raise_event(self, name: str, value: Any = None) -> None:
        """Raise an external event; returns when that is durable."""
        self._run(self._inner.raise_event(name, value))

    def cancel(self, reason: str = "") -> None:
        """Ask it to stop: raises OrchestrationCanceled inside, and in its children, so that they can compensate."""
        self._run(self._inner.cancel(reason))

    def terminate(self, reason: str = "", *, recursive: bool = True) -> None:
        """End it without asking; `reason` becomes its result."""
        self._run(self._inner.terminate(reason, recursive=recursive))

    def suspend(self, reason: str = "") -> None:
        """Let it decide nothing until `resume`; what happens meanwhile is kept for it."""
        self._run(self._inner.suspend(reason))

    def resume(self, reason: str = "") -> None:
        """Let it go on after `suspend`, or try again what holds it."""
        self._run(self._inner.resume(reason))

    def purge(self, *, force: bool = False) -> None:
        """Forget it. A running instance is forgotten only with `force`."""
        self._run(self._inner.purge(force=force))


class Client:
    """Starts instances and asks things of them. Opens itself at first use; close it, or use it in `with`.

    Any thread may use it. `timeout` is how many seconds a request may take, waits for an end apart.
    """

    def __init__(self, make: Callable[[], AsyncClient]) -> None:
        self._loop = _LoopThread()

        async def make_on_loop() -> AsyncClient:
            return make()

        try:
            self._inner = self._run(make_on_loop())
        except BaseException:
            self._loop.close()
            raise

    @classmethod
    def connect(cls, **flags: Any) -> Self:
        """Find the hub by the configuration: PERDURE_* variables over perdure.toml, or a `perdure dev` that runs near here.
        `flags` are settings by name, over both. Raises ConfigError."""
        return cls(lambda: AsyncClient.connect(**flags))

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
        return cls(lambda: AsyncClient.kafka(hub, brokers, properties=properties, timeout=timeout))

    @classmethod
    def http(cls, url: str, token: str = "", *, timeout: float = REQUEST_SECONDS) -> Self:
        """A client of `perdure serve` or `perdure dev`."""
        return cls(lambda: AsyncClient.http(url, token, timeout=timeout))

    @classmethod
    def over(cls, log: Log, *, timeout: float = REQUEST_SECONDS) -> Self:
        """A client in the process of its hub, on a log handle of its own, which it closes: `EmbeddedLog.share()`."""
        return cls(lambda: AsyncClient.over(log, timeout=timeout))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Find the hub now, or see that it is still there. Raises HubError."""
        self._run(self._inner.open())

    def close(self) -> None:
        """Let the hub go. Who waits in another thread gets HubUnavailable; what was asked for goes on."""
        self._loop.close(self._inner.close)

    @overload
    def start(
        self, orchestration: Orchestration[None, O], input: None = None, **options: Unpack[StartOptions]
    ) -> Handle[O]: ...
    @overload
    def start(self, orchestration: Orchestration[I, O], input: I, **options: Unpack[StartOptions]) -> Handle[O]: ...
    @overload
    def start(self, orchestration: str, input: Any = None, **options: Unpack[StartOptions]) -> Handle[Any]: ...
    def start(
        self,
        orchestration: Orchestration[Any, Any] | str,
        input: Any = None,  # noqa: A002 - as the programming model calls it
        **options: Unpack[StartOptions],
    ) -> Handle[Any]:
        """Start an instance; returns when that is durable. Without an `instance_id` it gets a new one.

        Raises InvalidRequest before anything is sent, InstanceAlreadyExists, and StartUnknown where nobody answered.
        """
        return Handle(self._run(self._inner.start(orchestration, input, **options)), self._run)

    @overload
    def instance(self, instance_id: str) -> Handle[Any]: ...
    @overload
    def instance(self, instance_id: str, orchestration: Orchestration[Any, O]) -> Handle[O]: ...
    def instance(self, instance_id: str, orchestration: Orchestration[Any, Any] | None = None) -> Handle[Any]:
        """The handle of an instance that is there already; `orchestration` says how its result is read. Asks nothing yet."""
        inner = (
            self._inner.instance(instance_id)
            if orchestration is None
            else self._inner.instance(instance_id, orchestration)
        )
        return Handle(inner, self._run)

    def list(self, **options: Unpack[ListOptions]) -> Page:
        """One page of instances, newest first, from the index and never from histories."""
        return self._run(self._inner.list(**options))

    def list_all(self, **options: Unpack[ListOptions]) -> Iterator[Instance]:
        """Every instance that meets the conditions, page by page. Raises NoAnswer where a partition is silent."""
        pages = self._inner.list_all(**options)
        while (instance := self._run(_next(pages))) is not None:
            yield instance


async def _next(instances: AsyncIterator[Instance]) -> Instance | None:
    return await anext(instances, None)
