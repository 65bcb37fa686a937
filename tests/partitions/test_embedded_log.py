"""What only the embedded log has to show: a disk under it, one directory, one process."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from perdure.partitions.embedded import EmbeddedHub, EmbeddedLog
from perdure.partitions.embedded.frames import BATCH_MAGIC
from perdure.partitions.embedded.hub import HISTORY
from perdure.partitions.ports import (
    HubMissing,
    HubRefused,
    LogCorrupt,
    LogLocked,
    LogRecord,
    LogSpan,
    LogTruncated,
    Report,
)

PATIENCE_SECONDS = 20.0


def append(log: EmbeddedLog, values: Sequence[bytes], partition: int = 0, *, at_once: bool = False) -> list[Report]:
    """Append; unless `at_once`, each in a batch of its own."""
    writer = log.open_history(partition)
    reports: list[Report] = []
    for number, value in enumerate(values, 1):
        writer.append("instance", value)
        while not at_once and len(reports) < number:
            log.wait(PATIENCE_SECONDS)
            reports.extend(writer.take_reports())
    while len(reports) < len(values):
        log.wait(PATIENCE_SECONDS)
        reports.extend(writer.take_reports())
    return reports


def history(log: EmbeddedLog, partition: int = 0) -> list[LogRecord]:
    span = log.span_history(partition)
    return list(log.read_history(partition, span.start, span.end))


def values(records: Sequence[LogRecord]) -> list[bytes | None]:
    return [record.value for record in records]


def last_segment(directory: Path, topic: str = "history") -> Path:
    return max((directory / topic).glob("*.segment"))


def filled(directory: Path, number: int = 5) -> list[bytes]:
    written = [f"record {i}".encode() for i in range(number)]
    log = EmbeddedLog.open(directory, partition_count=2)
    append(log, written)
    log.close()
    return written


WRITER = """
import sys
from pathlib import Path
from perdure.partitions.embedded import EmbeddedLog

log = EmbeddedLog.open(Path(sys.argv[1]), partition_count=2)
writers = [log.open_history(partition) for partition in (0, 1)]
sent = [log.span_history(partition).end for partition in (0, 1)]
confirmed = list(sent)
while True:
    for partition, writer in enumerate(writers):
        for _ in range(5):
            writer.append("instance", b"%d" % sent[partition])
            sent[partition] += 1
    log.wait(0.01)
    for partition, writer in enumerate(writers):
        for report in writer.take_reports():
            assert report.offset == confirmed[partition], report
            confirmed[partition] += 1
    print(*confirmed, flush=True)
