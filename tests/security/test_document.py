"""docs/SECURITY.md says what is: its table of rights, its limits, and settings that connect as they stand there."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.actors.values import JSON_DEPTH_MAX
from perdure.config import load_settings
from perdure.partitions.kafka import KafkaSettings, create_hub, describe_hub
from perdure.partitions.kafka.rights import Role
from perdure.serve.boundary import BODY_BYTES_MAX
from perdure.serve.connection import BODY_SECONDS_MAX, CONNECTIONS_MAX, HEAD_SECONDS_MAX
from tests.cli.conftest import perdure_here
from tests.secured import SecuredBroker
from tests.security.people import allow, bindings_of

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
PROSE = " ".join(TEXT.split())
SCRAM, CERTIFICATE, TOKEN = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def printed(cwd: Path, *roles: str, hub: str = "orders") -> list[dict[str, object]]:
    chosen = [part for role in roles for part in ("--role", role)]
    done = perdure_here("hub", "acls", *chosen, "--json", cwd=cwd, PERDURE_HUB=hub)
    return list(json.loads(done.out))


def test_the_table_of_rights_is_what_the_command_prints(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (\w+) \| (topic|group) `<hub>([^`]*)` \| ([^|]+) \|$", TEXT, re.MULTILINE)
    shown = {(role, kind, f"orders{name}", tuple(rights.split(", "))) for role, kind, name, rights in rows}
    said = {
        (each["role"], each["resource_type"], each["name"], tuple(each["operations"]))  # type: ignore[arg-type]
        for each in printed(tmp_path)
    }

    assert len(rows) == len(shown)
    assert said == shown


def test_the_commands_are_those_of_kafka_and_say_the_same(tmp_path: Path) -> None:
    lines = perdure_here("hub", "acls", cwd=tmp_path, PERDURE_HUB="orders", PERDURE_BROKERS="b:9092").out.splitlines()
    for line, each in zip(lines, printed(tmp_path), strict=True):
        operations = " ".join(f"--operation {operation}" for operation in each["operations"])  # type: ignore[attr-defined]
        assert (
            f"kafka-acls.sh --bootstrap-server b:9092 --command-config admin.properties --add --allow-principal {each['principal']} "
            f"{operations} --{each['resource_type']} {each['name']}"
        ) == line


def test_a_principal_is_somebody(tmp_path: Path) -> None:
    ask = ("hub", "acls", "--role", "client", "--principal")
    assert "User:CN=a" in perdure_here(*ask, "User:CN=a", "--json", cwd=tmp_path).out
    assert "'User:a b; rm'" in perdure_here(*ask, "User:a b; rm", cwd=tmp_path).out
    for wrong in ("", "a", ":a", "User:", "User:a\nb", "User:\x1b[2J"):
        refused = perdure_here(*ask, wrong, cwd=tmp_path)
        assert (2, "TYPE:NAME" in refused.err) == (refused.code, True)
    several = perdure_here("hub", "acls", "--principal", "User:a", cwd=tmp_path)
    assert (2, "wants one --role" in several.err) == (several.code, True)
    assert 2 == perdure_here("hub", "acls", "--role", "root", cwd=tmp_path).code


def test_its_limits_are_the_programs() -> None:
    assert (
        f"A request has {HEAD_SECONDS_MAX:g} s for its head and {BODY_SECONDS_MAX:g} s for its body, {BODY_BYTES_MAX / 1e6:g} MB and "
        f"{JSON_DEPTH_MAX} levels of JSON; a server has {CONNECTIONS_MAX:,} connections."
    ) in PROSE


def test_readers_find_it() -> None:
    assert "(docs/SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


# Its settings, on a broker.


def settings_of(block: str, directory: Path, replaced: Mapping[str, str], secrets: Mapping[str, str]) -> KafkaSettings:
    """An example as the program reads it, with the addresses and files of this test in place of those in it."""
    for old, new in replaced.items():
        assert old in block
        block = block.replace(old, new)
    (directory / "perdure.toml").write_text(block)
    loaded = load_settings({}, secrets, directory).settings
    return KafkaSettings(loaded.brokers, HUB, loaded.kafka)


HUB = f"doc-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def broker(secured_broker: SecuredBroker, tmp_path_factory: pytest.TempPathFactory) -> SecuredBroker:
    """With a hub, on which `orders-worker` is a client, however it proves who it is."""
    create_hub(KafkaSettings(secured_broker.servers, HUB), 1, 1)
    acls = printed(tmp_path_factory.mktemp("acls"), "client", hub=HUB)
    allow(secured_broker.admin, bindings_of([{**each, "principal": "User:orders-worker"} for each in acls]))
    return secured_broker


@pytest.mark.kafka
def test_a_password_as_the_document_has_it(broker: SecuredBroker, tmp_path: Path) -> None:
    broker.add_scram_user("orders-worker", "canary-scram-password")
    replaced = {"broker-1:9093,broker-2:9093": broker.sasl_servers, "/etc/perdure/ca.pem": str(broker.ca)}
    secrets = {"PERDURE_KAFKA_SASL_PASSWORD": "canary-scram-password"}

    assert 1 == describe_hub(settings_of(SCRAM, tmp_path, replaced, secrets), Role.CLIENT).identity.partition_count


@pytest.mark.kafka
def test_a_certificate_as_the_document_has_it(broker: SecuredBroker, tmp_path: Path) -> None:
    certificate = broker.issue("orders-worker")
    replaced = {
        "broker-1:9094,broker-2:9094": broker.mutual_servers,
        "/etc/perdure/ca.pem": str(broker.ca),
        "/etc/perdure/worker.pem": str(certificate),
        "/etc/perdure/worker.key": str(certificate.with_suffix(".key")),
    }

    assert 1 == describe_hub(settings_of(CERTIFICATE, tmp_path, replaced, {}), Role.CLIENT).identity.partition_count


class IdentityProvider(BaseHTTPRequestHandler):
    """Gives whoever asks with the right secret a token for `orders-worker`; unsigned, as this broker takes them."""

    def do_POST(self) -> None:
        expected = base64.b64encode(b"orders-worker:canary-client-secret").decode()
        assert f"Basic {expected}" == self.headers["Authorization"]
        self.rfile.read(int(self.headers["Content-Length"]))
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": "orders-worker", "iat": now, "exp": now + 300})
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        content = json.dumps({"access_token": f"{token}.", "token_type": "Bearer", "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def identity_provider() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), IdentityProvider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.kafka
def test_a_token_as_the_document_has_it(broker: SecuredBroker, identity_provider: str, tmp_path: Path) -> None:
    replaced = {
        "broker-1:9093,broker-2:9093": broker.sasl_servers,
        "/etc/perdure/ca.pem": str(broker.ca),
        "https://id.example.org": identity_provider,
    }
    secrets = {"PERDURE_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "canary-client-secret"}

    assert 1 == describe_hub(settings_of(TOKEN, tmp_path, replaced, secrets), Role.CLIENT).identity.partition_count
