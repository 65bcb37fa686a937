"""Recovery on one partition: how fast history becomes state again, and how long the longest tail that is allowed takes."""

import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.partitions.ports import LogSpan
from perdure.partitions.recovery import CaughtUp, Claimed, catch_up_to
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.codec import decode_envelope, decode_turn
from perdure.schemas.records import RecordKind

from .bare_system import BrokerUnderTest
from .figures import Figure, figure_of
from .jobs import Job, fan_out_job, hello_job
from .kafka_system import KafkaEngine
from .measure import Load, closed_loop

PARTITION = 0
TAIL_RECORDS = OwnerSettings("bench").checkpoint_turns_max
"""What an owner appends at most between two checkpoints (5,000 turns)."""
EVENTS_AIM = 200_000.0
TAIL_AIM_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Fold:
    """One catching up: wall and CPU seconds, all threads of this process."""

    records: int
    seconds: float
    cpu_seconds: float


def measure_folding(broker: BrokerUnderTest, runs: int, directory: Path) -> Iterator[Figure]:
    """Figures of two shapes of history: few events to a turn, and many."""
    shapes = ((hello_job(5, "plain"), Load(4_000, 400)), (fan_out_job(100, "plain"), Load(400, 50)))
    for job, load in shapes:
        place = directory / job.name
        place.mkdir()
        with closing(KafkaEngine(broker, place, 1)) as engine:
            closed_loop(engine, job, load, "history")
            engine.stop()
            log = KafkaLog.open_reader(KafkaSettings(broker.servers, engine.hub))
            yield from _figures(log, job, runs, place)
            log.close()


def _figures(log: KafkaLog, job: Job, runs: int, directory: Path) -> Iterator[Figure]:
    end = log.span_history(PARTITION).end
    events = _count_events(log, end)
    whole = [_fold(log, directory / f"whole-{number}", end) for number in range(runs)]
    yield figure_of(
        f"fold, {job.name}: {end:,} records, {events:,} events",
        [events / fold.cpu_seconds for fold in whole],
        "events/s and CPU-s",
        f"at least {EVENTS_AIM:,.0f}",
    )
    if end <= TAIL_RECORDS:
        return
    before = directory / "before"
    _fold(log, before, end - TAIL_RECORDS)
    tails: list[Fold] = []
    for number in range(runs):
        copy = directory / f"tail-{number}"
        shutil.copytree(before, copy)
        tails.append(_fold(log, copy, end))
    yield figure_of(
        f"capped tail, {job.name}: {tails[0].records:,} records",
        [fold.seconds for fold in tails],
        "s",
        f"at most {TAIL_AIM_SECONDS}",
    )


def _count_events(log: KafkaLog, end: int) -> int:
    events = 0
    for record in log.read_history(PARTITION, 0, end):
        envelope = decode_envelope(record.value or b"")
        if envelope.kind == RecordKind.TURN:
            events += len(decode_turn(envelope.body, envelope.format).events)
    return events


def _fold(log: KafkaLog, directory: Path, end: int) -> Fold:
    """Bring the store in `directory`, which may be empty, up to `end`, as a new owner does, and close it in order."""
    stores = RocksStores(directory)
    wall, cpu = time.perf_counter(), time.process_time()
    caught_up = _run(catch_up_to(log, stores, PARTITION, Claimed(LogSpan(0, end), 0, snapshot_ahead_records=end)))
    fold = Fold(caught_up.records_read, time.perf_counter() - wall, time.process_time() - cpu)
    caught_up.store.flush()
    caught_up.store.close()
    stores.close()
    return fold


def _run(folding: Generator[int, None, CaughtUp]) -> CaughtUp:
    while True:
        try:
            next(folding)
        except StopIteration as done:
            return cast("CaughtUp", done.value)
