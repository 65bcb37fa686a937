"""`perdure start` and `perdure wait`, and the flags that commands share."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from perdure.config import Loaded, load_settings
from perdure.errors import ConfigError, NotCompleted, PerdureError, StartUnknown

from .command import BAD_ANSWER, command

if TYPE_CHECKING:
    from perdure.client.requests import Started

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Input = Annotated[str | None, typer.Option("--input", "-i", help="JSON; @FILE reads a file, - reads stdin.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", help="Seconds that the command may take; without it, the end is waited for as long as it takes."
    ),
]
IDS_COMPLETED_MAX = 50
_COMPLETION_SECONDS = 1.0
_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def register(app: typer.Typer) -> None:
    panel = "Instances"
    app.command("start", rich_help_panel=panel)(start)
    app.command("wait", rich_help_panel=panel)(wait)


def complete_if_exists(incomplete: str) -> list[str]:
    return [word for word in ("reject", "return", "replace") if word.startswith(incomplete)]


def complete_status(incomplete: str) -> list[str]:
    from perdure.client.requests import STATUSES

    return [name for name in STATUSES if name.startswith(incomplete.upper())]


def complete_id(context: typer.Context, incomplete: str) -> list[str]:
    """The newest ids that begin so, where an API can be asked: nobody who presses Tab waits for Kafka, or reads an error."""
    from perdure.client import AsyncClient, Client, ListOptions
    from perdure.connection import api_transport

    try:
        loaded = load_settings({name: context.params.get(name) for name in ("hub", "brokers", "url", "dir")})
        transport = api_transport(loaded)
        if transport is None:
            return []
        options = ListOptions(limit=IDS_COMPLETED_MAX)
        if incomplete:
            options["prefix"] = incomplete
        with Client(lambda: AsyncClient(transport, timeout=_COMPLETION_SECONDS)) as client:
            return [each.instance_id for each in client.list(**options)]
    except PerdureError:
        return []


Id = Annotated[str, typer.Argument(help="The instance's id.", metavar="ID", autocompletion=complete_id)]


@command()
def start(
    loaded: Loaded,
    orchestration: Annotated[str, typer.Argument(help="The orchestration's name.", metavar="NAME")],
    input: Input = None,  # noqa: A002 - the flag's name
    instance_id: Annotated[str | None, typer.Option("--id", help="The instance's id; left out, a new one.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="key=value; may be given several times.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="When: ISO 8601 with its zone, or in a while: +90s, +10m, +2h, +1d.")
    ] = None,
    if_exists: Annotated[
        str,
        typer.Option("--if-exists", help="reject, return or replace.", autocompletion=complete_if_exists),
    ] = "reject",
    replace_status: Annotated[
        list[str] | None,
        typer.Option(
            "--replace-status",
            help="A status that replace may end; default: those that have ended.",
            autocompletion=complete_status,
        ),
    ] = None,
    event: Annotated[list[str] | None, typer.Option("--event", help="NAME=JSON, raised before the first turn.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", help="To repeat a start whose outcome is unknown.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end and print the result.")] = False,
    timeout: Timeout = None,
    json: Json = False,
) -> int:
    """Start an instance and print its id; with --wait, its result."""
    from perdure.client import StartOptions
    from perdure.client.requests import checked_seconds

    from .clients import client_of, within

    if timeout is not None and not wait:
        raise ConfigError("--timeout goes with --wait: a start itself waits for PERDURE_REQUEST_TIMEOUT at most")
    until = None if checked_seconds(timeout) is None else monotonic() + (timeout or 0)
    request_id = uuid4().hex if request_id is None else request_id
    options = StartOptions(
        instance_id=instance_id,
        tags=read_tags(tag or ()),
        start_at=None if at is None else read_time(at),
        if_exists=if_exists,
        replace_statuses=replace_status or (),
        events=[
            (name, read_json(text, "--event")) for name, text in (read_pair(each, "--event") for each in event or ())
        ],
        request_id=request_id,
    )
    value = read_json(input, "--input")
    with client_of(within(loaded, timeout)) as client:
        with _telling_how_to_repeat(instance_id or request_id, request_id):
            begun = client.start(orchestration, value, **options)
        if wait:
            return _finish(begun, None if until is None else max(round(until - monotonic(), 1), 0), json=json)
        assert begun.started is not None
        _print_started(begun.started, json=json)
    return 0


def _print_started(started: "Started", *, json: bool) -> None:
    from .output import note, print_json, print_line

    if json:
        held = None if started.held is None else {"kind": started.held.kind, "reason": started.held.reason}
        print_json(
            {
                "instance_id": started.instance_id,
                "execution_id": started.execution_id,
                "created": started.created,
                "held": held,
            }
        )
        return
    print_line(started.instance_id)
    if not started.created:
        note("an instance of this id was there and is given back")


@contextmanager
def _telling_how_to_repeat(instance_id: str, request_id: str) -> Iterator[None]:
    """Whoever does not know whether it was started can ask again, and is told with what."""
    from .output import note, quoted

    try:
        yield
    except (StartUnknown, KeyboardInterrupt) as end:
        again = shlex.join(["--id", instance_id, "--request-id", request_id])
        # The error says itself what is not known.
        unknown = "" if isinstance(end, StartUnknown) else "it may have been started or not; "
        note(f"{unknown}to repeat it: the same, with {quoted(again)}")
        raise


@contextmanager
def _telling_how_to_wait_on(instance_id: str) -> Iterator[None]:
    """Whoever ends a wait ends nothing else, and may not have chosen the id."""
    from .output import note, quoted

    try:
        yield
    except KeyboardInterrupt:
        note(f"{quoted(instance_id)} goes on; to wait again: perdure wait {quoted(shlex.quote(instance_id))}")
        raise


@command()
def wait(loaded: Loaded, instance_id: Id, timeout: Timeout = None, json: Json = False) -> int:
    """Wait for an instance to end and print its result. Exits 1 if it did not complete, 6 when the time is over."""
    from .clients import client_of

    with client_of(loaded, reads=True) as client:
        return _finish(client.instance(instance_id), timeout, json=json)


def _finish(awaited: Any, timeout: float | None, *, json: bool) -> int:
    """Wait and print: the result, or with --json the instance."""
    from perdure.client.requests import judge_end
    from perdure.client.views import encode_json
    from perdure.masking import visible_json

    from .output import answers, errors, print_json, quoted

    with _telling_how_to_wait_on(awaited.id), errors().status(f"waiting for {quoted(awaited.id)}"):
        instance = awaited.wait(timeout)
    try:
        result = judge_end(instance)
    except NotCompleted:
        if not json:
            raise
        print_json(instance.as_json())
        return BAD_ANSWER
    if json:
        print_json(instance.as_json())
    else:
        answers().out(visible_json(encode_json(result).decode()))
    return 0


def read_json(text: str | None, flag: str) -> Any:
    """The value of a JSON flag. Raises ConfigError."""
    if text is None:
        return None
    given = _read_argument(text, flag)
    try:
        return json.loads(given, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ConfigError(
            f"""{flag} wants JSON, found {given[:60]!r} ({error}); a string needs its quotes: '"Ada"'"""
        ) from error


def _read_argument(text: str, flag: str) -> str:
    """The argument itself, standard input for `-`, or the file for `@FILE`."""
    try:
        if text == "-":
            return sys.stdin.read()
        return Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{flag}: {error}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def read_time(text: str) -> datetime:
    """A point in time, `+10m` or `-1h`. Raises ConfigError."""
    if span := re.fullmatch(r"([+-]\d+(?:\.\d+)?)([smhd])", text):
        try:
            return datetime.now(UTC) + timedelta(**{_SPANS[span[2]]: float(span[1])})
        except OverflowError:
            raise ConfigError(f"{text} from now is not within the years 1 to 9999") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"a time is ISO 8601, as 2026-01-31T12:00Z, or a span from now, as +10m or -1h; found {text!r}"
        ) from None
    return moment if moment.tzinfo is not None else moment.astimezone()


def read_pair(text: str, flag: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"{flag} wants NAME=VALUE, found {text!r}")
    return key, value


def read_tags(texts: Sequence[str]) -> dict[str, str]:
    """Each --tag. Raises ConfigError, also for one that is given twice: which one would be meant?"""
    tags: dict[str, str] = {}
    for key, value in (read_pair(text, "--tag") for text in texts):
        if tags.setdefault(key, value) != value:
            raise ConfigError(f"--tag {key} is given twice, as {tags[key]!r} and as {value!r}")
    return tags
