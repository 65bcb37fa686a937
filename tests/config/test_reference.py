"""docs/CONFIGURATION.md lists every setting as it is, and every property that is fixed."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from perdure.cli import app
from perdure.config import Settings, written
from perdure.partitions.kafka import FIXED

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "CONFIGURATION.md"


def rows(width: int) -> list[list[str]]:
    """The rows of the tables of so many columns, without their heads."""
    lines = [line for line in REFERENCE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == width]


def flags() -> dict[str, str]:
    """The settings that any command has as a flag."""

    def options(command: Any) -> Iterator[tuple[str, str]]:
        for inner in getattr(command, "commands", {}).values():
            yield from options(inner)
        yield from ((each.name, each.opts[0]) for each in command.params if each.param_type_name == "option")

    return dict(options(typer.main.get_command(app)))


def test_every_setting_has_its_row() -> None:
    known = flags()
    expected = [
        [
            each.name,
            f"PERDURE_{each.name.upper()}",
            known.get(each.name, ""),
            str(written(each.default)),
            each.metadata["help"].replace("`", ""),
        ]
        for each in fields(Settings)
        if each.name != "kafka"
    ]

    assert expected == rows(5)


def test_every_fixed_property_has_its_row() -> None:
    assert [[name, why.replace("`", "")] for name, why in FIXED.items()] == rows(2)


def test_the_example_can_be_loaded(tmp_path: Path) -> None:
    from perdure.config import load_settings

    example = re.search(r"```toml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (tmp_path / "perdure.toml").write_text(example[1])
    loaded = load_settings({}, {}, tmp_path).settings

    assert ("orders", "lz4") == (loaded.hub, loaded.kafka["compression.type"])
