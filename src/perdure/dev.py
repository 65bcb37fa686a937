"""`perdure dev`: a hub, a worker and the API in one process, in one directory, with no broker."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from .serve.server import STOP_SECONDS_MAX, bind
from .worker import Worker
from .worker_process import tune_memory, worker_settings

LONG_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `run_dev` is told. `partitions` are those of a new hub; `ready` is called with the API's address, `stopping` with how many
    seconds a stop may take, where it is not over at once."""

    settings: Settings
    partitions: int | None = None
    replay: bool = True
    port_is_free: bool = False
    ready: Callable[[str], None] = lambda _url: None
    stopping: Callable[[float], None] = lambda _seconds: None


def run_dev(app: App, options: DevOptions) -> int:
    """Run until SIGTERM or SIGINT; return the exit code. Raises ConfigError and HubError: another process has the directory."""
    settings = options.settings
    start_logs(settings)
    check_address(settings.host, settings.token)
    with _telling_of_a_long_stop(options) as stop_asked, ExitStack() as stack, open_errors():
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

        def ask_to_stop() -> None:
            worker.ask_to_stop()
            stop_asked.set()

        stop_on_signals(ask_to_stop)
        server.start(ended=worker.stop)
        stack.callback(server.close)
        running = RunningDev(server.url, os.getpid(), str(settings.dir))
        running.save()
        stack.callback(running.forget)
        options.ready(server.url)
        tune_memory()
        worker.run()
    return 0


@contextmanager
def _telling_of_a_long_stop(options: DevOptions) -> Iterator[threading.Event]:
    """To be set when a stop is asked for, by a signal handler and nobody else on its thread: it would wait for what it interrupts."""
    asked, over = threading.Event(), threading.Event()

    def watch() -> None:
        asked.wait()
        if not over.wait(LONG_STOP_SECONDS):
            options.stopping(options.settings.drain_timeout + STOP_SECONDS_MAX)

    threading.Thread(target=watch, name="perdure-dev-stop", daemon=True).start()
    try:
        yield asked
    finally:
        over.set()


def _make_server(worker: Worker, log: EmbeddedLog, options: DevOptions) -> ApiServer:
    settings = options.settings
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    client = AsyncClient.over(log.share(), timeout=settings.request_timeout)
    api = create_api(client, settings.token, ApiParts(registry, lambda: readiness(worker)))
    return ApiServer(api, bind(settings.host, settings.port, or_any=options.port_is_free))