"""


def test_a_kill_in_the_middle_of_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged = [0, 0]
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "hub")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        begin = time.monotonic()
        for line in process.stdout:
            acknowledged = [int(each) for each in line.split()]
            if time.monotonic() - begin > 0.5:
                break
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                acknowledged = [int(each) for each in line.split()]
        process.wait()

        log = EmbeddedLog.open(tmp_path / "hub")
        for partition in (0, 1):
            span = log.span_history(partition)
            assert span.end >= acknowledged[partition] > 0
            assert [b"%d" % offset for offset in range(span.end)] == values(history(log, partition))
        log.close()


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_torn_tail_is_cut_off_and_the_log_goes_on(tmp_path: Path, cut: int) -> None:
    written = filled(tmp_path)
    segment = last_segment(tmp_path)
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - cut)

    log = EmbeddedLog.open(tmp_path)

    assert written[:-1] == values(history(log))
    assert [Report(4)] == append(log, [b"again"])
    log.close()
    log = EmbeddedLog.open(tmp_path)
    assert [*written[:-1], b"again"] == values(history(log))
    log.close()


def test_a_tail_of_garbage_is_cut_off(tmp_path: Path) -> None:
    written = filled(tmp_path)
    with last_segment(tmp_path).open("ab") as file:
        file.write(BATCH_MAGIC + bytes(100))

    log = EmbeddedLog.open(tmp_path)

    assert written == values(history(log))
    log.close()


def test_corruption_of_what_was_acknowledged_is_refused_by_file_and_position(tmp_path: Path) -> None:
    filled(tmp_path)
    segment = last_segment(tmp_path)
    data = bytearray(segment.read_bytes())
    place = data.index(b"record 2")
    data[place] ^= 1
    segment.write_bytes(data)
    batch = data.rindex(BATCH_MAGIC, 0, place)

    with pytest.raises(LogCorrupt, match=f"{segment.name}, position {batch}"):
        EmbeddedLog.open(tmp_path)
    # The directory is not left locked, and nothing was cut.
    with pytest.raises(LogCorrupt):
        EmbeddedLog.open(tmp_path)
    assert len(data) == segment.stat().st_size


def test_corruption_in_an_older_segment_is_refused_when_it_is_read(tmp_path: Path) -> None:
    hub = EmbeddedHub(tmp_path, partition_count=1, segment_bytes=1000)
    log = EmbeddedLog(hub)
    append(log, [b"record %d" % i for i in range(60)])
    hub.close()
    first = min((tmp_path / "history").glob("*.segment"))
    data = bytearray(first.read_bytes())
    data[data.index(b"record 3")] ^= 1
    first.write_bytes(data)

    log = EmbeddedLog.open(tmp_path)

    with pytest.raises(LogCorrupt, match=first.name):
        history(log)
    assert [b"record 59"] == values(list(log.read_history(0, 59, 60)))
    log.close()


def test_a_lost_segment_is_noticed(tmp_path: Path) -> None:
    hub = EmbeddedHub(tmp_path, partition_count=1, segment_bytes=1000)
    append(EmbeddedLog(hub), [b"record %d" % i for i in range(60)])
    hub.close()
    sorted((tmp_path / "history").glob("*.segment"))[1].unlink()

    log = EmbeddedLog.open(tmp_path)
    with pytest.raises(LogCorrupt):
        history(log)
    log.close()


def test_a_segment_torn_at_its_creation_is_no_loss(tmp_path: Path) -> None:
    written = filled(tmp_path)
    (tmp_path / "history" / "000000000001.segment").write_bytes(b"PDS")

    log = EmbeddedLog.open(tmp_path)

    assert written == values(history(log))
    assert [Report(5)] == append(log, [b"on"])
    log.close()


def test_segments_are_rolled_and_read_across(tmp_path: Path) -> None:
    hub = EmbeddedHub(tmp_path, partition_count=2, segment_bytes=1000)
    log = EmbeddedLog(hub)
    for i in range(100):
        append(log, [b"%d" % i], partition=i % 2)
    assert len(list((tmp_path / "history").glob("*.segment"))) > 3
    hub.close()

    log = EmbeddedLog.open(tmp_path)

    for partition in (0, 1):
        assert [b"%d" % i for i in range(partition, 100, 2)] == values(history(log, partition))
        assert [b"%d" % i for i in range(40 + partition, 60, 2)] == values(list(log.read_history(partition, 20, 30)))
    log.close()


def test_inbox_segments_are_deleted_when_no_partition_wants_them(tmp_path: Path) -> None:
    hub = EmbeddedHub(tmp_path, partition_count=2, segment_bytes=2000)
    log = EmbeddedLog(hub)
    for i in range(100):
        log.publisher.publish_inbox(i % 2, "instance", b"%d" % i)
        log.publisher.flush(PATIENCE_SECONDS)
    before = len(list((tmp_path / "inbox").glob("*.segment")))
    log.trim_inbox(0, 50)
    _until_trimmed(log, 0, 50)
    kept = len(list((tmp_path / "inbox").glob("*.segment")))
    log.trim_inbox(1, 30)
    _until_trimmed(log, 1, 30)

    after = len(list((tmp_path / "inbox").glob("*.segment")))
    assert before == kept > after
    hub.close()

    log = EmbeddedLog.open(tmp_path)
    assert [LogSpan(50, 50), LogSpan(30, 50)] == [log.span_inbox(partition) for partition in (0, 1)]
    log.inbox.open(1, 0)
    assert [b"%d" % i for i in range(61, 100, 2)] == [record.value for _, record in log.inbox.take(100)]
    log.close()


def _until_trimmed(log: EmbeddedLog, partition: int, start: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while log.span_inbox(partition).start != start:
        assert time.monotonic() < deadline
        log.wait(0.01)


def test_a_reader_far_behind_reads_from_the_files(tmp_path: Path) -> None:
    hub = EmbeddedHub(tmp_path, partition_count=1)
    log = EmbeddedLog(hub)
    log.inbox.open(0, 0)
    log.inbox.pause(0)
    sent = [b"%d" % i + bytes(100_000) for i in range(200)]
    for value in sent:
        log.publisher.publish_inbox(0, "instance", value)
    log.publisher.flush(PATIENCE_SECONDS)
    log.inbox.resume(0)

    taken: list[bytes | None] = []
    while len(taken) < len(sent):
        taken.extend(record.value for _, record in log.inbox.take(7))

    assert sent == taken
    hub.close()


def test_a_second_process_is_refused_and_told_who_has_the_directory(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"

    with pytest.raises(LogLocked, match=f"pid {process.pid}"):
        EmbeddedLog.open(tmp_path)
    reader = EmbeddedLog.open_reader(tmp_path)
    assert [b"held"] == values(list(reader.read_history(0, 0, reader.span_history(0).end)))

    process.communicate("")
    EmbeddedLog.open(tmp_path).close()


HOLDER = """
import sys
from pathlib import Path
from perdure.partitions.embedded import EmbeddedLog

