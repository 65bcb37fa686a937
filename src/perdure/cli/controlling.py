"""`perdure cancel`, `terminate`, `suspend`, `resume` and `purge`: of one instance or of many."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from perdure.config import Loaded
from perdure.errors import PerdureError

from .command import command, exit_code_of, say_error
from .starting import complete_id

Ids = Annotated[list[str], typer.Argument(help="The instances' ids.", metavar="ID...", autocompletion=complete_id)]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]
_PROGRESS_FROM = 5


def register(app: typer.Typer) -> None:
    panel = "Instances"
    for name, act in (
        ("cancel", cancel),
        ("terminate", terminate),
        ("suspend", suspend),
        ("resume", resume),
        ("purge", purge),
    ):
        app.command(name, rich_help_panel=panel)(act)


@command()
def cancel(loaded: Loaded, instance_ids: Ids, reason: Reason = "") -> int:
    """Ask instances to stop, so that they can compensate."""
    return _each(loaded, instance_ids, "cancel asked", lambda one: one.cancel(reason))


@command()
def terminate(
    loaded: Loaded,
    instance_ids: Ids,
    reason: Annotated[str, typer.Option("--reason", help="Why; it becomes the result.")] = "",
    recursive: Annotated[bool, typer.Option("--recursive/--alone", help="Their children too.")] = True,
) -> int:
    """End instances without asking them."""
    return _each(loaded, instance_ids, "terminated", lambda one: one.terminate(reason, recursive=recursive))


@command()
def suspend(loaded: Loaded, instance_ids: Ids, reason: Reason = "") -> int:
    """Let instances decide nothing until they are resumed."""
    return _each(loaded, instance_ids, "suspended", lambda one: one.suspend(reason))


@command()
def resume(loaded: Loaded, instance_ids: Ids, reason: Reason = "") -> int:
    """Let instances go on, or try again what holds them."""
    return _each(loaded, instance_ids, "resumed", lambda one: one.resume(reason))


@command()
def purge(
    loaded: Loaded,
    instance_ids: Ids,
    force: Annotated[bool, typer.Option("--force", help="Running ones too.")] = False,
) -> int:
    """Forget instances that have ended."""
    return _each(loaded, instance_ids, "purged", lambda one: one.purge(force=force))


def _each(loaded: Loaded, instance_ids: Sequence[str], done: str, act: Callable[[Any], None]) -> int:
    """Ask each in turn; go on after a refusal. The exit code is that of the first one."""
    from rich.progress import track

    from .clients import client_of
    from .output import errors, note, quoted

    code = 0
    shown = errors().is_terminal and len(instance_ids) >= _PROGRESS_FROM
    each = track(instance_ids, "asking", console=errors(), transient=True) if shown else instance_ids
    with client_of(loaded) as client:
        for instance_id in each:
            try:
                act(client.instance(instance_id))
            except PerdureError as error:
                say_error(str(error))
                code = code or exit_code_of(error)
            else:
                note(f"{done}: {quoted(instance_id)}")
    return code
