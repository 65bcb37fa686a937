"""`perdure get`, `perdure list` and `perdure history`: reads, also of a hub that nobody runs."""

from typing import Annotated

import typer

from perdure.config import Loaded

from .command import command
from .starting import Id, Json, complete_status, read_tags, read_time


def register(app: typer.Typer) -> None:
    panel = "Instances"
    app.command("get", rich_help_panel=panel)(get)
    app.command("list", rich_help_panel=panel)(list_instances)
    app.command("history", rich_help_panel=panel)(history)


@command()
def get(loaded: Loaded, instance_id: Id, json: Json = False) -> None:
    """Show one instance."""
    from .clients import client_of
    from .output import print_instance, print_json

    with client_of(loaded, reads=True) as client:
        instance = client.instance(instance_id).get()
    if json:
        print_json(instance.as_json())
    else:
        print_instance(instance)


@command()
def list_instances(
    loaded: Loaded,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", "-s", help="One of these; may be given several times.", autocompletion=complete_status
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The orchestration.")] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="What the id begins with.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="key=value; several: all of them.")] = None,
    created_from: Annotated[str | None, typer.Option("--from", help="Created at this time or later.")] = None,
    created_to: Annotated[str | None, typer.Option("--to", help="Created before this time.")] = None,
    held: Annotated[bool | None, typer.Option("--held/--not-held", help="Only those that are held, or not.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    after: Annotated[str | None, typer.Option("--after", help="`next` of an earlier page.")] = None,
    json: Json = False,
) -> None:
    """List instances, newest first."""
    from perdure.client import ListOptions

    from .clients import client_of
    from .output import instance_table, note, print_json, print_table, quoted

    options = ListOptions(
        status=status or (),
        tags=read_tags(tag or ()),
        created_from=None if created_from is None else read_time(created_from),
        created_to=None if created_to is None else read_time(created_to),
        held=held,
        limit=limit,
        after=after,
    )
    if name is not None:
        options["name"] = name
    if prefix is not None:
        options["prefix"] = prefix
    with client_of(loaded, reads=True) as client:
        page = client.list(**options)
    if page.silent:
        note(
            f"[yellow]partitions {quoted(', '.join(map(str, page.silent)))} did not answer; what they hold is missing[/]"
        )
    if json:
        print_json(page.as_json())
    elif page.instances:
        print_table(instance_table(page))
        if page.next is not None:
            note(f"[dim]there are more: the same, with --after {quoted(page.next)}[/]")
    else:
        note("[dim]no instances[/]")


@command()
def history(loaded: Loaded, instance_id: Id, json: Json = False) -> None:
    """Show all turns of an instance; --json is what `perdure.testing.replay` reads."""
    from .clients import client_of
    from .output import print_json, print_turns

    with client_of(loaded, reads=True) as client:
        found = client.instance(instance_id).history()
    if json:
        print_json(found.as_json())
    else:
        print_turns(found.turns)
