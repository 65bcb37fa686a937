"""`perdure config`: the values in force, and where they came from."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import typer

from perdure.config import Loaded, Settings, is_secret, written
from perdure.errors import ConfigError
from perdure.masking import MASK, masked

from .command import command
from .starting import Json


def register(app: typer.Typer) -> None:
    app.command("config", rich_help_panel="Project")(config)


@command()
def config(loaded: Loaded, json: Json = False) -> None:
    """Show the configuration: a flag over a PERDURE_ variable over perdure.toml over the default. Secrets are masked."""
    from rich.table import Table
    from rich.text import Text

    from perdure.connection import kafka_settings

    from .output import note, plain, print_json, print_table, quoted

    unknown = _unknown(loaded)
    rows = [*_rows(loaded, unknown)]
    if json:
        print_json({name: {"value": value, "source": source} for name, value, source, _ in rows})
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("SETTING", "VALUE", "SOURCE", "WHAT IT IS"):
            table.add_column(title, no_wrap=title == "SETTING", overflow="fold")
        for name, value, source, text in rows:
            shown = plain(value, "" if source == "default" else "bold")
            table.add_row(
                quoted(name), shown, plain(source, "dim" if source == "default" else ""), Text(text, style="dim")
            )
        print_table(table)
    if others := [variable for variable, meant in loaded.ignored.items() if not meant]:
        note(f"no settings of perdure's: {quoted(', '.join(others))}")
    if loaded.settings.kafka:
        kafka_settings(loaded.settings.hub, loaded.settings.brokers, loaded.settings.kafka)
    if unknown:
        raise ConfigError(
            f"[kafka] librdkafka has no property {', '.join(unknown)}; what was given is not shown, since the name of a secret may have a "
            "slip in it"
        )


def _unknown(loaded: Loaded) -> Collection[str]:
    """Properties that librdkafka does not have."""
    if not loaded.settings.kafka:
        return ()
    from perdure.partitions.kafka.settings import find_unknown

    return find_unknown(loaded.settings.kafka)


def _rows(loaded: Loaded, unknown: Collection[str]) -> list[tuple[str, Any, str, str]]:
    """Name, value, source and meaning of every setting."""
    rows: list[tuple[str, Any, str, str]] = []
    for each in fields(Settings):
        if each.name != "kafka":
            value = written(getattr(loaded.settings, each.name))
            rows.append((each.name, _masked(each.name, value), loaded.sources[each.name], each.metadata["help"]))
    for name, value in sorted(loaded.settings.kafka.items()):
        shown = MASK if name in unknown else _masked(name, value)
        rows.append((f"kafka.{name}", shown, loaded.sources[f"kafka.{name}"], "librdkafka's"))
    return rows


def _masked(name: str, value: Any) -> Any:
    """Secrets are not shown, nor is who one is to a proxy or a registry that stands in an address."""
    if is_secret(name) and value not in ("", None):
        return MASK
    return masked(value) if isinstance(value, str) else value
