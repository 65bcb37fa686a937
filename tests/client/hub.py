"""A hub in this process for the tests of clients, API and commands: the embedded log and a worker in a thread."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext
from perdure.actors.limits import DEFAULT_LIMITS
from perdure.actors.tasks import when_all
from perdure.partitions.embedded.log import EmbeddedLog
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.membership import SoleMembership
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import Assigned
from perdure.partitions.rocksdb import RocksStores
from perdure.worker import Worker, WorkerSettings

PARTITIONS = 3
LIMIT = DEFAULT_LIMITS.payload_bytes_max
app = App()


@app.activity
def greet(name: str) -> str:
    if name == "nobody":
        raise ValueError("nobody is there")
    return f"hello {name}"


@app.orchestration
async def welcome(ctx: OrchestrationContext, name: str) -> str:
    return await ctx.call_activity(greet, name)


@app.orchestration
async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


@app.orchestration
async def big(ctx: OrchestrationContext, value: int) -> int:
    return value + 1


@app.orchestration
async def calls_by_name(ctx: OrchestrationContext, activity: str) -> Any:
    return await ctx.call_activity(activity, activity)


@app.orchestration
async def listen(ctx: OrchestrationContext) -> Any:
    ctx.set_custom_status("listening")
    return await ctx.wait_for_external_event("go")


@app.orchestration
async def family(ctx: OrchestrationContext, value: str) -> list[int]:
    """Children on every partition, each with all of the input; the sizes of what they give back."""
    names = [f"{ctx.instance_id}-{number}" for number in range(100)]
    homes = {partition_of(name, PARTITIONS): name for name in names}
    children = [ctx.call_sub_orchestrator(echo, value, instance_id=name) for name in homes.values()]
    return [len(result) for result in await when_all(children)]


@app.activity
def make_text(size: int) -> str:
    return "x" * (size - 2)


@app.orchestration
async def greedy(ctx: OrchestrationContext, size: int) -> int:
    return len(await ctx.call_activity(make_text, size))


class ShareOf(SoleMembership):
    """Membership of a worker that owns some partitions, where nobody owns the others."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(0)
        self._changes = [Assigned(tuple(partitions))]


class RunningHub:
    """A hub with a worker."""

    def __init__(self, directory: Path, code: App = app) -> None:
        self.log = EmbeddedLog.open(directory, partition_count=PARTITIONS)
        self._stores = RocksStores(directory / "stores")
        self._code = code
        self._start_worker()

    def _start_worker(self, partitions: Sequence[int] = range(PARTITIONS)) -> None:
        membership = ShareOf(partitions)
        self.worker = Worker(self._code, self.log, membership, self._stores, WorkerSettings(OwnerSettings("test")))
        self._thread = threading.Thread(target=self.worker.run, daemon=True)
        self._thread.start()

    def stop_worker(self) -> None:
        """Nobody answers from here on."""
        self.worker.stop()
        self._thread.join(30)

    def restart_worker(self, code: App | None = None, partitions: Sequence[int] = range(PARTITIONS)) -> None:
        self._code = code or self._code
        self._start_worker(partitions)

    def close(self) -> None:
        self.stop_worker()
        self._stores.close()
        self.log.close()


@contextmanager
def running_hub(directory: Path, code: App = app) -> Iterator[RunningHub]:
    hub = RunningHub(directory, code)
    try:
        yield hub
    finally:
        hub.close()
