"""Every log does the same (partitions/ports.py): in memory, embedded, and on Kafka."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.partitions.memory import MemoryHub, MemoryLog
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import Log, LogRecord, LogSpan, LogTruncated, Report

from .logs import (
    PARTITIONS,
    Clock,
    EmbeddedRig,
    KafkaRig,
    MemoryRig,
    Rig,
    append,
    ending,
    publish,
    reports_of,
    take,
    until,
    values_of,
)


@pytest.fixture(params=["memory", "embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "kafka":
        made: Rig = KafkaRig(request.getfixturevalue("kafka_servers"))
    else:
        made = MemoryRig() if request.param == "memory" else EmbeddedRig(tmp_path / "hub")
    with ending(made) as rig:
        yield rig


@pytest.fixture
def log(rig: Rig) -> Log:
    return rig.open()


def numbered(number: int, prefix: str = "record") -> list[bytes]:
    return [f"{prefix} {i}".encode() for i in range(number)]


def test_appends_land_at_contiguous_offsets_and_are_reported_in_order(log: Log) -> None:
    writer = log.open_history(0)

    assert [Report(offset) for offset in range(500)] == append(log, writer, numbered(500))


def test_what_was_appended_is_read(log: Log) -> None:
    before_ms = time.time_ns() // 1_000_000
    append(log, log.open_history(1), numbered(3))

    records = list(log.read_history(1, 0, 3))

    assert [(0, b"instance", b"record 0"), (1, b"instance", b"record 1"), (2, b"instance", b"record 2")] == [
        (record.offset, record.key, record.value) for record in records
    ]
    assert all(abs(record.timestamp_ms - before_ms) < 60_000 for record in records)


def test_the_logs_own_time_is_that_of_its_records(log: Log) -> None:
    before_ms = log.read_clock_ms()
    append(log, log.open_history(0), [b"a turn"])
    after_ms = log.read_clock_ms()
    (record,) = log.read_history(0, 0, 1)

    assert before_ms <= record.timestamp_ms <= after_ms


def test_partitions_do_not_mix(log: Log) -> None:
    writers = [log.open_history(partition) for partition in range(PARTITIONS)]
    for i in range(50):
        for partition, writer in enumerate(writers):
            writer.append("instance", f"{partition}.{i}".encode())
    for writer in writers:
        assert [Report(offset) for offset in range(50)] == reports_of(log, writer, 50)

    for partition in range(PARTITIONS):
        assert [f"{partition}.{i}".encode() for i in range(50)] == [
            record.value for record in log.read_history(partition, 0, 50)
        ]


def test_any_range_is_read(log: Log) -> None:
    append(log, log.open_history(0), numbered(40))

    for start, end in ((0, 40), (0, 1), (39, 40), (17, 23), (5, 5), (40, 40)):
        assert numbered(40)[start:end] == [record.value for record in log.read_history(0, start, end)]
    assert LogSpan(0, 40) == log.span_history(0)


def test_a_range_beyond_the_end_is_refused(log: Log) -> None:
    append(log, log.open_history(0), numbered(2))

    with pytest.raises(LogTruncated, match="3"):
        list(log.read_history(0, 0, 3))


def test_a_range_below_the_start_is_refused(rig: Rig, log: Log) -> None:
    append(log, log.open_history(0), numbered(10))
    rig.trim_history(0, 4)
    until(log, lambda: log.span_history(0) == LogSpan(4, 10))

    with pytest.raises(LogTruncated, match="3"):
        list(log.read_history(0, 3, 10))
    assert numbered(10)[4:] == [record.value for record in log.read_history(0, 4, 10)]


def test_a_partition_without_records_spans_nothing(log: Log) -> None:
    assert LogSpan(0, 0) == log.span_history(2)
    assert LogSpan(0, 0) == log.span_inbox(2)
    assert list(log.read_history(2, 0, 0)) == []


def test_a_stale_writers_record_lands_and_shows_in_the_owners_reports(rig: Rig, log: Log) -> None:
    """R4: landing elsewhere is the fence. Neither is stopped; each sees from its offsets that it was not alone."""
    stale, owner = log, rig.open()
    stale_writer, owner_writer = stale.open_history(0), owner.open_history(0)
    assert [Report(0)] == append(stale, stale_writer, [b"claim of the first"])
    assert [Report(1)] == append(owner, owner_writer, [b"claim of the second"])

    assert [Report(2)] == append(stale, stale_writer, [b"turn of a zombie"])
    assert [Report(3), Report(4)] == append(owner, owner_writer, [b"a turn", b"another"])

    assert [b"claim of the first", b"claim of the second", b"turn of a zombie", b"a turn", b"another"] == [
        record.value for record in owner.read_history(0, 0, 5)
    ]


def test_two_racing_writers_share_the_offsets_between_them(rig: Rig, log: Log) -> None:
    one, other = log, rig.open()
    writers = one.open_history(0), other.open_history(0)
    for i in range(200):
        writers[i % 2].append("instance", b"%d" % i)

    offsets = [
        [report.offset for report in reports_of(handle, writer, 100)]
        for handle, writer in zip((one, other), writers, strict=True)
    ]

    assert [sorted(each) for each in offsets] == offsets
    assert list(range(200)) == sorted(offsets[0] + offsets[1])


def test_a_closed_writer_reports_nothing_and_leaves_no_hole(log: Log) -> None:
    first = log.open_history(0)
    append(log, first, numbered(3))
    for value in numbered(20, "unreported"):
        first.append("instance", value)
    first.close()
    assert list(first.take_reports()) == []

    second = log.open_history(0)
    (report,) = append(log, second, [b"after it"])
    assert report.offset is not None

    records = list(log.read_history(0, 0, report.offset + 1))
    assert list(range(report.offset + 1)) == [record.offset for record in records]
    assert numbered(3) == [record.value for record in records[:3]]


def test_a_record_that_is_too_large_is_reported_and_the_next_one_lands(log: Log) -> None:
    writer = log.open_history(0)

    refused, landed = append(log, writer, [bytes(log.record_bytes_max + 1_000_000), b"small"])

    assert refused.offset is None
    assert refused.error
    assert Report(0) == landed


def test_the_largest_record_goes_through(log: Log) -> None:
    value = random.Random(1).randbytes(log.record_bytes_max)

    assert [Report(0), Report(1)] == append(log, log.open_history(0), [value, value])
    assert [value, value] == [record.value for record in log.read_history(0, 0, 2)]


def test_messages_come_to_whoever_has_the_inbox_open(log: Log) -> None:
    log.inbox.open(0, 0)
    log.inbox.open(2, 0)
    publish(log, 0, numbered(5))
    publish(log, 1, [b"nobody reads this"])
    publish(log, 2, numbered(5, "other"))

    taken = take(log, 10)

    assert [(offset, value) for offset, value in enumerate(numbered(5))] == [
        (r.offset, r.value) for p, r in taken if p == 0
    ]
    assert numbered(5, "other") == [record.value for partition, record in taken if partition == 2]


def test_messages_that_were_there_before_are_read_from_the_offset_on(log: Log) -> None:
    publish(log, 0, numbered(10))

    log.inbox.open(0, 4)

    assert numbered(10)[4:] == values_of(take(log, 6))


def test_no_more_messages_are_taken_than_asked_for(log: Log) -> None:
    publish(log, 0, numbered(10))
    log.inbox.open(0, 0)
    sizes: list[int] = []
    taken: list[bytes | None] = []

    def all_there() -> bool:
        some = log.inbox.take(3)
        sizes.append(len(some))
        taken.extend(values_of(some))
        return len(taken) == 10

    until(log, all_there)

    assert max(sizes) == 3
    assert numbered(10) == taken


def test_a_paused_partition_gives_nothing_until_it_is_resumed(log: Log) -> None:
    log.inbox.open(0, 0)
    log.inbox.open(1, 0)
    publish(log, 0, [b"before"])
    assert [b"before"] == values_of(take(log, 1))

    log.inbox.pause(0)
    publish(log, 0, numbered(5))
    publish(log, 1, [b"of the other"])
    assert [b"of the other"] == values_of(take(log, 1))

    log.inbox.resume(0)
    assert numbered(5) == values_of(take(log, 5))


def test_a_partition_that_was_closed_while_it_was_paused_is_read_when_it_is_opened_again(log: Log) -> None:
    publish(log, 0, [b"first"])
    log.inbox.open(0, 0)
    assert [b"first"] == values_of(take(log, 1))
    for opened in range(2):
        log.inbox.pause(0)
        if opened:
            log.inbox.close(0)
        log.inbox.open(0, 0)

        assert [b"first"] == values_of(take(log, 1))


def test_a_pause_between_wait_and_take_loses_nothing(log: Log) -> None:
    log.inbox.open(0, 0)
    publish(log, 0, numbered(5))
    log.wait(1.0)

    log.inbox.pause(0)
    assert list(log.inbox.take(10)) == []
    log.inbox.resume(0)

    assert numbered(5) == values_of(take(log, 5))


def test_a_closed_inbox_gives_nothing_and_is_read_again_when_opened_again(log: Log) -> None:
    log.inbox.open(0, 0)
    publish(log, 0, numbered(3))
    log.wait(1.0)
    log.inbox.close(0)
    log.wait(0.05)
    assert list(log.inbox.take(10)) == []

    log.inbox.open(0, 1)

    assert numbered(3)[1:] == values_of(take(log, 2))


def test_two_processes_read_one_inbox_each_for_itself(rig: Rig, log: Log) -> None:
    other = rig.open()
    log.inbox.open(0, 0)
    other.inbox.open(0, 2)
    publish(other, 0, numbered(4))

    assert numbered(4) == values_of(take(log, 4))
    assert numbered(4)[2:] == values_of(take(other, 2))


def test_a_trimmed_inbox_begins_where_it_was_trimmed(log: Log) -> None:
    publish(log, 0, numbered(10))
    publish(log, 1, numbered(2))

    log.trim_inbox(0, 6)
    until(log, lambda: log.span_inbox(0) == LogSpan(6, 10))
    assert LogSpan(0, 2) == log.span_inbox(1)

    log.inbox.open(0, 2)
    assert numbered(10)[6:] == values_of(take(log, 4))


def test_a_trim_up_to_the_end_leaves_an_empty_inbox_that_goes_on(log: Log) -> None:
    publish(log, 0, numbered(3))
    log.trim_inbox(0, 3)
    until(log, lambda: log.span_inbox(0) == LogSpan(3, 3))

    log.inbox.open(0, 0)
    publish(log, 0, [b"next"])

    ((_, record),) = take(log, 1)
    assert (3, b"next") == (record.offset, record.value)


def test_deliveries_are_told_in_order_for_each_partition(log: Log) -> None:
    told: list[tuple[int, int]] = []
    for i in range(100):
        log.publisher.publish_inbox(i % 2, "instance", b"message", lambda error, i=i: told.append((i % 2, i)))
    log.publisher.publish_dead_letter(
        "instance", b"unreadable", [("reason", b"bad")], lambda error: told.append((9, 0))
    )
    log.publisher.flush(10)

    assert list(range(0, 100, 2)) == [i for partition, i in told if partition == 0]
    assert list(range(1, 100, 2)) == [i for partition, i in told if partition == 1]
    assert (9, 0) in told


def test_a_reply_comes_to_the_client_that_listens_and_to_no_other(rig: Rig, log: Log) -> None:
    client = rig.open()
    names = [
        "client a",
        next(
            f"client {i}"
            for i in range(99)
            if partition_of(f"client {i}", PARTITIONS) != partition_of("client a", PARTITIONS)
        ),
    ]
    log.publisher.publish_reply(partition_of("client a", PARTITIONS), "client a", b"too early")
    log.publisher.flush(10)
    readers = [client.open_replies(name) for name in names]

    for i in range(3):
        log.publisher.publish_reply(readers[0].partition, names[0], b"answer %d" % i)
    log.publisher.flush(10)
    answers: list[LogRecord] = []
    deadline = time.monotonic() + 10
    while len(answers) < 3 and time.monotonic() < deadline:
        answers.extend(readers[0].take(0.2))

    assert [(b"client a", b"answer 0"), (b"client a", b"answer 1"), (b"client a", b"answer 2")] == [
        (r.key, r.value) for r in answers
    ]
    assert list(readers[1].take(0.05)) == []
    for reader in readers:
        reader.close()


def test_a_wait_ends_when_a_message_comes(rig: Rig, log: Log) -> None:
    other = rig.open()
    log.inbox.open(0, 0)
    publish(other, 0, [b"first"])
    take(log, 1)

    other.publisher.publish_inbox(0, "instance", b"second")
    other.publisher.flush(10)
    begin = time.monotonic()
    log.wait(10)

    assert time.monotonic() - begin < 5
    assert [b"second"] == values_of(log.inbox.take(10))


def test_a_wait_ends_when_a_report_comes(log: Log) -> None:
    writer = log.open_history(0)
    append(log, writer, [b"the first one takes longer"])
    writer.append("instance", b"record")

    begin = time.monotonic()
    log.wait(10)

    assert time.monotonic() - begin < 5
    assert [Report(1)] == list(writer.take_reports())


def test_another_thread_ends_a_wait(rig: Rig, log: Log) -> None:
    if isinstance(rig, MemoryRig):
        pytest.skip("a log in memory never blocks")
    log.inbox.open(0, 0)
    begin = time.monotonic()
    threading.Timer(0.1, log.wake).start()

    while time.monotonic() - begin < 0.1:
        log.wait(10)

    assert time.monotonic() - begin < 5


def test_nothing_acknowledged_is_lost_by_a_restart(rig: Rig, log: Log) -> None:
    identity = log.identity
    append(log, log.open_history(0), numbered(20))
    append(log, log.open_history(1), numbered(5, "other"))
    publish(log, 2, numbered(10, "message"))
    log.trim_inbox(2, 4)
    until(log, lambda: log.span_inbox(2).start == 4)

    rig.restart()
    again = rig.open()

    assert identity == again.identity
    assert [LogSpan(0, 20), LogSpan(0, 5), LogSpan(0, 0)] == [
        again.span_history(partition) for partition in range(PARTITIONS)
    ]
    assert numbered(20) == [record.value for record in again.read_history(0, 0, 20)]
    assert [Report(20)] == append(again, again.open_history(0), [b"and on"])
    again.inbox.open(2, 0)
    assert numbered(10, "message")[4:] == values_of(take(again, 6))


def test_every_process_sees_the_same_hub(rig: Rig, log: Log) -> None:
    assert log.identity == rig.open().identity
    assert log.identity.partition_count == PARTITIONS


Trace = list[object]


def perform(log: Log, dice: random.Random) -> Trace:
    """A random run over one hub; what it returns depends on nothing but the dice."""
    trace: Trace = []
    writers = {partition: log.open_history(partition) for partition in range(PARTITIONS)}
    ends = [0] * PARTITIONS
    positions: dict[int, int] = {}
    for step in range(120):
        partition = dice.randrange(PARTITIONS)
        values = [dice.randbytes(dice.choice((0, 1, 100, 5_000))) for _ in range(dice.randint(1, 6))]
        what = dice.choice(("append", "publish", "read", "open", "take", "reopen", "trim"))
        if what == "append":
            trace.append(append(log, writers[partition], values))
            ends[partition] += len(values)
        elif what == "publish":
            publish(log, partition, values)
        elif what == "read" and ends[partition]:
            start = dice.randint(0, ends[partition])
            end = dice.randint(start, ends[partition])
            trace.append(
                [(record.offset, record.key, record.value) for record in log.read_history(partition, start, end)]
            )
        elif what == "open" and partition not in positions:
            positions[partition] = log.span_inbox(partition).start
            log.inbox.open(partition, positions[partition])
        elif what == "take" and positions:
            wanted = sum(log.span_inbox(each).end - at for each, at in positions.items())
            taken = take(log, wanted)
            for each in positions:
                own = [record for owner, record in taken if owner == each]
                trace.append([(record.offset, record.key, record.value) for record in own])
                positions[each] += len(own)
        elif what == "reopen":
            writers[partition].close()
            writers[partition] = log.open_history(partition)
        elif what == "trim" and positions.get(partition):
            log.trim_inbox(partition, positions[partition])
            until(log, lambda partition=partition: log.span_inbox(partition).start == positions[partition])
        trace.append((step, what, partition, [log.span_history(each) for each in range(PARTITIONS)]))
    return trace


@pytest.mark.parametrize("seed", range(3))
def test_the_same_run_gives_the_same_records_on_every_log(log: Log, seed: int) -> None:
    expected = perform(MemoryLog(MemoryHub(PARTITIONS, Clock())), random.Random(seed))

    assert expected == perform(log, random.Random(seed))
