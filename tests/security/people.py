"""People with credentials of their own: each a directory with its perdure.toml, in which the command line is run as a user would."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.e2e.workers import until
from tests.ports import free_ports

COMMAND_SECONDS_MAX = 60
_ADMIN_SECONDS = 15
_RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Delete": AclOperation.DELETE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
Properties = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Said:
    """How a command ended, what it wrote, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float


class Person:
    """One user of one hub."""

    def __init__(self, directory: Path, servers: str, hub: str, kafka: Properties, *settings: str) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        lines = [
            f"hub = {json.dumps(hub)}",
            f"brokers = {json.dumps(servers)}",
            "request_timeout = 20",
            *settings,
            "[kafka]",
        ]
        lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in kafka.items()]
        (directory / "perdure.toml").write_text("\n".join(lines) + "\n")

    def run(self, *arguments: str, **variables: str) -> Said:
        """Run `perdure` and return what it said."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "perdure", *arguments],
            cwd=self.directory,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
        )
        return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run `perdure serve`; its address."""
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "perdure", "serve", "--port", str(port)]
        with (self.directory / "serve.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until(lambda: _listens(port), (self.directory / "serve.log").read_text)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(COMMAND_SECONDS_MAX) == 0

    def get(self, *arguments: str) -> Any:
        """Run a command that must succeed, with --json."""
        said = self.run(*arguments, "--json")
        assert said.code == 0, said.err + said.out
        return json.loads(said.out)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def bindings_of(printed: list[dict[str, Any]]) -> list[AclBinding]:
    """What `perdure hub acls --json` printed, as the admin client wants it: one binding for each operation."""
    return [
        AclBinding(
            _RESOURCES[each["resource_type"]],
            each["name"],
            ResourcePatternType[each["pattern_type"].upper()],
            each["principal"],
            each["host"],
            _OPERATIONS[operation],
            AclPermissionType[each["permission"].upper()],
        )
        for each in printed
        for operation in each["operations"]
    ]


def allow(admin: AdminClient, bindings: list[AclBinding]) -> None:
    for future in admin.create_acls(bindings).values():
        future.result(_ADMIN_SECONDS)


def forbid(admin: AdminClient, bindings: list[AclBinding]) -> None:
    filters = [
        AclBindingFilter(
            each.restype,
            each.name,
            each.resource_pattern_type,
            each.principal,
            each.host,
            each.operation,
            each.permission_type,
        )
        for each in bindings
    ]
    for future in admin.delete_acls(filters).values():
        assert len(future.result(_ADMIN_SECONDS)) == 1
