"""A worker process that is to suffer: the real one, with wrapped ports. `python -m tests.chaos.worker kafka` or `… embedded`.

Settings come from PERDURE_* variables as ever, what it is to suffer from CHAOS_*.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import structlog

import perdure.dev
import perdure.partitions.kafka
import perdure.worker
import perdure.worker_process
from perdure.config import load_settings
from perdure.dev import DevOptions, run_dev
from perdure.errors import PerdureError
from perdure.worker_process import run_worker
from tests.simulation.bugs.catalogue import BUGS
from tests.simulation.bugs.planting import planted

from .app import make_real_app
from .wrapping import Stages, StruckLog, StruckMembership, StruckPool, StruckStores

_log = structlog.get_logger("tests.chaos")
PARTITIONS_VARIABLE = "CHAOS_PARTITIONS"
BUG_VARIABLE = "CHAOS_BUG"
"""A bug of the simulator's catalogue, for the tests of whoever judges these runs."""


def wrap_ports() -> None:
    """Put the wrappers where a worker is put together."""
    stages = Stages()
    kafka: Any = perdure.partitions.kafka
    dev: Any = perdure.dev
    process: Any = perdure.worker_process

    def wrapped(kind: Any, *more: Any) -> Any:
        return lambda make: lambda *given, **named: kind(make(*given, **named), *more)

    kafka.KafkaLog.open = wrapped(StruckLog, stages)(kafka.KafkaLog.open)
    kafka.KafkaMembership = wrapped(StruckMembership)(kafka.KafkaMembership)
    dev.EmbeddedLog.open = wrapped(StruckLog, stages)(dev.EmbeddedLog.open)
    dev.SoleMembership = wrapped(StruckMembership)(dev.SoleMembership)
    dev.RocksStores = wrapped(StruckStores, stages)(dev.RocksStores)
    process.RocksStores = wrapped(StruckStores, stages)(process.RocksStores)
    worker: Any = perdure.worker
    worker.LocalPool = wrapped(StruckPool)(worker.LocalPool)


def run(log: str) -> int:
    """Work until told to stop; return the exit code."""
    with ExitStack() as stack:
        for bug in BUGS:
            if bug.name == os.environ.get(BUG_VARIABLE):
                stack.enter_context(planted(bug))
        return _work(log)


def _work(log: str) -> int:
    wrap_ports()
    settings = load_settings({}).settings
    app = make_real_app()
    try:
        if log == "kafka":
            return run_worker(app, settings, 0)
        return run_dev(app, DevOptions(settings, int(os.environ[PARTITIONS_VARIABLE]), replay=False))
    except PerdureError as error:  # what the command line says in a sentence
        _log.error("worker.refused", reason=str(error))
        return 1


def run_forked(log: str, variables: Mapping[str, str], out: Path) -> None:
    """The same in a process that was forked for it, which ends with the process that wanted it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(variables)
    file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    threading.Thread(target=_follow_parent, daemon=True).start()
    sys.exit(run(log))


def _follow_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
