"""`python -m bench --full | --short`: measure, print a table, write build/bench.json. Exits 1, with no figure written, unless all is clean."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from perdure.logs import configure_logs

from .bare_system import bare_system
from .broker import warm_broker
from .embedded_system import embedded_engines
from .jobs import hello_job
from .kafka_system import kafka_engines
from .machine import machine_description
from .measure import BenchmarkFailed, Load, closed_loop
from .report import Row, markdown_of, print_rows, write_rows
from .suite import FULL, SHORT, Effort, Group, groups_of, measure_group

FIGURES = Path("build/bench.json")
TABLE = Path("build/bench.md")
TABLE_COLUMNS = 200
BROKER_WARM_UP = Load(instances=8_000, in_flight=200)


def main() -> None:
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("--full", dest="effort", action="store_const", const=FULL, default=FULL)
    options.add_argument("--short", dest="effort", action="store_const", const=SHORT)
    options.add_argument("--log", choices=("both", "embedded", "kafka"), default="both")
    options.add_argument(
        "--only", default="", metavar="JOB", help="one job alone: hello3, hello5, seq-100 or fan-out-100"
    )
    given = options.parse_args()
    configure_logs("warning")
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    groups = groups_of(given.effort, given.only)
    if not groups:
        options.error(f"--only: no job is named {given.only!r}")
    try:
        rows = measure(groups, given.effort, given.log, console)
    except BenchmarkFailed as failed:
        console.print(f"[red]No figure is written:[/] {failed}")
        sys.exit(1)
    machine = machine_description()
    write_rows(rows, machine, FIGURES)
    TABLE.write_text(f"{machine}\n\n{markdown_of(rows)}\n", encoding="utf-8")
    print_rows(rows, console)
    console.print(
        f"{machine}\nAll results were as expected and every hub audited clean. Rows: {FIGURES}; table: {TABLE}."
    )


def measure(groups: Sequence[Group], effort: Effort, log: str, console: Console) -> Sequence[Row]:
    rows: list[Row] = []
    if log != "kafka":
        for group in groups:
            rows += announced(console, measure_group(group, effort, embedded_engines, None))
    if log != "embedded":
        with ExitStack() as stack:
            broker = stack.enter_context(warm_broker())
            bare = stack.enter_context(bare_system(broker))
            closed_loop(bare, hello_job(5, "plain"), BROKER_WARM_UP, "warm")
            for group in groups:
                rows += announced(console, measure_group(group, effort, kafka_engines(broker), bare))
    return rows


def announced(console: Console, rows: Sequence[Row]) -> Sequence[Row]:
    for row in rows:
        console.print(f"{row.log} {row.kind} {row.name} x{row.in_flight}: {row.value:,} {row.unit}", highlight=False)
    return rows


if __name__ == "__main__":
    main()
