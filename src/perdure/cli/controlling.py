"""`perdure raise`, of one instance; `cancel`, `terminate`, `suspend`, `resume` and `purge`, of one or of many."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.config import Loaded
from perdure.errors import PerdureError
from perdure.masking import masked

from .command import command, exit_code_of, say_error, words_of
from .starting import Id, Input, Json, complete_id, read_json

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.client.sync import Handle

Ids = Annotated[list[str], typer.Argument(help="The instances' ids.", metavar="ID...", autocompletion=complete_id)]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]
_PROGRESS_FROM = 5
_GLANCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Verb:
    """What each instance is asked, and what is said of one that did it. `looks`: it does nothing yet for one that is held."""

    done: str
    act: "Callable[[Handle[Any]], None]"
    looks: bool = False


def register(app: typer.Typer) -> None:
    panel = "Instances"
    for name, act in (
        ("raise", raise_event),
        ("cancel", cancel),
        ("terminate", terminate),
        ("suspend", suspend),
        ("resume", resume),
        ("purge", purge),
    ):
        app.command(name, rich_help_panel=panel)(act)


@command()
def raise_event(
    loaded: Loaded,
    instance_id: Id,
    event: Annotated[str, typer.Argument(help="The event's name; case does not matter.", metavar="EVENT")],
    input: Input = None,  # noqa: A002 - the flag's name
    json: Json = False,
) -> int:
    """Raise an external event on an instance."""
    payload = read_json(input, "--input")
    verb = _Verb(f"raised {event!r} on", lambda one: one.raise_event(event, payload), looks=True)
    return _each(loaded, [instance_id], verb, json=json)


@command()
def cancel(loaded: Loaded, instance_ids: Ids, reason: Reason = "", json: Json = False) -> int:
    """Ask instances to stop, so that they can compensate."""
    return _each(loaded, instance_ids, _Verb("cancel asked:", lambda one: one.cancel(reason), looks=True), json=json)


@command()
def terminate(
    loaded: Loaded,
    instance_ids: Ids,
    reason: Annotated[str, typer.Option("--reason", help="Why; it becomes the result.")] = "",
    recursive: Annotated[bool, typer.Option("--recursive/--alone", help="Their children too.")] = True,
    json: Json = False,
) -> int:
    """End instances without asking them."""
    return _each(
        loaded, instance_ids, _Verb("terminated:", lambda one: one.terminate(reason, recursive=recursive)), json=json
    )


@command()
def suspend(loaded: Loaded, instance_ids: Ids, reason: Reason = "", json: Json = False) -> int:
    """Let instances decide nothing until they are resumed."""
    return _each(loaded, instance_ids, _Verb("suspended:", lambda one: one.suspend(reason)), json=json)


@command()
def resume(loaded: Loaded, instance_ids: Ids, reason: Reason = "", json: Json = False) -> int:
    """Let instances go on, or try again what holds them."""
    return _each(loaded, instance_ids, _Verb("resumed:", lambda one: one.resume(reason), looks=True), json=json)


@command()
def purge(
    loaded: Loaded,
    instance_ids: Ids,
    force: Annotated[bool, typer.Option("--force", help="Running ones too.")] = False,
    json: Json = False,
) -> int:
    """Forget instances that have ended."""
    return _each(loaded, instance_ids, _Verb("purged:", lambda one: one.purge(force=force)), json=json)


def _each(loaded: Loaded, instance_ids: Sequence[str], verb: _Verb, *, json: bool) -> int:
    """Ask each in turn; go on after a refusal. The exit code is that of the first one."""
    from rich.progress import track

    from .clients import client_of
    from .output import errors, note, print_json, quoted

    code = 0
    outcomes: dict[str, list[Any]] = {"done": [], "refused": []}
    shown = errors().is_terminal and len(instance_ids) >= _PROGRESS_FROM
    each = track(instance_ids, "asking", console=errors(), transient=True) if shown else instance_ids
    with client_of(loaded) as client:
        for instance_id in each:
            try:
                verb.act(client.instance(instance_id))
            except PerdureError as error:
                say_error(words_of(error))
                outcomes["refused"].append(
                    {"instance_id": instance_id, "code": error.code, "detail": masked(str(error))}
                )
                code = code or exit_code_of(error)
            else:
                note(f"{quoted(verb.done)} {quoted(instance_id)}")
                outcomes["done"].append(instance_id)
                if verb.looks:
                    _tell_if_held(client, instance_id)
    if json:
        print_json(outcomes)
    return code


def _tell_if_held(client: "Client", instance_id: str) -> None:
    """It was done, and that stays so where nobody can say what it came to."""
    from .output import note
    from .telling import held_text

    with suppress(PerdureError):
        held = client.instance(instance_id).get(_GLANCE_SECONDS).held
        if held is not None:
            note(held_text(instance_id, held, "still held:"))
