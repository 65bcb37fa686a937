"""What each role needs to be allowed on the brokers, and nothing more: the ACLs of a hub.

Rules of this file: the table is the only place that names a right; `perdure hub acls` prints it, whoever opens a hub is checked
against it, and docs/SECURITY.md shows it. A client has no right on the history, which is more than thrift: who may describe it knows
its topic id, and that id is what tells a message of the engine from a forged one (R7).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from ..topics import HubTopics


class Role(Enum):
    """Who a process is to the brokers."""

    WORKER = "worker"
    CLIENT = "client"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Resource(Enum):
    """What a right is on; the names are those of Kafka's protocol."""

    TOPIC = "topic"
    GROUP = "group"


class Operation(Enum):
    """What is allowed; the names are those of `kafka-acls.sh`. Read, Write and Delete include Describe."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    DELETE = "Delete"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations that one role needs on one resource, which is named literally."""

    resource: Resource
    name: str
    operations: tuple[Operation, ...]


_READ, _WRITE, _CONFIGS = Operation.READ, Operation.WRITE, Operation.DESCRIBE_CONFIGS


def grants_of(role: Role, topics: HubTopics) -> tuple[Grant, ...]:
    """The rights of a role, topics in the order of the hub's."""
    if role == Role.ADMIN:
        # It creates what is missing and checks what is there; the records are not its business.
        return tuple(_topic(name, Operation.CREATE, Operation.DESCRIBE, _CONFIGS) for name in topics.all)
    if role == Role.CLIENT:
        return (_topic(topics.inbox, _WRITE), _topic(topics.replies, _READ))
    if role == Role.AUDITOR:
        return (_topic(topics.history, _READ),)
    # DeleteRecords, which trims what was consumed (R8, R15), is a matter of Delete; Kafka has no finer right.
    return (
        _topic(topics.inbox, _READ, _WRITE, Operation.DELETE, _CONFIGS),
        _topic(topics.history, _READ, _WRITE, Operation.DELETE, _CONFIGS),
        _topic(topics.snapshots, _READ, _WRITE, _CONFIGS),
        _topic(topics.replies, _WRITE, _CONFIGS),
        _topic(topics.dead_letter, _WRITE, _CONFIGS),
        Grant(Resource.GROUP, topics.hub, (_READ,)),
    )


def _topic(name: str, *operations: Operation) -> Grant:
    return Grant(Resource.TOPIC, name, operations)


def missing_rights(
    role: Role, topics: HubTopics, allowed: Mapping[tuple[Resource, str], Collection[Operation] | None]
) -> tuple[Grant, ...]:
    """What of a role's rights is not among those `allowed`. None: the brokers did not say, and nobody is accused."""
    missing: list[Grant] = []
    for grant in grants_of(role, topics):
        given = allowed.get((grant.resource, grant.name))
        lacks = () if given is None else tuple(each for each in grant.operations if each not in given)
        if lacks:
            missing.append(Grant(grant.resource, grant.name, lacks))
    return tuple(missing)


def describe_missing(role: Role, hub: str, missing: Collection[Grant]) -> str:
    """Which rights are missing, and where to read what is needed."""
    lines = [
        f"{', '.join(operation.value for operation in grant.operations)} on {grant.resource.value} {grant.name}"
        for grant in missing
    ]
    return (
        f"hub {hub!r} cannot be used as {role.value} with these credentials, which lack:\n  "
        + "\n  ".join(lines)
        + f"\n`perdure hub acls --role {role.value}` prints what is needed"
    )
