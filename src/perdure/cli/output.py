"""How things are shown: tables and colours to people, JSON to programs.

Rules of this file: the answer goes to stdout and everything else to stderr; where nobody watches, nothing is cut to a width. What
others wrote passes `plain` or `quoted`, so that it is neither markup nor a terminal's command.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from perdure.client import Instance
from perdure.client.views import View, encode_json
from perdure.masking import visible, visible_json
from perdure.schemas.events import Failure, Status

# What no row reaches: ids, reasons and values are whole where nobody watches.
_WIDE = 1_000_000
_SHORT = 60
_COLOURS = {
    Status.PENDING: "yellow",
    Status.RUNNING: "blue",
    Status.SUSPENDED: "magenta",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELED: "red",
    Status.TERMINATED: "red",
}


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


@cache
def answers() -> Console:
    """Where answers go."""
    return _console(stderr=False)


@cache
def errors() -> Console:
    """Where everything else goes."""
    return _console(stderr=True)


def note(text: str) -> None:
    """Say something beside the answer. `text` is markup of ours; what others wrote in it is `quoted`."""
    errors().print(text, soft_wrap=True)


def plain(text: object, style: str = "", keep: str = "") -> Text:
    """What others wrote, as a text that is nothing else."""
    return Text(visible(str(text), keep), style)


def quoted(text: object) -> str:
    """What others wrote, within markup of ours."""
    return escape(visible(str(text)))


def print_line(text: str) -> None:
    """One line of an answer."""
    answers().out(visible(text), highlight=False)


def print_json(value: Any) -> None:
    """JSON for programs: one document, indented for the eye."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() if _fits(value) else encode_json(value).decode()
    answers().out(visible_json(text))


def _fits(value: Any) -> bool:
    """False where orjson could not hold an integer."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def status_text(status: Status) -> Text:
    return Text(status.name, style=_COLOURS.get(status, ""))


def short_json(value: Any, length: int = _SHORT) -> str:
    """A value in one line, cut where it is long and somebody watches."""
    text = visible_json(encode_json(value).decode())
    return text if len(text) <= length or not answers().is_terminal else f"{text[: length - 1]}…"


def local_time(moment: datetime) -> str:
    """A time as people here read it; with its zone where a program may read it."""
    if not answers().is_terminal:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    here = moment.astimezone()
    return here.strftime("%H:%M:%S" if here.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


def instance_table(instances: Iterable[Instance]) -> Table:
    """Instances, one in a row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "ORCHESTRATION", "STATUS", "CREATED", "UPDATED", "NOTE"):
        table.add_column(name, no_wrap=name != "NOTE", overflow="fold")
    for each in instances:
        table.add_row(
            plain(each.instance_id),
            plain(each.name),
            status_text(each.status),
            local_time(each.created_at),
            local_time(each.updated_at),
            _note_of(each),
        )
    return table


def print_table(table: Table) -> None:
    """A table; where nobody watches its rows end where their text does."""
    if answers().is_terminal:
        answers().print(table)
        return
    with answers().capture() as drawn:
        answers().print(table)
    answers().out("\n".join(row.rstrip(" ") for row in drawn.get().rstrip("\n").split("\n")), highlight=False)


def _note_of(instance: Instance) -> Text:
    if instance.held is not None:
        return plain(f"held: {instance.held.reason}", "yellow")
    if instance.failure is not None:
        return plain(f"{instance.failure.type}: {instance.failure.message}", "red")
    return plain("" if instance.custom_status is None else short_json(instance.custom_status))


def print_instance(instance: Instance) -> None:
    """One instance, all of it."""
    rows: dict[str, Any] = {
        "id": instance.instance_id,
        "orchestration": instance.name,
        "status": status_text(instance.status),
        "created": local_time(instance.created_at),
        "updated": local_time(instance.updated_at),
        "execution": f"{instance.execution_id} (generation {instance.generation})",
        "input": short_json(instance.input, 500),
    }
    if instance.status == Status.COMPLETED or instance.result is not None:
        rows["result"] = short_json(instance.result, 500)
    if instance.custom_status is not None:
        rows["custom status"] = short_json(instance.custom_status, 500)
    if instance.tags:
        rows["tags"] = ", ".join(f"{key}={value}" for key, value in sorted(instance.tags.items()))
    if instance.parent_instance_id is not None:
        rows["parent"] = instance.parent_instance_id
    if instance.held is not None:
        rows["held"] = plain(f"{instance.held.kind}: {instance.held.reason}", "yellow")
    events = f"{instance.history_events} event{'s' if instance.history_events != 1 else ''}"
    rows["history"] = f"{events}, partition {instance.partition}, as of offset {instance.as_of}"
    print_fields(rows)
    if instance.failure is not None:
        print_failure(instance.failure)


def print_fields(rows: Mapping[str, Any]) -> None:
    """Names and values, in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value if isinstance(value, Text) else plain(value))
    print_table(table)


def print_failure(failure: Failure) -> None:
    """A failure with its causes, the outermost first."""
    word = "failure"
    link: Failure | None = failure
    while link is not None:
        answers().print(f"[dim]{word}[/] [red]{quoted(link.type)}[/]: {quoted(link.message)}", soft_wrap=True)
        if link.stack:
            answers().print(plain(link.stack.rstrip(), "dim", keep="\n"), soft_wrap=True)
        word, link = "caused by", link.cause


def print_turns(turns: Iterable[View]) -> None:
    """A history: each turn with its events."""
    for turn in turns:
        decided = "" if turn["decided"] else " [dim](not decided)[/]"
        answers().print(f"[bold]{quoted(turn['offset'])}[/]  [dim]{quoted(turn['time'])}[/]{decided}")
        for event in turn["events"]:
            fields = {
                name: value for name, value in event.items() if name != "type" and value not in (None, "", [], {}, -1)
            }
            shown = "  ".join(f"[dim]{quoted(name)}=[/]{quoted(short_json(value))}" for name, value in fields.items())
            answers().print(f"  [cyan]{quoted(event['type'])}[/]  {shown}", soft_wrap=True)
