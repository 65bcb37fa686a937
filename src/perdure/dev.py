"""`perdure dev`: a hub, a worker and the API in one process, in one directory, with no broker."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from prometheus_client import CollectorRegistry

from perdure.actors.app import App
from perdure.partitions.embedded import EmbeddedLog
from perdure.partitions.membership import SoleMembership
from perdure.partitions.rocksdb import RocksStores

from .client import AsyncClient
from .client.directory_transport import STORES
from .client.hubs import open_errors
from .config import Settings
from .connection import RunningDev
from .health import readiness
from .logs import start_logs
from .metrics import WorkerCollector
from .processes import stop_on_signals
from .serve import ApiParts, ApiServer, check_address, create_api
from .serve.server import bind
from .worker import Worker
from .worker_process import tune_memory, worker_settings


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `run_dev` is told. `partitions` are those of a new hub; `ready` is called with the API's address."""

    settings: Settings
    partitions: int | None = None
    replay: bool = True
    port_is_free: bool = False
    ready: Callable[[str], None] = lambda _url: None


def run_dev(app: App, options: DevOptions) -> int:
    """Run until SIGTERM or SIGINT; return the exit code. Raises ConfigError and HubError: another process has the directory."""
    settings = options.settings
    start_logs(settings)
    check_address(settings.host, settings.token)
    with ExitStack() as stack, open_errors():
        log = EmbeddedLog.open(settings.dir, hub=settings.hub, partition_count=options.partitions)
        stack.callback(log.close)
        stores = RocksStores(settings.dir / STORES)
        stack.callback(stores.close)
        stores.hold()
        membership = SoleMembership(log.identity.partition_count)
        wanted = worker_settings(settings, 0, app.limits, replay_always=options.replay)
        wanted = replace(wanted, owner=replace(wanted.owner, alone=True))  # the directory has no other process
        worker = Worker(app, log, membership, stores, wanted)
        server = _make_server(worker, log, options)
        stop_on_signals(worker.ask_to_stop)
        server.start(ended=worker.stop)
        stack.callback(server.close)
        running = RunningDev(server.url, os.getpid(), str(settings.dir))
        running.save()
        stack.callback(running.forget)
        options.ready(server.url)
        tune_memory()
        worker.run()
    return 0


def _make_server(worker: Worker, log: EmbeddedLog, options: DevOptions) -> ApiServer:
    settings = options.settings
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    client = AsyncClient.over(log.share(), timeout=settings.request_timeout)
    api = create_api(client, settings.token, ApiParts(registry, lambda: readiness(worker)))
    return ApiServer(api, bind(settings.host, settings.port, or_any=options.port_is_free))