log = EmbeddedLog.open(Path(sys.argv[1]))
writer = log.open_history(0)
writer.append("instance", b"held")
while not writer.take_reports():
    log.wait(1)
print("open", flush=True)
sys.stdin.read()
log.close()
"""


def test_two_handles_of_one_process_are_refused_too(tmp_path: Path) -> None:
    log = EmbeddedLog.open(tmp_path)

    with pytest.raises(LogLocked):
        EmbeddedLog.open(tmp_path)
    log.close()


def test_a_reader_leaves_a_torn_tail_alone(tmp_path: Path) -> None:
    written = filled(tmp_path)
    segment = last_segment(tmp_path)
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 1)
    size = segment.stat().st_size

    reader = EmbeddedLog.open_reader(tmp_path)

    assert written[:-1] == values(list(reader.read_history(0, 0, reader.span_history(0).end)))
    assert size == segment.stat().st_size
    with pytest.raises(LogTruncated):
        list(reader.read_history(0, 0, 5))


def test_a_reader_of_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(HubMissing, match="perdure dev"):
        EmbeddedLog.open_reader(tmp_path)


def test_dead_letters_are_kept_with_their_headers(tmp_path: Path) -> None:
    log = EmbeddedLog.open(tmp_path)
    log.publisher.publish_dead_letter("instance", b"\xff", [("reason", b"unreadable"), ("offset", b"7")])
    log.publisher.flush(PATIENCE_SECONDS)
    log.close()

    (letter,) = EmbeddedLog.open_reader(tmp_path).read_dead_letters()

    assert (b"instance", b"\xff", (("reason", b"unreadable"), ("offset", b"7"))) == (
        letter.key,
        letter.value,
        letter.headers,
    )


def test_another_partition_count_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)

    with pytest.raises(HubRefused, match="2 partitions, not 3"):
        EmbeddedLog.open(tmp_path, partition_count=3)


def test_another_hub_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)

    with pytest.raises(HubRefused, match="'dev', not 'orders'"):
        EmbeddedLog.open(tmp_path, hub="orders")


@pytest.mark.parametrize("content", ["", "{}", '{"format": 2}', "[1]"])
def test_a_hub_file_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    filled(tmp_path)
    (tmp_path / "hub.json").write_text(content)

    with pytest.raises(HubRefused, match=r"hub\.json"):
        EmbeddedLog.open(tmp_path)


def test_a_history_without_its_hub_file_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "hub.json").unlink()

    with pytest.raises(HubRefused, match=r"history but no hub\.json"):
        EmbeddedLog.open(tmp_path)


def test_a_full_disk_is_reported_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of a file fails a write half way, as a full disk does."""
    written = filled(tmp_path)
    log = EmbeddedLog.open(tmp_path)
    size = last_segment(tmp_path).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
        reports = append(
            log, [bytes(1000), b"small, but too large as well: one record takes sixty bytes"], at_once=True
        )
        assert [None, None] == [report.offset for report in reports]
        assert all("free some space" in str(report.error) for report in reports)
        assert written == values(history(log))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)

    assert [Report(5)] == append(log, [b"room again"])
    log.close()
    log = EmbeddedLog.open(tmp_path)
    assert [*written, b"room again"] == values(history(log))
    log.close()


