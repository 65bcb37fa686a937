"""`perdure hub create` and `perdure hub describe`: the topics of a hub on Kafka."""

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.config import Loaded

from .command import command
from .starting import Json

if TYPE_CHECKING:
    from perdure.partitions.kafka import HubDescription

REPLICATION_MAX = 3


def register(app: typer.Typer) -> None:
    hub = typer.Typer(help="Create or describe a hub on Kafka.", no_args_is_help=True)
    hub.command("create")(create)
    hub.command("describe")(describe)
    app.add_typer(hub, name="hub", rich_help_panel="Run")


@command()
def create(
    loaded: Loaded,
    partitions: Annotated[int, typer.Option("--partitions", min=1, help="For ever: it cannot be changed later.")] = 12,
    replication: Annotated[
        int | None,
        typer.Option(
            "--replication", min=1, help="Replicas of each topic; default: 3, or as many as there are brokers."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Create the topics of a hub. What is there already is checked and left alone."""
    from perdure.client.hubs import open_errors
    from perdure.connection import kafka_settings_of
    from perdure.partitions.kafka.admin import count_brokers, create_hub

    from .output import note

    settings = kafka_settings_of(loaded.settings)
    with open_errors():
        factor = replication or min(count_brokers(settings), REPLICATION_MAX)
        found = create_hub(settings, partitions, factor)
    if factor < REPLICATION_MAX:
        note(f"[yellow]note:[/] replication {factor}: what a lost broker held is lost; production wants 3")
    _show(found, json=json)


@command()
def describe(loaded: Loaded, json: Json = False) -> None:
    """Describe a hub, and check that its topics keep what the protocol rests on."""
    from perdure.client.hubs import open_errors
    from perdure.connection import kafka_settings_of
    from perdure.partitions.kafka import check_topics, describe_hub

    settings = kafka_settings_of(loaded.settings)
    with open_errors():
        found = describe_hub(settings)
        _show(found, json=json)
        check_topics(settings, found)


def _show(found: "HubDescription", *, json: bool) -> None:
    from rich.table import Table

    from .output import answers, print_json

    identity = found.identity
    if json:
        topics = [
            {
                "name": topic.name,
                "topic_id": topic.topic_id,
                "partitions": topic.partition_count,
                "replication": topic.replication_factor,
                "settings": dict(topic.settings),
            }
            for topic in found.topics
        ]
        print_json(
            {
                "hub": identity.hub,
                "cluster_id": identity.cluster_id,
                "partitions": identity.partition_count,
                "topics": topics,
            }
        )
        return
    answers().print(
        f"hub [bold]{identity.hub}[/]: {identity.partition_count} partitions, cluster {identity.cluster_id}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TOPIC", "PARTITIONS", "REPLICATION", "CLEAN-UP", "RETENTION MS", "MESSAGE BYTES MAX"):
        table.add_column(title, no_wrap=True)
    for topic in found.topics:
        wanted = ("cleanup.policy", "retention.ms", "max.message.bytes")
        settings = [topic.settings.get(name, "") for name in wanted]
        table.add_row(topic.name, str(topic.partition_count), str(topic.replication_factor), *settings)
    answers().print(table)
