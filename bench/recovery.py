"""`python -m bench.recovery`: measure recovery and changes of hands on a real broker; write build/recovery.json and build/recovery.md."""

import argparse
import shutil
import sys
import tempfile
from itertools import chain
from pathlib import Path

from rich.console import Console

from .broker import warm_broker
from .figures import Figure, figures_markdown, write_figures
from .folding import measure_folding
from .handover import measure_handover
from .machine import machine_description
from .measure import BenchmarkFailed
from .process import STATE

FIGURES = Path("build/recovery.json")
TABLE = Path("build/recovery.md")


def main() -> None:
    options = argparse.ArgumentParser(prog="bench.recovery", description=__doc__)
    options.add_argument("--runs", type=int, default=10, help="how often each is done (10)")
    given = options.parse_args()
    console = Console()
    STATE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="recovery-", dir=STATE))
    figures: list[Figure] = []
    try:
        with warm_broker() as broker:
            for figure in chain(
                measure_folding(broker, given.runs, directory), measure_handover(broker, given.runs, directory)
            ):
                figures.append(figure)
                console.print(f"{figure.name}: {figure.median:,} {figure.unit}, p95 {figure.p95:,}; {figure.aim}")
    except BenchmarkFailed as failed:
        console.print(f"[red]No figure is written:[/] {failed}")
        sys.exit(1)
    machine = machine_description()
    write_figures(figures, machine, FIGURES)
    TABLE.write_text(f"{machine}\n\n{figures_markdown(figures)}\n", encoding="utf-8")
    console.print(f"{machine}\nFigures: {FIGURES}; table: {TABLE}.")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
