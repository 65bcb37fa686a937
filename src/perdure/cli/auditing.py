"""`perdure audit`: a hub's history, one instance or an export, checked against the rules of the log and against the code."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.config import Loaded, Settings
from perdure.errors import InvalidRequest

from .apps import load_app
from .command import command
from .starting import Json

if TYPE_CHECKING:
    from perdure.audit import AuditReport, Records


def register(app: typer.Typer) -> None:
    app.command("audit", rich_help_panel="Look")(audit)


@command()
def audit(
    loaded: Loaded,
    app: Annotated[str, typer.Option("--app", help="The code to run the decisions again with, as module:name.")] = "",
    source: Annotated[Path | None, typer.Option("--from", help="Audit this export, not the hub.")] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Only write the history here, offsets kept.")] = None,
    instance: Annotated[str | None, typer.Option("--instance", help="Look at this instance's turns only.")] = None,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="A head that the log must hold, as audit prints it.")
    ] = None,
    json: Json = False,
) -> int:
    """Audit a history. Exit 0: clean; 2: the log is broken; 3: the code decides otherwise; 4: the code is not there."""
    from perdure.audit import Head, audit_records, read_export, write_export

    records = read_export(source) if source is not None else _read_hub(loaded.settings)
    if export is not None:
        with export.open("w", encoding="utf-8") as out:
            count = write_export(records, out)
        typer.echo(f"{count} records written to {export}")
        return 0
    try:
        heads = [Head.parse(text) for text in head or ()]
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    name = app or loaded.settings.app
    report = audit_records(records, load_app(name) if name else None, heads=heads, only=instance)
    _show(report, json=json)
    return report.exit_code


def _read_hub(settings: Settings) -> "Records":
    """What the hub's history holds now: on Kafka where brokers are named, else in the state directory."""
    from perdure.audit import read_log
    from perdure.client.hubs import open_errors
    from perdure.connection import kafka_settings_of

    with open_errors():
        if settings.brokers:
            from perdure.partitions.kafka import KafkaLog

            return read_log(KafkaLog.open_reader(kafka_settings_of(settings)))
        from perdure.partitions.embedded.reader import EmbeddedReader

        return read_log(EmbeddedReader(settings.dir))


def _show(report: "AuditReport", *, json: bool) -> None:
    from .output import answers, print_json

    if json:
        print_json(report.as_json())
        return
    for finding in report.findings:
        answers().print(str(finding), markup=False, highlight=False)
    for name, value in report.counts.as_json().items():
        answers().print(f"{name.replace('_', ' ')}: {value}", markup=False, highlight=False)
    for partition, offset in report.begins_at.items():
        line = f"partition {partition}: the evidence begins at offset {offset}, a base; what was before it was trimmed"
        answers().print(line, markup=False, highlight=False)
    for each in report.heads:
        answers().print(f"head {each}", markup=False, highlight=False)
