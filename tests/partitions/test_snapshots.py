"""Snapshots on the hub's topic: what a machine with an empty disk recovers from, and what it refuses (R14)."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import structlog

from perdure.partitions import download
from perdure.partitions.download import Entries
from perdure.partitions.memory import Fate, FaultScript, MemoryHub, MemoryStore, MemoryStores, Reporting
from perdure.partitions.ports import Delivered, LogRecord, LogSpan, LogUnavailable
from perdure.partitions.snapshots import Shelf, chunk_key, manifest_key, read_shelf
from perdure.partitions.state import STORE_FORMAT
from perdure.partitions.upload import Upload
from perdure.schemas import messages as ms
from perdure.schemas.codec import decode_manifest, encode_chunk, encode_manifest
from perdure.schemas.records import SnapshotManifest
from perdure.schemas.writer import encode_bytes
from tests.partitions.cluster import Cluster, Member
from tests.partitions.test_retention import begin_everything, content, end_everything

PIECE_BYTES = 250_000
KEEPING: dict[str, Any] = {
    "snapshot_records_min": 40,
    "checkpoint_turns_max": 20,
    "checkpoint_seconds_max": 5.0,
}


def shelf(cluster: Cluster) -> Shelf:
    topic = cluster.client.snapshots
    assert topic is not None
    return read_shelf(topic, 0, lambda _: True)


def work(cluster: Cluster, count: int, prefix: str) -> None:
    for number in range(count):
        cluster.send(f"{prefix}-{number}", ms.Start("idle", b'"%s"' % (b"x" * 100)))
    cluster.until(lambda: cluster.ended().keys() >= {f"{prefix}-{number}" for number in range(count)})
    cluster.settle()


def make_snapshots(cluster: Cluster, count: int) -> None:
    """Work until there are so many snapshots, or as many as are kept."""
    member = cluster.members[0]
    cluster.until(member.owns)
    for round_ in range(200):
        if member.counts.snapshots >= count:
            return
        work(cluster, 30, f"work-{round_}")
    raise AssertionError("snapshots are not made")


def heir_of(cluster: Cluster, member: Member) -> Member:
    cluster.kill(member)
    heir = cluster.join("heir", stores=MemoryStores(), **KEEPING)
    cluster.until(heir.owns)
    return heir


def records_read(cluster: Cluster, heir: Member) -> tuple[int, int]:
    return heir.counts.recovered_records, cluster.client.span_history(0).end


def test_an_empty_disk_is_filled_from_the_newest_snapshot_and_the_logs_tail() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    make_snapshots(cluster, 2)
    before = content(member)
    cluster.members.remove(member)  # paused, so that nothing is added
    heir = cluster.join("heir", stores=MemoryStores(), **KEEPING)
    while not heir.owns():
        heir.step()

    assert before == content(heir)
    read, end = records_read(cluster, heir)
    assert read <= end - shelf(cluster).kept[0].manifest.offset
    end_everything(cluster)
    cluster.check()


@pytest.mark.parametrize(
    "other",
    [
        {"format": STORE_FORMAT - 1},
        {"topic_id": "another"},
        {"topic_id": "another", "offset": 10**9},
        {"offset": 10**9},
    ],
)
def test_a_snapshot_that_nobody_can_use_keeps_none_from_being_made(other: dict[str, Any]) -> None:
    """One of another build, of a hub that was created anew, or of records that were lost."""
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    topic = cluster.client.snapshots
    assert topic is not None
    for number, kept in enumerate(shelf(cluster).kept):
        offset = other["offset"] + number if "offset" in other else kept.manifest.offset
        manifest = replace(kept.manifest, **{**other, "offset": offset, "entries": 10**6})
        topic.publish(0, manifest_key(0, offset), encode_manifest(manifest), lambda _: None)
        cluster.settle()
    heir = heir_of(cluster, member)
    make_snapshots(cluster, 1)
    again = heir_of(cluster, heir)
    read, end = records_read(cluster, again)

    assert read < end


class CountedStores(MemoryStores):
    """Stores that count how often one is opened: on a disk that waits for it several times."""

    opened = 0

    def open(self, partition: int) -> MemoryStore:
        self.opened += 1
        return super().open(partition)


def test_an_empty_store_is_filled_and_used_as_it_was_opened() -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 1)
    cluster.kill(member)
    stores = CountedStores()
    heir = cluster.join("heir", stores=stores, **KEEPING)
    cluster.until(heir.owns)
    read, end = records_read(cluster, heir)

    assert read < end
    assert 1 == stores.opened


def test_the_two_newest_snapshots_are_kept_and_older_ones_deleted() -> None:
    cluster = Cluster()
    cluster.join(**KEEPING)
    make_snapshots(cluster, 4)
    cluster.settle()
    cluster.hub.journal("snapshots", 0).compact()
    left = {(record.key or b"").decode().split("/")[1] for record in _all(cluster.hub)}

    assert {f"{kept.manifest.offset:020d}" for kept in shelf(cluster).kept} == left
    assert 2 == len(left)


def _all(hub: MemoryHub) -> list[LogRecord]:
    journal = hub.journal("snapshots", 0)
    return list(journal.read(0, journal.end))


def test_a_topic_of_snapshots_that_is_away_costs_snapshots_and_no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    cluster.until(member.owns)
    topic = member.log.snapshots
    assert topic is not None

    def away(_partition: int) -> LogSpan:
        raise LogUnavailable("topic snapshots: no leader")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(topic, "span", away)
        for round_ in range(5):
            work(cluster, 30, f"away-{round_}")
    assert (0, 0) == (member.counts.epochs_lost, member.counts.snapshots)
    assert 0 < member.counts.checkpoints
    said = [entry["reason"] for entry in logs if entry["event"] == "snapshot not begun"]
    assert {"topic snapshots: no leader"} == set(said)

    make_snapshots(cluster, 1)
    assert member.owns()
    assert 1 == len(cluster.claims())
    cluster.check()


def test_snapshots_become_rarer_as_the_store_grows() -> None:
    cluster = Cluster()
    cluster.join(**KEEPING)
    make_snapshots(cluster, 4)
    offsets = [decode_manifest(record.value).offset for record in _all(cluster.hub) if _is_manifest(record)]  # type: ignore[arg-type]
    gaps = [after - before for before, after in pairwise(offsets)]

    assert gaps[-1] > 2 * gaps[0]


def _is_manifest(record: LogRecord) -> bool:
    return record.value is not None and (record.key or b"").endswith(b"/manifest")


def damage(cluster: Cluster, number: int, value: bytes | None, *, manifest: bool = False) -> None:
    """Write something else over a piece or the manifest of one of the kept snapshots."""
    kept = shelf(cluster).kept[number].manifest
    key = f"0/{kept.offset:020d}/" + ("manifest" if manifest else "00000000")
    topic = cluster.client.snapshots
    assert topic is not None
    topic.publish(0, key, value, lambda _: None)
    cluster.settle()
    cluster.hub.journal("snapshots", 0).compact()


@pytest.mark.parametrize("damaged", [1, 2])
def test_nothing_of_a_damaged_snapshot_stays_in_the_store(damaged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BATCH_ENTRIES", 1)
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    stranger = encode_bytes(b"L-stranger") + encode_bytes(b"nobody's")
    for number in range(damaged):
        damage(cluster, number, encode_chunk(stranger))
        manifest = shelf(cluster).kept[number].manifest
        damage(cluster, number, encode_manifest(manifest), manifest=True)  # behind its piece, so that this is read
    heir = heir_of(cluster, member)

    assert not [key for key in content(heir) if b"stranger" in key]


def test_a_damaged_snapshot_gives_way_to_the_older_one() -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 3)
    older = shelf(cluster).kept[1].manifest.offset
    damage(cluster, 0, b"\xd4\x04no")
    heir = heir_of(cluster, member)
    read, end = records_read(cluster, heir)

    assert end - older - 40 <= read <= end - older
    cluster.check()


@pytest.mark.parametrize("value", [None, b"", b"\xd4", b"\xd3", b"\x00\xff" * 50])
def test_without_a_snapshot_that_can_be_used_the_whole_log_is_read(value: bytes | None) -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 3)
    damage(cluster, 1, value)
    damage(cluster, 0, value)
    heir = heir_of(cluster, member)

    read, end = records_read(cluster, heir)
    assert read > end - 40
    cluster.check()
    assert "COMPLETED" == cluster.view("work-0-0")["status"]


@pytest.mark.parametrize(
    "other",
    [
        {"cluster_id": "elsewhere"},
        {"topic_id": "another"},
        {"partition": 1},
        {"format": STORE_FORMAT + 1},
        {"format": STORE_FORMAT - 1},
        {"digest": bytes(16)},
        {"epoch": 7},
    ],
    ids=str,
)
def test_a_snapshot_of_something_else_is_not_used(other: dict[str, Any]) -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    for number in (0, 1):
        damage(cluster, number, encode_manifest(replace(shelf(cluster).kept[number].manifest, **other)), manifest=True)
    heir = heir_of(cluster, member)

    read, end = records_read(cluster, heir)
    assert read > end - 40
    cluster.check()


def test_a_topic_that_was_deleted_and_made_again_makes_its_snapshots_worthless() -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    snapshots = cluster.hub.journal("snapshots", 0)
    cluster.kill(member)
    kept = list(snapshots.read(0, snapshots.end))
    cluster.hub.recreate()
    for record in kept:
        cluster.hub.journal("snapshots", 0).append(replace(record, offset=cluster.hub.journal("snapshots", 0).end))
    heir = cluster.join("heir", stores=MemoryStores(), **KEEPING)
    cluster.until(heir.owns)

    assert 1 == heir.counts.recovered_records


def test_a_machine_that_is_far_behind_takes_a_snapshot_and_one_that_is_near_reads_the_log() -> None:
    cluster = Cluster()
    first = cluster.join("first", **KEEPING)
    make_snapshots(cluster, 1)
    first.release()
    cluster.until(lambda: not cluster.members or first[0].phase.name == "CLOSED")
    cluster.members.remove(first)
    second = cluster.join("second", stores=MemoryStores(), **KEEPING)
    cluster.until(second.owns)
    make_snapshots(cluster, 2)
    newest = shelf(cluster).kept[0].manifest.offset
    cluster.kill(second)
    again = cluster.join("again", stores=first.stores, **KEEPING)
    cluster.until(again.owns)
    read, end = records_read(cluster, again)

    assert read <= end - newest
    cluster.check()


def test_an_upload_that_is_cut_off_is_no_snapshot_and_is_cleared_away_by_the_next_one() -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    stray = f"0/{10**9:020d}/00000000"
    topic = cluster.client.snapshots
    assert topic is not None
    topic.publish(0, stray, b"\xd4\x02x", lambda _: None)
    cluster.settle()
    before = shelf(cluster)
    heir_of(cluster, member)
    make_snapshots(cluster, 1)
    cluster.settle()
    cluster.hub.journal("snapshots", 0).compact()

    assert (stray,) == before.stray
    assert stray.encode() not in {record.key for record in _all(cluster.hub)}


@pytest.mark.parametrize("fate", [Fate(copies=0), Fate(report=Reporting.ERROR), Fate(copies=2), Fate(delay=5)])
def test_whatever_becomes_of_a_piece_no_broken_snapshot_is_used(fate: Fate) -> None:
    cluster = Cluster(faults=FaultScript({"snapshots": [Fate(), fate]}))
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    heir_of(cluster, member)

    cluster.check()
    assert "COMPLETED" == cluster.view("work-0-0")["status"]


def test_a_stream_that_is_cut_anywhere_gives_its_entries() -> None:
    wanted = [(b"k%d" % number, b"v" * number) for number in range(200)]
    stream = b"".join(encode_bytes(key) + encode_bytes(value) for key, value in wanted)
    for size in (1, 2, 7, 64, 1000, len(stream)):
        entries = Entries()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]

        assert wanted == [entry for piece in pieces for entry in entries.take(piece)]
        assert (200, b"") == (entries.count, entries.rest)


def test_pieces_are_as_small_as_the_topic_wants_them() -> None:
    cluster = Cluster()
    cluster.hub.record_bytes_max = 2_000
    member = cluster.join(**KEEPING)
    make_snapshots(cluster, 2)
    heir_of(cluster, member)

    assert 2_000 >= max(len(record.value or b"") for record in _all(cluster.hub)) > 1_000
    cluster.check()


def test_an_upload_is_of_the_store_as_it_was_when_it_began() -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    work(cluster, 10, "first")
    holdings, topic = member[0].holdings, cluster.client.snapshots
    assert holdings is not None
    assert holdings.fold.anchor is not None
    assert topic is not None
    upload = Upload(topic, holdings.store, holdings.fold.anchor, Shelf())
    work(cluster, 10, "second")
    while not upload.done:
        upload.step()
        cluster.step()
    assert upload.manifest is not None

    assert upload.manifest.entries < len(list(holdings.store.scan(b"", b"\xff")))


class LargeShelf:
    """A topic with one snapshot of so many pieces, each made when it is read (`partitions.ports.SnapshotTopic`)."""

    record_bytes_max = PIECE_BYTES

    def __init__(self, pieces: int) -> None:
        self._manifest = SnapshotManifest("c", "t", 0, 1, 2, bytes(16), 2, bytes(16), chunks=pieces, entries=1)

    def publish(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None: ...

    def span(self, partition: int) -> LogSpan:
        return LogSpan(0, self._manifest.chunks + 1)

    def read(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        for offset in range(start, min(end, self._manifest.chunks)):
            yield LogRecord(offset, chunk_key(0, 2, offset).encode(), bytes(PIECE_BYTES), 0)
        if end > self._manifest.chunks:
            yield LogRecord(self._manifest.chunks, manifest_key(0, 2).encode(), encode_manifest(self._manifest), 0)


def test_looking_what_is_there_keeps_no_snapshot_in_memory() -> None:
    tracemalloc.start()
    found = read_shelf(LargeShelf(1_000), 0, lambda _: True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [1_000] == [kept.manifest.chunks for kept in found.kept]
    assert () == found.stray
    assert peak < 20 * PIECE_BYTES
