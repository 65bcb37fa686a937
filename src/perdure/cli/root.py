"""The command `perdure`: its subcommands and what holds for all of them. docs/CLI.md has the table of its exit codes."""

import sys
import threading
from importlib.metadata import version
from typing import Annotated

import typer

from . import auditing, configuring, controlling, creating, hubs, looking, running, starting
from .command import show_tracebacks

EPILOG = (
    "Exit codes: 0 done · 1 the instance failed · 2 usage (audit: broken log) · 3, 4 audit: code differs, code missing · "
    "5 not found · 6 time over · 7 unavailable · 8 refused."
)
app = typer.Typer(
    name="perdure",
    help="Durable execution on the Kafka you already run.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"perdure {version('perdure')}\n")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        show_tracebacks()


for part in (creating, running, hubs, starting, looking, controlling, configuring, auditing):
    part.register(app)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except SystemExit as end:
        if isinstance(end.code, str) or not (threading.active_count() > 1 or "confluent_kafka" in sys.modules):
            raise
        from perdure.processes import end_process

        end_process(end.code or 0)
