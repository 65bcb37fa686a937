"""A turn larger than a message is written in parts, on a real broker; a worker that dies between two of them leaves nothing by half."""

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.partitions.partitioner import partition_of
from perdure.partitions.reader import Accepted, Part, RunState, Void, read_record
from perdure.schemas.records import RecordKind
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import WorkerProcess

pytestmark = pytest.mark.kafka
APP = """
import os
from pathlib import Path
from perdure import ActivityContext, App, OrchestrationContext, when_all
from perdure.partitions.kafka.history import KafkaHistoryWriter
from perdure.schemas.codec import decode_envelope

app = App()
DIED, NOTES = Path({died!r}), Path({notes!r})

@app.activity
def measure(ctx: ActivityContext, text: str) -> int:
    with NOTES.open("a") as notes:
        notes.write(f"{{text[:8]}} {{ctx.attempt}}\\n")
    return len(text)

@app.orchestration
async def wide(ctx: OrchestrationContext, count: int) -> int:
    texts = [f"{{number:08d}}" + "x" * 20_000 for number in range(count)]
    return sum(await when_all([ctx.call_activity(measure, text) for text in texts]))

# A crash point: the process ends when the second part of a record is acknowledged, and the third is not sent yet.
append = KafkaHistoryWriter.append

def append_and_die(writer, key, value):
    append(writer, key, value)
    envelope = decode_envelope(value)
    if envelope.parts > 2 and envelope.part == 1 and not DIED.exists():
        writer._producer.flush(30)
        DIED.write_text(f"{{envelope.offset}} {{envelope.parts}}")
        os._exit(9)

KafkaHistoryWriter.append = append_and_die
"""
COUNT = 200


def test_a_worker_killed_between_two_parts_leaves_a_void_and_the_next_one_decides_again(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    died, notes = tmp_path / "died", tmp_path / "notes"
    app = APP.format(died=str(died), notes=str(notes))
    start_worker(app, "--processes", "2")
    # Its first turn is the one that dies; the client asks on until another process has taken it.
    handle = client.start("wide", COUNT, instance_id="wide-1")
    assert died.exists()

    assert COUNT * 20_008 == handle.result(60)
    # Each activity was begun once: none of the half record was.
    assert [f"{number:08d} 1" for number in range(COUNT)] == sorted(notes.read_text().splitlines())
    log = KafkaLog.open_reader(settings)
    audit, (state, parts, voids) = audit_records(read_log(log)), read(log)
    log.close()
    assert () == audit.findings
    offset, count = map(int, died.read_text().split())
    # The two parts stand in the log, and the claim behind them voids them; the whole record came after it.
    assert {offset - 1, offset} <= set(parts)
    assert max(parts) > state.epoch > offset
    assert len(parts) >= 2 + count - 1
    assert [] == voids
    assert 1 == audit.counts.started


def read(log: KafkaLog) -> tuple[RunState, list[int], list[int]]:
    """The state of a reader at the end, and the offsets of parts and of records that are void."""
    partition = partition_of("wide-1", PARTITIONS)
    state, parts, voids = RunState(), list[int](), list[int]()
    for record in log.read_history(partition, 0, log.span_history(partition).end):
        state, verdict = read_record(state, record.offset, record.value)
        if isinstance(verdict, Part):
            parts.append(record.offset)
        elif isinstance(verdict, Void):
            voids.append(record.offset)
        else:
            assert isinstance(verdict, Accepted)
            assert verdict.kind in (RecordKind.CLAIM, RecordKind.TURN, RecordKind.PARTITION, RecordKind.CHECKPOINT)
    return state, parts, voids
