"""Figures of recovery: of a few samples the median, the one that 95 % are at least as good as, and the worst, beside the aim."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    samples: int
    median: float
    p95: float
    worst: float
    unit: str
    aim: str


def figure_of(name: str, values: Sequence[float], unit: str, aim: str) -> Figure:
    """A unit per second is the better the more there is of it, seconds the fewer there are."""
    ordered = sorted(values, reverse="/s" in unit)
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return Figure(name, len(ordered), _short(statistics.median(ordered)), _short(p95), _short(ordered[-1]), unit, aim)


def _short(value: float) -> float:
    return round(value) if value >= 1_000 else round(value, 3)


def write_figures(figures: Sequence[Figure], machine: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def figures_markdown(figures: Sequence[Figure]) -> str:
    lines = ["| what | samples | median | p95 | worst | unit | aim |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {figure.name} | {figure.samples} | {figure.median:,} | {figure.p95:,} | {figure.worst:,} | {figure.unit} | {figure.aim} |"
        for figure in figures
    ]
    return "\n".join(lines)
