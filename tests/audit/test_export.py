"""An export is the log again, offsets and all."""

from io import StringIO
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.audit import (
    AuditReport,
    Counts,
    ExportError,
    Finding,
    Head,
    audit_records,
    read_export,
    read_log,
    write_export,
)
from perdure.partitions.memory import MemoryHub, MemoryLog
from perdure.partitions.ports import LogRecord
from tests.audit.simulated import PARTITIONS, run_hub
from tests.partitions.cluster import Clock

RECORDS = st.builds(
    LogRecord,
    st.integers(0, 1 << 60),
    st.none() | st.binary(max_size=6) | st.text("aé", max_size=4).map(str.encode),
    st.none() | st.binary(max_size=20),
    st.integers(0, 1 << 50),
)


def export(records: dict[int, list[LogRecord]], path: Path) -> int:
    out = StringIO()
    count = write_export(records, out)
    path.write_text(out.getvalue(), encoding="utf-8")
    return count


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@given(st.dictionaries(st.integers(0, 40), st.lists(RECORDS, min_size=1, max_size=4), max_size=3))
def test_records_come_back_from_an_export(folder: Path, records: dict[int, list[LogRecord]]) -> None:
    path = folder / "history.jsonl"

    assert sum(map(len, records.values())) == export(records, path)
    assert records == read_export(path)


def test_an_audit_of_an_export_is_an_audit_of_the_log(tmp_path: Path) -> None:
    records = run_hub()
    export(records, tmp_path / "history.jsonl")

    assert audit_records(records) == audit_records(read_export(tmp_path / "history.jsonl"))


def test_a_line_of_an_export_says_what_it_is(tmp_path: Path) -> None:
    export({3: [LogRecord(7, b"order-1", b"\xd0", 5)]}, tmp_path / "history.jsonl")

    line = orjson.loads((tmp_path / "history.jsonl").read_bytes())
    assert {"partition": 3, "offset": 7, "timestamp_ms": 5, "key": "order-1", "value": "0A=="} == line


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"partition": 0, "offset": "x", "timestamp_ms": 0, "key": null, "value": null}',
        '{"partition": 0, "offset": 0, "timestamp_ms": 0, "key": null, "value": "?"}',
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    export({0: [LogRecord(0, None, None, 0)]}, path)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")

    with pytest.raises(ExportError, match=r"history\.jsonl, line 2: expected an exported record"):
        read_export(path)


def test_a_log_is_read_to_where_it_ended_when_the_reading_began() -> None:
    hub = MemoryHub(PARTITIONS, Clock())
    log = MemoryLog(hub)
    writer = log.open_history(0)
    writer.append("k", b"first")
    log.wait(0)

    records = read_log(log)
    writer.append("k", b"second")
    log.wait(0)

    assert {0: [b"first"], 1: []} == {
        partition: [record.value for record in found] for partition, found in records.items()
    }


def test_a_head_is_read_as_it_is_shown() -> None:
    head = Head(3, 1_234, bytes(range(16)))

    assert "3:1234:000102030405060708090a0b0c0d0e0f" == str(head)
    assert head == Head.parse(str(head))
    for wrong in ("", "1:2", "1:2:xyz", "a:2:00"):
        with pytest.raises(ValueError, match="a head is partition:offset:digest"):
            Head.parse(wrong)


def test_a_report_is_json_for_programs() -> None:
    counts = Counts(records=1, claims=1)
    counts.finished["COMPLETED"] += 2
    report = AuditReport((Finding(1, 7, "R8", "twice"),), counts, {1: counts}, (Head(1, 7, b"\0" * 16),))

    shown = orjson.loads(orjson.dumps(report.as_json()))
    assert 2 == shown["exit_code"]
    assert [{"partition": 1, "offset": 7, "rule": "R8", "message": "twice", "blame": "log"}] == shown["findings"]
    assert {"COMPLETED": 2} == shown["counts"]["finished"]
    assert ["1:7:" + "00" * 16] == shown["heads"]
    assert "1:7 R8: twice" == str(report.findings[0])
