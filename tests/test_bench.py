"""The benchmark, made small: its rows come from runs whose every result was checked, on a hub that audits clean, else from none."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bench import __main__ as command
from bench.bare_system import BrokerUnderTest, bare_system
from bench.embedded_system import embedded_engines
from bench.floods import GROWTH_MAX, growth
from bench.jobs import Job, fan_out_job, hello_job
from bench.kafka_system import kafka_engines
from bench.measure import BenchmarkFailed, Cpu, Load, closed_loop
from bench.process import perdure
from bench.report import Row
from bench.suite import SHORT, Effort, Group, groups_of, measure_group

# Enough for the clock of CPU time, which ticks a hundred times a second.
LOAD = Load(instances=300, in_flight=20)
TWICE = Effort(runs=2, latency_instances=LOAD.instances, throughput_instances=LOAD.instances, wide_instances=10)
HELLO = Group(partial(hello_job, 3), LOAD)


@pytest.fixture(scope="module")
def rows() -> Sequence[Row]:
    return measure_group(HELLO, TWICE, embedded_engines, None)


def test_a_group_on_the_embedded_log_gives_a_row_for_each_kind_of_activity(rows: Sequence[Row]) -> None:
    assert [("hello3", "plain"), ("hello3", "async")] == [(row.name, row.kind) for row in rows]
    assert {("embedded", "orchestrations/s", "synced to disk", 300, 2)} == {
        (row.log, row.unit, row.durable, row.instances, row.runs) for row in rows
    }
    for row in rows:
        assert row.low <= row.value <= row.high
        assert row.engine_cpu_s > 0
        # At least a turn with the start, and one with the end.
        assert (row.records or 0) >= 2
        assert (row.bytes or 0) > 0


@pytest.mark.kafka
def test_on_kafka_the_bare_loop_races_along_and_every_row_has_its_ratio(kafka_servers: str) -> None:
    broker = BrokerUnderTest(kafka_servers, ())
    with bare_system(broker) as bare:
        rows = measure_group(HELLO, TWICE, kafka_engines(broker), bare)

    assert ["kafka", "kafka", "bare loop"] == [row.log for row in rows]
    assert all(row.ratio is not None and row.ratio > 0 for row in rows[:2])
    assert rows[2].ratio is None


def test_what_is_measured_is_what_was_asked_for() -> None:
    found = {(group.job("plain").name, group.load.in_flight, group.partitions) for group in groups_of(SHORT)}

    assert {(f"hello{n}", in_flight, 1) for n in (3, 5) for in_flight in (1, 100, 400)} <= found
    assert {("hello5", 100, 12), ("hello5", 400, 12), ("seq-100", 10, 1), ("fan-out-100", 10, 1)} <= found
    assert {"hello3"} == {group.job("plain").name for group in groups_of(SHORT, "hello3")}


class Answers:
    """A system that answers every start in the way it was told to."""

    def __init__(self, *answers: object) -> None:
        self.driver = self
        self._answers = answers
        self._begun: list[str] = []

    def cpu(self) -> Cpu:
        return Cpu(0, 0, 0)

    def start(self, instance_id: str, job: Job) -> None:
        self._begun.append(instance_id)

    def take_ended(self, timeout_seconds: float) -> Sequence[tuple[str, object]]:
        ended = [(each, answer) for each in self._begun for answer in self._answers]
        self._begun.clear()
        return ended


RIGHT = ["hello w0"]


@pytest.mark.parametrize(
    ("answers", "said"),
    [([["hello w1"]], r"tag-0 .* ended with \['hello w1'\]"), ([RIGHT, RIGHT], "ended twice"), ([], "nothing ended")],
)
def test_a_run_with_a_wrong_a_double_or_a_missing_answer_gives_no_figure(answers: list[object], said: str) -> None:
    closed_loop(Answers(RIGHT), fan_out_job(1, "plain"), Load(3, 1), "tag")
    with pytest.raises(BenchmarkFailed, match=said):
        closed_loop(Answers(*answers), fan_out_job(1, "plain"), Load(3, 1), "tag")


def test_a_hub_that_does_not_audit_clean_fails_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="audit"):
        perdure({}, "audit", "--dir", str(tmp_path / "none"))


@pytest.mark.parametrize("clean", [True, False])
def test_figures_are_written_only_when_all_is_clean(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows: Sequence[Row],
    clean: bool,
) -> None:
    def measure(groups: Sequence[Group], effort: Effort, log: str, console: Console) -> Sequence[Row]:
        if not clean:
            raise BenchmarkFailed("tag-0 ended twice")
        return rows

    (tmp_path / "build").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["bench", "--short"])
    if clean:
        command.main()
        written = json.loads((tmp_path / "build" / "bench.json").read_text())
        assert [row.value for row in rows] == [row["value"] for row in written["rows"]]
        return
    with pytest.raises(SystemExit, match="1"):
        command.main()
    assert "No figure is written: tag-0 ended twice" in capsys.readouterr().out
    assert [] == list((tmp_path / "build").iterdir())


def test_memory_that_goes_on_growing_shows() -> None:
    filling, steady = [100, 180, 240, 280, 300, 310], [311, 309, 312]

    assert growth([*filling[:3], *steady, *steady]) < GROWTH_MAX < growth([*filling[:3], 280, 300, 320, 340, 360, 380])
