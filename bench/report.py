"""The figures: rows of build/bench.json and the table that is printed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .measure import Cpu, Run, spread_of


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. CPU seconds are sums over all runs; `ratio` is to the bare loop of the same run: per CPU-second of the
    engine where the unit is a rate, of the time to answer where it is milliseconds."""

    name: str
    log: str
    kind: str
    partitions: int
    in_flight: int
    value: float
    low: float
    high: float
    unit: str
    p95_ms: float
    per_engine_cpu_second: float
    ratio: float | None
    instances: int
    runs: int
    engine_cpu_s: float
    client_cpu_s: float
    broker_cpu_s: float
    records: float | None
    bytes: float | None
    durable: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What a row is about, besides its figures. `records` and `bytes` are per orchestration, where the log was counted."""

    name: str
    log: str
    kind: str
    durable: str
    activities: int
    partitions: int
    records: float | None = None
    bytes: float | None = None


def row_of(subject: Subject, runs: Sequence[Run], bare: Sequence[Run]) -> Row:
    """One in flight is a time to answer; hello is orchestrations a second; the wider shapes are activities a second."""
    load = runs[0].load
    latency = load.in_flight == 1
    rate = 1 if subject.name.startswith("hello") else subject.activities
    value = spread_of([run.percentile_ms(0.5) if latency else run.per_second * rate for run in runs])
    cpu = sum((run.cpu for run in runs), Cpu(0, 0, 0))
    instances = load.instances * len(runs)
    return Row(
        name=subject.name,
        log=subject.log,
        kind=subject.kind,
        partitions=subject.partitions,
        in_flight=load.in_flight,
        value=round(value.median, 2),
        low=round(value.low, 2),
        high=round(value.high, 2),
        unit="ms" if latency else "orchestrations/s" if rate == 1 else "activities/s",
        p95_ms=round(spread_of([run.percentile_ms(0.95) for run in runs]).median, 2),
        per_engine_cpu_second=round(instances / cpu.engine, 1),
        ratio=ratio_to(bare, runs, latency=latency),
        instances=load.instances,
        runs=len(runs),
        engine_cpu_s=round(cpu.engine, 2),
        client_cpu_s=round(cpu.client, 2),
        broker_cpu_s=round(cpu.broker, 2),
        records=subject.records,
        bytes=subject.bytes,
        durable=subject.durable,
    )


def ratio_to(bare: Sequence[Run], runs: Sequence[Run], *, latency: bool) -> float | None:
    if not bare:
        return None
    if latency:
        return round(median_ms(runs) / median_ms(bare), 3)
    return round(per_cpu_second(runs) / per_cpu_second(bare), 3)


def median_ms(runs: Sequence[Run]) -> float:
    return spread_of([run.percentile_ms(0.5) for run in runs]).median


def per_cpu_second(runs: Sequence[Run]) -> float:
    return spread_of([run.per_engine_cpu_second for run in runs]).median


def write_rows(rows: Sequence[Row], machine: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


COLUMNS = (
    "what",
    "log",
    "activities",
    "partitions",
    "in flight",
    "median (spread)",
    "p95 ms",
    "per engine CPU-s",
    "to bare loop",
    "CPU s engine/client/broker",
    "records, bytes",
)


def print_rows(rows: Sequence[Row], console: Console) -> None:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*cells_of(row))
    console.print(table)


def cells_of(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.log,
        row.kind,
        str(row.partitions),
        str(row.in_flight),
        f"{row.value:,} {row.unit} ({row.low:,} to {row.high:,})",
        f"{row.p95_ms}",
        f"{row.per_engine_cpu_second:,.0f}",
        "" if row.ratio is None else f"{row.ratio:.0%}" if row.in_flight > 1 else f"{row.ratio:.2f} times",
        f"{row.engine_cpu_s:.1f}/{row.client_cpu_s:.1f}/{row.broker_cpu_s:.1f}",
        "" if row.records is None else f"{row.records:.1f}, {row.bytes:,.0f}",
    )


def markdown_of(rows: Sequence[Row]) -> str:
    """The same table for docs/BENCHMARKS.md."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cells_of(row)) + " |" for row in rows]
    return "\n".join(lines)
