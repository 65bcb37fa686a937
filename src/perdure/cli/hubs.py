"""`perdure hub create`, `perdure hub describe` and `perdure hub acls`: the topics of a hub on Kafka, and who may use them."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.config import Loaded, Settings
from perdure.errors import ConfigError

from .command import KAFKA, command
from .starting import Json

if TYPE_CHECKING:
    from perdure.partitions.kafka import HubDescription
    from perdure.partitions.kafka.rights import Role

REPLICATION_MAX = 3


def register(app: typer.Typer) -> None:
    hub = typer.Typer(help="Create or describe a hub on Kafka, or print the ACLs that it needs.", no_args_is_help=True)
    hub.command("create")(create)
    hub.command("describe")(describe)
    hub.command("raise-level")(raise_level)
    hub.command("acls")(acls)
    app.add_typer(hub, name="hub", rich_help_panel="Run")


@command(where=KAFKA)
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


@command(where=KAFKA)
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


@command(where=KAFKA)
def raise_level(
    loaded: Loaded,
    level: Annotated[
        int | None, typer.Option("--level", min=1, help="Default: the newest that all owners can read.")
    ] = None,
    json: Json = False,
) -> None:
    """Write in a newer format, once every worker of the hub can read it. There is no way back for what is written then."""
    import asyncio

    from rich.table import Table

    from perdure.client.log_transport import LogTransport
    from perdure.connection import kafka_settings_of
    from perdure.partitions.kafka import KafkaLog

    from .output import print_json, print_table
    from .telling import telling_of_silence

    settings = kafka_settings_of(loaded.settings)

    async def ask() -> Sequence[dict[str, Any]]:
        transport = LogTransport(lambda: KafkaLog.open_client(settings))
        try:
            with telling_of_silence():
                return await transport.raise_level(level, loaded.settings.request_timeout)
        finally:
            await transport.close()

    found = asyncio.run(ask())
    if json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("PARTITION", "LEVEL", "OWNER READS"):
        table.add_column(title, justify="right")
    for view in found:
        table.add_row(str(view["partition"]), str(view["level"]), str(view["reads"]))
    print_table(table)


@command(where=KAFKA)
def acls(
    loaded: Loaded,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="worker, client, auditor or admin; left out, all of them.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Whom to allow it, as User:NAME; default: User:ROLE.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the ACLs that each role needs, and no more, as commands of kafka-acls.sh. Asks no broker."""
    from .output import answers, print_json

    roles = _roles(role or ())
    if principal is not None and len(roles) != 1:
        raise ConfigError("--principal wants one --role: a principal with all roles is hardly meant")
    if principal is not None and (not principal.isprintable() or not all(principal.partition(":")[::2])):
        raise ConfigError(f"a principal is TYPE:NAME, as in User:worker; found {principal!r}")
    bindings = [binding for each in roles for binding in _bindings(loaded.settings, each, principal)]
    if json:
        print_json(bindings)
        return
    for binding in bindings:
        answers().out(_as_command(loaded.settings, binding), highlight=False)


def _roles(names: Sequence[str]) -> "Sequence[Role]":
    from perdure.partitions.kafka.rights import Role

    known = {role.value: role for role in Role}
    for name in names:
        if name not in known:
            raise ConfigError(f"--role is one of {', '.join(known)}; found {name!r}")
    return [known[name] for name in names] or [*known.values()]


def _bindings(settings: Settings, role: "Role", principal: str | None) -> list[dict[str, Any]]:
    """The role's ACLs, one for each resource; the words are those of Kafka's tools."""
    from perdure.client.hubs import open_errors
    from perdure.partitions.kafka.rights import grants_of
    from perdure.partitions.topics import HubTopics

    with open_errors():
        grants = grants_of(role, HubTopics(settings.hub))
    return [
        {
            "role": role.value,
            "principal": principal or f"User:{role.value}",
            "host": "*",
            "permission": "Allow",
            "operations": [operation.value for operation in grant.operations],
            "resource_type": grant.resource.value,
            "pattern_type": "literal",
            "name": grant.name,
        }
        for grant in grants
    ]


def _as_command(settings: Settings, binding: dict[str, Any]) -> str:
    """One call of the script that comes with Kafka; `admin.properties` holds the credentials of whoever may alter ACLs."""
    operations = [part for operation in binding["operations"] for part in ("--operation", operation)]
    return shlex.join(
        [
            "kafka-acls.sh",
            "--bootstrap-server",
            settings.brokers or "HOST:PORT",
            "--command-config",
            "admin.properties",
            "--add",
            "--allow-principal",
            binding["principal"],
            *operations,
            f"--{binding['resource_type']}",
            binding["name"],
        ]
    )


def _show(found: "HubDescription", *, json: bool) -> None:
    from rich.table import Table

    from .output import answers, plain, print_json, print_table, quoted

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
        f"hub [bold]{quoted(identity.hub)}[/]: {identity.partition_count} partitions, cluster {quoted(identity.cluster_id)}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TOPIC", "PARTITIONS", "REPLICATION", "CLEAN-UP", "RETENTION MS", "MESSAGE BYTES MAX"):
        table.add_column(title, no_wrap=True)
    for topic in found.topics:
        wanted = ("cleanup.policy", "retention.ms", "max.message.bytes")
        settings = [topic.settings.get(name, "") for name in wanted]
        cells = (topic.name, topic.partition_count, topic.replication_factor, *settings)
        table.add_row(*(plain(cell) for cell in cells))
    print_table(table)
