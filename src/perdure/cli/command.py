"""What every command shares: where the hub is, how errors are shown, and what exit codes mean.

Rules of this file: an error is one or two lines that say what to do next, never a traceback, unless --debug asks for it.
"""

import functools
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from perdure.config import Loaded, load_settings
from perdure.errors import (
    AppNotLoaded,
    ConfigError,
    HubError,
    HubRefused,
    InstanceNotFound,
    InvalidRequest,
    NoAnswer,
    NotCompleted,
    PerdureError,
    RequestRefused,
    StartUnknown,
    WaitTimeout,
)
from perdure.masking import masked, visible

BAD_ANSWER, USAGE, NOT_FOUND, TIMED_OUT, UNAVAILABLE, REFUSED, OUR_FAULT = 1, 2, 5, 6, 7, 8, 70
AUDIT_USAGE = 64
# The most particular first.
_EXIT_CODES: tuple[tuple[type[PerdureError], int], ...] = (
    (NotCompleted, BAD_ANSWER),
    (InvalidRequest, USAGE),
    (ConfigError, USAGE),
    (AppNotLoaded, USAGE),
    (InstanceNotFound, NOT_FOUND),
    (WaitTimeout, TIMED_OUT),
    (NoAnswer, UNAVAILABLE),
    (HubRefused, REFUSED),
    (HubError, UNAVAILABLE),
    (RequestRefused, REFUSED),
    (PerdureError, OUR_FAULT),
)

# Errors of the library name its parameters; whoever wrote a command line knows flags. What stands in quotes is others' text.
FLAGS = {
    "if_exists": "--if-exists",
    "replace_statuses": "--replace-status",
    "instance_id": "--id",
    "request_id": "--request-id",
    "start_at": "--at",
    "created_from": "--from",
    "created_to": "--to",
    "with force": "with --force",
}
_PARAMETER = re.compile(rf"""(?<!\w)'[^']*'|"[^"]*"|(?<![\w-])({"|".join(FLAGS)})(?:=(\w+)|\b)""")

_WHERE = "Where the hub is"
Shared = Mapping[str, Any]
"""Flags that several commands have, each with its annotation."""
_HUB: Shared = {"hub": Annotated[str | None, typer.Option("--hub", help="The hub's name.", rich_help_panel=_WHERE)]}
_URL: Shared = {
    "url": Annotated[
        str | None, typer.Option("--url", help="An API, from `perdure serve` or `dev`.", rich_help_panel=_WHERE)
    ],
}


def _directory(text: str) -> Shared:
    return {"dir": Annotated[Path | None, typer.Option("--dir", help=text, rich_help_panel=_WHERE)]}


# Which of the flags that say where the hub is a command has: those that it obeys.
KAFKA: Shared = {
    **_HUB,
    "brokers": Annotated[
        str | None, typer.Option("--brokers", "--bootstrap", help="Kafka's bootstrap servers.", rich_help_panel=_WHERE)
    ],
}
ANYWHERE: Shared = {**KAFKA, **_URL, **_directory("The state directory of `perdure dev`.")}
NEARBY: Shared = {**_HUB, **_directory("Where the hub is kept; default: .perdure.")}
WORKER: Shared = {**KAFKA, **_directory("Where this worker keeps its stores; each needs a directory of its own.")}
_LOGS: Shared = {
    "log_level": Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")],
    "log_format": Annotated[str | None, typer.Option("--log-format", help="auto, text or json.")],
}

# Of the root; who writes it behind the command means the same.
_DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", hidden=True)],
)