def test_a_disk_that_fails_otherwise_makes_the_log_read_only(tmp_path: Path) -> None:
    written = filled(tmp_path)
    hub = EmbeddedHub(tmp_path)
    log = EmbeddedLog(hub)
    # A descriptor that cannot be written to: the disk says EBADF.
    hub.journal("history").close()

    refused = append(log, [b"lost"])
    refused += append(log, [b"lost too"])

    assert [None, None] == [report.offset for report in refused]
    assert all("read-only" in str(report.error) for report in refused)
    assert written == values(history(log))
    hub.close()


def test_a_closed_log_reports_an_error(tmp_path: Path) -> None:
    hub = EmbeddedHub(tmp_path)
    log = EmbeddedLog(hub)
    writer = log.open_history(0)
    hub.close()

    writer.append("instance", b"late")

    assert [Report(None, "the log is closed")] == list(writer.take_reports())


def test_closing_makes_durable_what_was_sent(tmp_path: Path) -> None:
    log = EmbeddedLog.open(tmp_path)
    writer = log.open_history(0)
    for i in range(1000):
        writer.append("instance", b"%d" % i)
    log.close()

    log = EmbeddedLog.open(tmp_path)
    assert [b"%d" % i for i in range(1000)] == values(history(log))
    log.close()


def test_a_client_on_its_own_thread_shares_the_hub(tmp_path: Path) -> None:
    log = EmbeddedLog.open(tmp_path)
    client = log.share()
    log.inbox.open(0, 0)

    client.publisher.publish_inbox(0, "instance", b"hello")
    client.publisher.flush(PATIENCE_SECONDS)
    client.close()

    assert [b"hello"] == [record.value for _, record in log.inbox.take(10)]
    assert [Report(0)] == append(log, [b"still open"])
    log.close()


def test_a_bug_on_the_flushers_thread_is_told_to_everybody_who_sends(tmp_path: Path) -> None:
    """Without it nothing would be reported any more, neither landed nor failed."""

    class Broken:
        def landed(self, _offset: int, /) -> None:
            raise RuntimeError("a bug")

        def failed(self, _error: str, /) -> None:
            raise AssertionError

    class Told:
        def __init__(self) -> None:
            self.errors: SimpleQueue[str] = SimpleQueue()

        def landed(self, _offset: int, /) -> None:
            raise AssertionError

        def failed(self, error: str, /) -> None:
            self.errors.put(error)

    hub = EmbeddedHub(tmp_path, partition_count=1)
    hub.send(HISTORY, 0, "a", b"1", Broken())
    hub._flusher.join(PATIENCE_SECONDS)
    told = Told()
    hub.send(HISTORY, 0, "a", b"2", told)

    assert "a bug" in told.errors.get(timeout=PATIENCE_SECONDS)
    hub.close()


IDLER = """
import sys, time
from pathlib import Path
from perdure.partitions.embedded import EmbeddedLog

log = EmbeddedLog.open(Path(sys.argv[1]))
log.inbox.open(0, 0)
begin = time.process_time()
log.wait(0.5)
print(time.process_time() - begin)
log.close()
"""


def test_waiting_costs_no_processor_time(tmp_path: Path) -> None:
    """In a process that has no other threads than the log's."""
    done = subprocess.run([sys.executable, "-c", IDLER, str(tmp_path)], capture_output=True, text=True, check=True)

    assert float(done.stdout) < 0.05
