"""A worker process: the parts of a worker, made from the configuration, from start to exit."""

import gc
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from errno import EADDRINUSE
from typing import TypeVar

import structlog

from perdure.actors.app import App
from perdure.actors.limits import Limits
from perdure.partitions.holdings import CLOCK_SKEW_MS_MAX, OwnerSettings
from perdure.partitions.pool import PoolSettings
from perdure.partitions.ports import LogRefused, LogUnavailable
from perdure.partitions.rocksdb import RocksStores
from perdure.partitions.skew import check_clock
from perdure.partitions.topics import HubTopics

from .client.hubs import open_errors
from .clock import SystemClock
from .config import Settings
from .connection import kafka_settings_of
from .errors import ConfigError
from .health import HealthServer
from .logs import start_logs
from .masking import masked_failure
from .peers import TcpPeers
from .processes import stop_on_signals
from .worker import Worker, WorkerSettings

OPEN_PAUSE_SECONDS = 1.0
OPEN_PAUSE_SECONDS_MAX = 10.0

L = TypeVar("L")

_log = structlog.get_logger("perdure.worker")
# A full collection looks at every cached instance; most garbage of a turn is freed by reference counts alone.
_GC_THRESHOLDS = (50_000, 20, 100)


def run_worker(app: App, settings: Settings, slot: int, *, port_is_free: bool = False) -> int:
    """Work until SIGTERM or SIGINT; return the exit code. `port_is_free`: another port will do where it is taken.

    Brokers that are away are waited for. Raises HubError and ConfigError before the first turn; HubUnavailable later if
    membership ends for good.
    """
    from perdure.partitions.kafka import KafkaLog, KafkaMembership

    start_logs(settings)
    kafka = kafka_settings_of(settings)
    stop = Stop()
    stop_on_signals(stop.ask)
    with ExitStack() as stack, open_errors():
        health = _serve_health(settings, slot, port_is_free=port_is_free)
        stack.callback(health.close)
        _log.info("health.listening", url=health.url)
        log = wait_for_log(lambda: KafkaLog.open(kafka), stop)
        if log is None:
            return 0
        stack.callback(log.close)
        stores = RocksStores(settings.dir / f"worker-{slot}")
        stack.callback(stores.close)
        stores.hold()
        # Before it joins the group: partitions that it may not claim are for others.
        check_clock(log, SystemClock(), CLOCK_SKEW_MS_MAX)
        membership = KafkaMembership(kafka, log.wake, standbys=settings.standby)
        wanted = worker_settings(settings, slot, app.limits, session_seconds=kafka.session_seconds)
        peers = TcpPeers(wanted.owner.owner, settings.peer_host, log.wake)
        stack.callback(peers.close)
        wanted = replace(wanted, owner=replace(wanted.owner, address=peers.address))
        worker = Worker(app, log, membership, stores, wanted)
        if settings.standby:
            worker.stand_by(peers)
        health.tell_of(worker)
        stop.pass_on(worker.ask_to_stop)
        tune_memory()
        worker.run()
    return 0


class Stop:
    """A stop that may be asked for before there is anything to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._pass_on: Callable[[], None] | None = None

    def ask(self) -> None:
        self.asked = True
        if self._pass_on is not None:
            self._pass_on()

    def pass_on(self, ask: Callable[[], None]) -> None:
        self._pass_on = ask
        if self.asked:
            ask()


def wait_for_log(open_log: Callable[[], L], stop: Stop) -> L | None:
    """Open the log, as often as it takes; None where a stop is asked for. What waiting does not mend is raised: a hub that is
    missing or refused, and credentials."""
    pause = OPEN_PAUSE_SECONDS
    while not stop.asked:
        try:
            return open_log()
        except LogRefused:
            raise
        except LogUnavailable as error:
            _log.error("hub.unavailable", again_in_seconds=pause, reason=str(error))
        until = time.monotonic() + pause
        while not stop.asked and time.monotonic() < until:
            time.sleep(0.05)
        pause = min(2 * pause, OPEN_PAUSE_SECONDS_MAX)
    return None


def worker_settings(
    settings: Settings, slot: int, limits: Limits, *, session_seconds: float = 6.0, replay_always: bool = False
) -> WorkerSettings:
    """The limits of one worker process."""
    owner = OwnerSettings(
        # Unique to this process's life: in a container host and pid may be the same again after a restart (R13).
        owner=f"{socket.gethostname()}/{slot}/{os.getpid()}-{secrets.token_hex(4)}",
        inbox_topic=HubTopics(settings.hub).inbox,
        limits=limits,
        slots_max=settings.instances_cached_max,
        session_seconds=session_seconds,
        checkpoint_turns_max=settings.checkpoint_turns_max,
        checkpoint_seconds_max=settings.checkpoint_seconds_max,
        snapshot_records_min=settings.snapshot_records_min,
        retention_seconds=settings.retention.total_seconds() or None,
        replay_always=replay_always,
    )
    pool = PoolSettings(settings.activities_async_max, settings.activities_plain_max, tell=masked_failure)
    return WorkerSettings(owner, pool, drain_seconds=settings.drain_timeout, dump_stacks=True)


def tune_memory() -> None:
    """What is there now stays, so the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _serve_health(settings: Settings, slot: int, *, port_is_free: bool) -> HealthServer:
    """Process n answers on health_port + n."""
    port = settings.health_port + slot if settings.health_port else 0
    try:
        return HealthServer(None, settings.host, port)
    except OSError as error:
        if port_is_free and error.errno == EADDRINUSE:
            return HealthServer(None, settings.host, 0)
        raise ConfigError(
            f"cannot listen on {settings.host}:{port}: {error.strerror or error}; choose another --health-port"
        ) from error