def command(
    *flags: str, where: Shared = ANYWHERE, logs: bool = False, usage: int = USAGE
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a command: its first parameter is the loaded configuration, made from files, variables and flags.

    `flags` are those of its own parameters that are settings; None is one that was not given. `where` are the flags that say
    where the hub is. `logs` adds --log-level and --log-format. `usage` is the exit code where it was called wrongly.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        shared = {**where, **(_LOGS if logs else {})}

        @functools.wraps(function)
        def run(**given: Any) -> None:
            if given.pop(_DEBUG.name):
                show_tracebacks()
            wanted = {name: given.pop(name) for name in (*shared, *flags)}
            guarded(lambda: act(_load(wanted), given), usage)

        def act(loaded: Loaded, given: dict[str, Any]) -> Any:
            if not logs:
                quiet_logs()
            return function(loaded, **given)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        parameters = [
            *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own),
            *(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for name, annotation in shared.items()
            ),
            _DEBUG,
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        del run.__wrapped__
        return run

    # A setting among the function's own parameters goes into the configuration and not to the function.
    return wrap if not flags else lambda function: wrap(_without(function, flags))


def _without(function: Callable[..., Any], flags: Sequence[str]) -> Callable[..., Any]:
    """A function that is called without its parameters `flags`, and still shows them."""

    @functools.wraps(function)
    def call(loaded: Any, **given: Any) -> Any:
        return function(loaded, **given, **dict.fromkeys(flags))

    return call


def quiet_logs() -> None:
    """For a command that answers and ends: its error says it all. With --debug, what else there is to say goes to stderr."""
    from perdure.logs import configure_logs

    configure_logs("warning" if os.environ.get("PERDURE_DEBUG") else "critical")


class AuditCommand(TyperCommand):
    """A command of which 2 says something else than that it was called wrongly."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().make_context(*arguments, **options)
        except Exception as error:
            if getattr(error, "exit_code", None) == USAGE:
                error.exit_code = AUDIT_USAGE  # type: ignore[attr-defined]
            raise


def _load(flags: dict[str, Any]) -> Loaded:
    """The configuration; a variable that was probably meant to be a setting is named, since it does nothing."""
    loaded = load_settings(flags)
    for variable, meant in loaded.ignored.items():
        if meant:
            from .output import note, quoted

            note(f"[yellow]ignored:[/] {quoted(variable)} is no setting; did you mean {meant}?")
    return loaded


def guarded(act: Callable[[], Any], usage: int = USAGE) -> None:
    """Act; show what goes wrong in a line or two and exit with its code. What `act` returns is the exit code."""
    try:
        code = act() or 0
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Whoever read our output has enough; stdout must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except PerdureError as error:
        say_traceback()
        say_error(words_of(error))
        code = exit_code_of(error)
        raise typer.Exit(usage if code == USAGE else code) from None
    except Exception as error:  # noqa: BLE001 - said in a line, and with --debug where it came from
        say_traceback()
        say_error(f"{type(error).__name__}: {error}; this is a fault of perdure's: run again with `perdure --debug`")
        raise typer.Exit(OUR_FAULT) from None
    if code:
        raise typer.Exit(code)


def exit_code_of(error: PerdureError) -> int:
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


def show_tracebacks() -> None:
    """What --debug asks for, of this process and of those that it starts."""
    os.environ["PERDURE_DEBUG"] = "1"


def say_traceback() -> None:
    """With --debug: where the error that is being handled came from."""
    if os.environ.get("PERDURE_DEBUG"):
        sys.stderr.write(visible(masked(traceback.format_exc()), keep="\n"))


def say_error(text: str) -> None:
    from .output import errors, plain

    line = plain("error:", "bold red") + plain(" ") + plain(masked(text), keep="\n")
    errors().print(line, soft_wrap=True)


def words_of(error: PerdureError) -> str:
    """What an error says; what was asked for wrongly, in the words of the command line. Any other may be in the words of the user's own code."""
    return with_flags(str(error)) if isinstance(error, (InvalidRequest, RequestRefused, StartUnknown)) else str(error)


def with_flags(text: str) -> str:
    """What the library says of its parameters, in the words of the command line."""

    def flag(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        return FLAGS[found[1]] + (f" {found[2]}" if found[2] else "")

    return _PARAMETER.sub(flag, text)
