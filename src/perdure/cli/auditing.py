"""`perdure audit`: a hub's history, one instance or an export, checked against the rules of the log and against the code."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.config import Loaded
from perdure.connection import find_dev, hub_directory, is_elsewhere, looks_at_directory
from perdure.errors import ConfigError, HubUnavailable, InstanceNotFound, InvalidRequest

from .apps import load_app
from .command import AUDIT_USAGE, AuditCommand, command, say_error
from .starting import Json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from perdure.audit import AuditReport, Head, History, Records
    from perdure.partitions.ports import LogRecord


def register(app: typer.Typer) -> None:
    app.command("audit", cls=AuditCommand, rich_help_panel="Look")(audit)


@command(usage=AUDIT_USAGE)
def audit(
    loaded: Loaded,
    app: Annotated[
        str, typer.Option("--app", help="The code to run the decisions again with; default: `app` of perdure.toml.")
    ] = "",
    source: Annotated[Path | None, typer.Option("--from", help="Audit this export, not the hub.")] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Only write the history to this file, offsets kept; - is stdout.")
    ] = None,
    instance: Annotated[str | None, typer.Option("--instance", help="Look at this instance's turns only.")] = None,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="A head that the log must hold, as an earlier audit printed it.")
    ] = None,
    json: Json = False,
) -> int:
    """Audit a history. Exit 0: clean; 2: the log is broken; 3: the code decides otherwise; 4: the code is not there."""
    from perdure.audit import Blame, ExportError, Head, audit_records
    from perdure.client.hubs import open_errors

    try:
        heads = [Head.parse(text) for text in head or ()]
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    name = app or loaded.settings.app
    code = load_app(name) if name and export is None else None
    try:
        with open_errors(), _records(loaded, source, instance) as records:
            if export is not None:
                return _export(records, export)
            report = audit_records(records, code, heads=_heads_of(heads, records, instance), only=instance)
    except ExportError as error:
        say_error(str(error))
        return Blame.LOG.value
    if instance is not None and not report.findings and not report.counts.turns:
        raise InstanceNotFound(f"this history has no turn of an instance {instance!r}; check the id", instance)
    _show(report, checked=code is not None, json=json)
    return report.exit_code


@contextmanager
def _records(loaded: Loaded, source: Path | None, instance: str | None) -> "Iterator[Records]":
    """The records to audit, counted before somebody's eyes. Reading raises what the log raises."""
    from perdure.audit import NotAnExport, read_export, read_log
    from perdure.partitions.partitioner import partition_of

    if source is not None:
        try:
            records = read_export(source)
        except OSError as error:
            raise ConfigError(f"--from {source} cannot be read: {error.strerror or error}") from error
        except NotAnExport as error:
            raise ConfigError(f"--from {source}: {error}") from error
        with _watched(records, sum(map(len, records.values()))) as watched:
            yield watched
        return
    with _history(loaded) as log:
        count = log.identity.partition_count
        wanted = range(count) if instance is None else [partition_of(instance, count)]
        spans = [log.span_history(partition) for partition in wanted]
        with _watched(read_log(log, wanted), sum(span.end - span.start for span in spans)) as watched:
            yield watched


@contextmanager
def _history(loaded: Loaded) -> "Iterator[History]":
    """The log itself: the directory's, where a hub stands there and no other is meant, else Kafka's."""
    settings = loaded.settings
    nearby = not is_elsewhere(loaded) and find_dev(settings.dir) is not None
    if nearby or looks_at_directory(loaded):
        from perdure.partitions.embedded import EmbeddedReader

        yield EmbeddedReader(hub_directory(loaded))
        return
    if not settings.brokers or (loaded.named_now("url") and not loaded.named_now("brokers")):
        raise ConfigError(
            f"an audit reads the log itself, and none is named: set brokers, or --dir (there is no hub in {settings.dir}), "
            "or give an export with --from"
        )
    from perdure.connection import kafka_settings_of
    from perdure.partitions.kafka import KafkaLog

    log = KafkaLog.open_reader(kafka_settings_of(settings))
    try:
        yield log
    finally:
        log.close()


@contextmanager
def _watched(records: "Records", total: int) -> "Iterator[Records]":
    """The same records; where somebody watches, a bar shows how far they are read."""
    from rich.progress import Progress

    from .output import errors

    if not errors().is_terminal:
        yield records
        return
    with Progress(console=errors(), transient=True) as progress:
        task = progress.add_task("reading", total=total)
        yield {partition: _Watched(each, progress, task) for partition, each in records.items()}


class _Watched:
    """Records that move a bar as they are read, which may be more than once."""

    def __init__(self, records: "Iterable[LogRecord]", progress: "Progress", task: "TaskID") -> None:
        self._records = records
        self._progress = progress
        self._task = task

    def __iter__(self) -> "Iterator[LogRecord]":
        for record in self._records:
            yield record
            self._progress.advance(self._task)

    def look_again(self) -> bool:
        """The records were trimmed while they were read: the bar begins anew where they do."""
        from perdure.audit import Living

        return isinstance(self._records, Living) and self._records.look_again()


def _export(records: "Records", export: Path) -> int:
    """Write an export whole or not at all: an audit cannot tell half of one from a log whose tail was cut off."""
    from perdure.audit import ExportTrimmed, write_export

    from .output import note, quoted

    try:
        if export == Path("-"):
            write_export(records, sys.stdout, rewinds=False)
            return 0
        if export.exists() and not export.is_file():  # a pipe, perhaps
            with export.open("w", encoding="utf-8") as out:
                count = write_export(records, out, rewinds=False)
        else:
            count = _export_whole(records, export)
    except ExportTrimmed as error:
        raise HubUnavailable(str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"--export {export} cannot be written: {error.strerror or error}") from error
    note(f"{count} records written to {quoted(export)}")
    return 0


def _export_whole(records: "Records", export: Path) -> int:
    from perdure.audit import write_export

    draft = export.with_name(f"{export.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as out:
            count = write_export(records, out)
        draft.replace(export)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _heads_of(heads: "Sequence[Head]", records: "Records", instance: str | None) -> "list[Head]":
    """For one instance only its own partition is read, so only that one's head can be there."""
    return [head for head in heads if instance is None or head.partition in records]


_VERDICTS = {
    0: "[green]clean[/]",
    2: "[red]the log is broken[/]",
    3: "[red]the code decides otherwise[/]",
    4: "[yellow]the code is not there[/]",
}


def _show(report: "AuditReport", *, checked: bool, json: bool) -> None:
    from .output import note, print_fields, print_json, print_line

    if json:
        print_json(report.as_json() | {"decisions_checked": checked})
        return
    for finding in report.findings:
        print_line(str(finding))
    rows = {name.replace("_", " "): _shown(value) for name, value in report.counts.as_json().items()}
    rows |= {
        f"partition {partition} begins": f"at offset {offset}, a base; what was before it was trimmed"
        for partition, offset in report.begins_at.items()
    }
    print_fields(rows | {f"head of partition {each.partition}": str(each) for each in report.heads})
    count = len(report.findings)
    note(_VERDICTS[report.exit_code] + (f": {count} finding{'s' if count > 1 else ''}" if count else ""))
    if not checked:
        note("the decisions were not run again: name the code with --app")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {status}" for status, count in Counter(value).most_common()) or "0"
    return str(value)
