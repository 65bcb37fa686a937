"""Files and stores that are not what we wrote: discarded or refused with a reason, never believed and never worse."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.audit import ExportError, audit_records, read_export, read_log, write_export
from perdure.partitions.download import ENTRY_BYTES_MAX, Entries, SnapshotBroken
from perdure.partitions.embedded.directory import read_hub_file
from perdure.partitions.header import InstanceHeader, decode_header, encode_header, header_view
from perdure.partitions.index import index_changes
from perdure.partitions.memory import MemoryStores
from perdure.partitions.owner import Phase
from perdure.partitions.ports import HubMissing, HubRefused, LogRecord, StoreCorrupt
from perdure.partitions.snapshots import CHUNKS_MAX, manifest_key, read_shelf
from perdure.partitions.state import Anchor, PartitionState, decode_anchor, encode_anchor
from perdure.schemas.codec import encode_manifest
from perdure.schemas.events import Failure, Status
from perdure.schemas.messages import Start
from perdure.schemas.records import SnapshotManifest
from tests.fuzzing import fuzzed
from tests.partitions.cluster import Cluster

QUIET = fuzzed(150)
ANCHOR = encode_anchor(
    Anchor("c", "t", 0, 1, 2, b"\1" * 16, b"\2" * 16), PartitionState(3, {5}, {("t", 1): 2}, {1: 2}, {1: 1})
)
HEADER = encode_header(
    InstanceHeader(
        "i", "order", Status.FAILED, 1, 2, "1-1", failure=Failure("E", "m", cause=Failure("C", "n")), tags={"a": "b"}
    )
)
UNTAGGED = encode_header(InstanceHeader("i", "order", Status.RUNNING, 1, 2, "1-1"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


def altered(good: bytes) -> st.SearchStrategy[bytes]:
    """What was written with one thing in it replaced, left out or put in twice; cut, damaged or replaced whole."""
    places = list(walk(orjson.loads(good), ()))

    def replace(place: tuple[int | str, ...], value: Any, how: str) -> bytes:
        root: Any = orjson.loads(good)
        if not place:
            return orjson.dumps(value)
        inner = root
        for step in place[:-1]:
            inner = inner[step]
        if how == "left out":
            del inner[place[-1]]
        elif how == "twice" and isinstance(inner, list):
            inner.insert(int(place[-1]), inner[int(place[-1])])
        else:
            inner[place[-1]] = value
        return orjson.dumps(root)

    return st.one_of(
        st.builds(replace, st.sampled_from(places), JSON, st.sampled_from(("replaced", "left out", "twice"))),
        st.integers(0, len(good)).map(lambda end: good[:end]),
        st.builds(
            lambda at, byte: good[:at] + bytes([byte]) + good[at + 1 :],
            st.integers(0, len(good) - 1),
            st.integers(0, 255),
        ),
        st.binary(max_size=80),
        JSON.map(orjson.dumps),
    )


def walk(value: Any, place: tuple[int | str, ...]) -> Any:
    yield place
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from walk(inner, (*place, step))


@given(altered(ANCHOR))
@QUIET
def test_an_anchor_is_read_as_it_was_written_or_the_store_is_rebuilt(value: bytes) -> None:
    found = decode_anchor(value)
    if found is not None:
        anchor, state = found
        assert found == decode_anchor(encode_anchor(anchor, state))
        assert {int} == {
            type(each) for each in (anchor.partition, anchor.epoch, anchor.offset, state.inbox_mark, state.time_ms)
        }


@given(altered(HEADER) | altered(UNTAGGED))
@QUIET
def test_a_header_is_read_or_the_store_is_corrupt(value: bytes) -> None:
    try:
        header, _ = decode_header("i", value)
    except StoreCorrupt:
        return
    index_changes(None, header)
    # A time after the year 9999, or a payload that is no JSON: its type is right.
    with suppress(OverflowError, orjson.JSONEncodeError):
        orjson.dumps(header_view(header, 0, 0))


@pytest.mark.parametrize(
    "spoil", [lambda value: b"[]", lambda value: value[:-3], lambda value: value.replace(b"1", b"x")]
)
def test_a_store_with_a_spoiled_anchor_is_rebuilt_from_the_log(spoil: Callable[[bytes], bytes]) -> None:
    cluster = Cluster()
    stores = MemoryStores()
    member = cluster.join(stores=stores)
    cluster.send("a", Start("order", b"1"))
    cluster.until(lambda: cluster.ended()["a"])
    member.release()
    cluster.until(lambda: member[0].phase == Phase.CLOSED)
    store = stores.open(0)
    store.write([(b"P", spoil(store.get(b"P") or b""))])
    store.close()

    again = cluster.join("worker-2", stores=stores)
    cluster.until(again.owns, milliseconds=50)
    assert "COMPLETED" == cluster.view("a")["status"]
    assert again.counts.recovered_records >= 4


@given(st.lists(st.integers(0, 1 << 40), max_size=8), st.binary(max_size=200))
@QUIET
def test_pieces_of_a_snapshot_with_absurd_lengths_cost_nothing(lengths: list[int], data: bytes) -> None:
    piece = b"".join(length.to_bytes(6, "little") for length in lengths) + data
    entries = Entries()
    try:
        for _ in range(3):
            entries.take(piece)
    except SnapshotBroken:
        return
    assert len(entries.rest) <= ENTRY_BYTES_MAX


def test_a_length_without_an_end_is_no_length() -> None:
    with pytest.raises(SnapshotBroken):
        Entries().take(b"\xff" * 1_000_000)


@pytest.mark.parametrize("chunks", [(1 << 31) - 1, CHUNKS_MAX + 1, 0, -1])
def test_a_manifest_of_more_pieces_than_there_are_is_no_snapshot(chunks: int) -> None:
    cluster = Cluster()
    manifest = SnapshotManifest("c", "t", 0, 1, 2, b"\0" * 16, 2, b"\0" * 16, chunks=chunks, entries=1)
    topic = cluster.client.snapshots
    assert topic is not None
    cluster.client.publisher.publish_snapshot(0, manifest_key(0, 2), encode_manifest(manifest), lambda error: None)
    cluster.settle()
    shelf = read_shelf(topic, 0, lambda _: True)

    assert ((), (manifest_key(0, 2),)) == (shelf.kept, shelf.stray)
    assert [manifest_key(0, 2)] == list(shelf.superseded())


def test_a_hub_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    good = {"format": 1, "hub": "h", "cluster_id": "c", "history_topic_id": "t", "partition_count": 4}
    for wrong in (
        {**good, "partition_count": "4"},
        {**good, "partition_count": 0},
        {**good, "partition_count": True},
        {**good, "partition_count": 1e9},
        {**good, "hub": None},
        {**good, "cluster_id": 7},
        {**good, "format": 2},
        {"format": 1},
        [],
        None,
    ):
        (tmp_path / "hub.json").write_text(json.dumps(wrong))
        with pytest.raises(HubRefused, match=r"hub\.json"):
            read_hub_file(tmp_path)
    for text in ("", "{", "[" * 100_000, "\udcff"):
        (tmp_path / "hub.json").write_text(text, errors="surrogateescape")
        with pytest.raises(HubRefused):
            read_hub_file(tmp_path)
    (tmp_path / "hub.json").unlink()
    with pytest.raises(HubMissing):
        read_hub_file(tmp_path)


def exported(directory: Path) -> bytes:
    cluster = Cluster(2)
    cluster.join()
    for name in ("a", "b", "c"):
        cluster.send(name, Start("family", b'["x%b"]' % name.encode()))
    cluster.until(lambda: {"a", "b", "c"} <= cluster.ended().keys())
    with (directory / "export").open("w") as out:
        write_export(read_log(cluster.client), out)
    return (directory / "export").read_bytes()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return exported(tmp_path_factory.mktemp("export"))


@given(data=st.data())
@QUIET
def test_an_altered_export_is_refused_or_audited_and_what_was_altered_shows(
    data: st.DataObject, export: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "altered"
    lines = export.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(altered(lines[number]))
    file.write_bytes(b"\n".join(lines) + b"\n")
    try:
        records = read_export(file)
    except ExportError as error:
        refusal = str(error)
    else:
        refusal = ""
        whole = {partition: places(each) for partition, each in read_export(write(file, export)).items()}
        found = {partition: places(each) for partition, each in records.items()}
        # The last record of a partition is covered by no digest but that of a head that was kept (`audit --head`).
        if any(found.get(partition, [])[:-1] != each[:-1] for partition, each in whole.items()):
            assert audit_records(records).findings
        else:
            audit_records(records)
    assert not refusal or f"line {number + 1}" in refusal


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def places(records: Sequence[LogRecord]) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) for record in records]
