"""Looking at an embedded hub that nobody runs: its log is folded in memory over the newest snapshot; nothing is written."""

import asyncio
from pathlib import Path
from typing import NoReturn, cast

import orjson

from perdure.clock import SystemClock
from perdure.errors import HubRefused, HubUnavailable
from perdure.partitions.embedded.reader import EmbeddedReader
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import Log, Store, StoreCorrupt
from perdure.partitions.queries import Queries, Replies
from perdure.partitions.recovery import PartitionRefused, read_only
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.events import Status
from perdure.schemas.messages import Query, QueryKind

from .hubs import open_errors
from .merging import merge_pages
from .requests import ListRequest, Started, StartRequest, judge
from .transport import Change, Ticket
from .views import View

STORES = "stores"


class DirectoryTransport:
    """The reads of `client.transport.Transport`, as of the moment of the first one. The rest needs somebody who runs the hub."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader: EmbeddedReader | None = None
        self._stores: RocksStores | None = None
        self._views: dict[int, tuple[Store, int]] = {}

    async def open(self, seconds: float) -> None:
        await asyncio.to_thread(self._opened)

    def _opened(self) -> EmbeddedReader:
        if self._reader is None:
            with open_errors():
                self._reader = EmbeddedReader(self._directory)
                self._stores = RocksStores(self._directory / STORES)
        return self._reader

    async def close(self) -> None:
        for store, _ in self._views.values():
            store.close()
        self._views.clear()

    async def get(self, instance_id: str, seconds: float) -> View:
        return await self._ask(instance_id, QueryKind.GET)

    async def history(self, instance_id: str, seconds: float) -> View:
        view: View = {"next": 1}
        turns: list[View] = []
        while view["next"] is not None:
            view = await self._ask(instance_id, QueryKind.HISTORY, {"from": view["next"]})
            turns += view["turns"]
        return {"instance": view["instance"], "turns": turns}

    async def wait(self, instance_id: str, seconds: float | None, ticket: Ticket | None) -> View | None:
        view = await self.get(instance_id, 0)
        if not Status[view["status"]].terminal:
            self._refuse(f"instance {instance_id!r} is {view['status']}")
        return view

    async def list(self, request: ListRequest, seconds: float) -> View:
        instances: list[View] = []
        after: str | None = request.arguments.get("after")
        while True:
            wanted = min(request.limit - len(instances), 1000)
            arguments = {**request.arguments, "limit": wanted, **({"after": after} if after else {})}
            count = self._opened().identity.partition_count
            pages = [await self._read(partition, "", QueryKind.LIST, arguments) for partition in range(count)]
            more, after = merge_pages(pages, wanted)
            instances += more
            if after is None or len(instances) >= request.limit:
                return {"instances": instances, "next": after, "silent": []}

    async def start(self, request: StartRequest, seconds: float) -> tuple[Started, Ticket | None]:
        self._refuse("nothing can be started")

    async def change(self, instance_id: str, change: Change, request_id: str, seconds: float) -> None:
        self._refuse("nothing can be asked of an instance")

    def _refuse(self, what: str) -> NoReturn:
        raise HubUnavailable(f"{what}, and nobody runs the hub in {self._directory}; start `perdure dev`")

    async def _ask(self, instance_id: str, kind: QueryKind, arguments: View | None = None) -> View:
        count = self._opened().identity.partition_count
        return await self._read(partition_of(instance_id, count), instance_id, kind, arguments)

    async def _read(self, partition: int, instance_id: str, kind: QueryKind, arguments: View | None = None) -> View:
        code, body = await asyncio.to_thread(
            self._answer, partition, instance_id, Query(kind, orjson.dumps(arguments or {}))
        )
        return judge(code, body, instance_id)

    def _answer(self, partition: int, instance_id: str, query: Query) -> tuple[int, bytes]:
        store, as_of = self._view(partition)
        # A read sends no replies, so there is nobody to give it.
        return Queries(store, partition, cast("Replies", None), SystemClock()).read(instance_id, query, as_of)

    def _view(self, partition: int) -> tuple[Store, int]:
        if partition not in self._views:
            reader = self._opened()
            assert self._stores is not None
            try:
                with open_errors():
                    base = self._open_base(partition)
                    self._views[partition] = read_only(cast("Log", reader), partition, base)
            except PartitionRefused as error:
                raise HubRefused(str(error)) from error
        return self._views[partition]

    def _open_base(self, partition: int) -> Store | None:
        """The newest snapshot, if it can be read: without it the log is folded from its start (R14)."""
        assert self._stores is not None
        try:
            return self._stores.open_reader(partition)
        except StoreCorrupt:
            return None
