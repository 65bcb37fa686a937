"""A wrong password, a right one without rights, a wrong certificate: each is said at once, with what to check and without the secret."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.client import Client
from perdure.errors import ConfigError, HubRefused
from perdure.partitions.kafka import KafkaSettings, create_hub, describe_hub
from perdure.partitions.ports import LogUnavailable
from tests.secured import SecuredBroker
from tests.security.people import Person, Said

pytestmark = pytest.mark.kafka
REFUSED = 8
# A request has 10 s; the rest is for a slow machine to start a process.
SECONDS_MAX = 30
COMMANDS = {
    "list": ("list",),
    "start": ("start", "welcome", "--wait"),
    "describe": ("hub", "describe"),
    "create": ("hub", "create"),
    "audit": ("audit",),
    "worker": ("worker", "app:app", "--port", "0"),
}
APP = "from perdure import App\n\napp = App()\n"


@pytest.fixture(scope="module")
def hub_name(secured_broker: SecuredBroker) -> str:
    name = f"ref-{uuid4().hex[:8]}"
    create_hub(KafkaSettings(secured_broker.servers, name), 1, 1)
    return name


def ask_all(person: Person, commands: dict[str, tuple[str, ...]]) -> dict[str, Said]:
    """Run several commands, two at a time."""
    (person.directory / "app.py").write_text(APP)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(lambda arguments: person.run(*arguments), commands.values()), strict=True))


def check(said: Said, *words: str, secrets: tuple[str, ...] = ()) -> None:
    """One error that holds these words, in time, and nothing else but a worker's log lines."""
    text = said.out + said.err
    assert REFUSED == said.code, text
    assert said.seconds < SECONDS_MAX
    before, _, error = said.err.partition("error: ")
    assert all(line.startswith("{") for line in before.splitlines()), text
    assert "Traceback" not in text
    for word in words:
        assert word in error, f"{word} is not in: {text}"
    for secret in secrets:
        assert secret not in text


def test_a_wrong_password_is_said_at_once(secured_broker: SecuredBroker, hub_name: str, tmp_path: Path) -> None:
    secret = "canary-of-a-wrong-password"
    person = Person(
        tmp_path, secured_broker.sasl_servers, hub_name, secured_broker.as_user("worker", sasl_password=secret)
    )

    for said in ask_all(person, {name: COMMANDS[name] for name in ("list", "create", "audit", "worker")}).values():
        check(said, "refused our credentials", "sasl.password", secured_broker.sasl_servers, secrets=(secret,))


def test_a_right_password_without_rights_is_told_which_are_missing(
    secured_broker: SecuredBroker, hub_name: str, tmp_path: Path
) -> None:
    person = Person(tmp_path, secured_broker.sasl_servers, hub_name, secured_broker.as_user("nobody"))

    said = ask_all(person, COMMANDS)

    secrets = (secured_broker.passwords["nobody"],)
    for name, role in (("list", "client"), ("start", "client"), ("audit", "auditor"), ("worker", "worker")):
        check(said[name], f"as {role}", f"perdure hub acls --role {role}", f"topic {hub_name}.", secrets=secrets)
    check(said["describe"], "as admin", "DescribeConfigs on topic", secrets=secrets)
    check(said["create"], f"topic {hub_name}.inbox cannot be created", "perdure hub acls --role admin", secrets=secrets)
    assert f"Read on group {hub_name}" in said["worker"].err


def test_a_certificate_of_another_authority_is_not_trusted(
    secured_broker: SecuredBroker, hub_name: str, tmp_path: Path
) -> None:
    kafka = secured_broker.as_user("worker", ssl_ca_location=str(secured_broker.other_ca))
    person = Person(tmp_path, secured_broker.sasl_servers, hub_name, kafka)

    for said in ask_all(person, {name: COMMANDS[name] for name in ("list", "worker")}).values():
        check(said, "certificate", "ssl.ca.location", secrets=(secured_broker.passwords["worker"],))


def test_brokers_that_want_a_certificate_are_told_apart_from_brokers_that_are_away(
    secured_broker: SecuredBroker, hub_name: str
) -> None:
    properties = {"security.protocol": "SSL", "ssl.ca.location": str(secured_broker.ca)}
    with pytest.raises(HubRefused, match=r"ssl\.certificate\.location"):
        Client.kafka(hub_name, secured_broker.mutual_servers, properties=properties).open()


@pytest.mark.parametrize("kafka", [{}, {"security.protocol": "SSL"}], ids=["plaintext", "tls"])
def test_a_listener_that_speaks_otherwise_is_unavailable_within_the_time_limit(
    secured_broker: SecuredBroker, hub_name: str, kafka: dict[str, str]
) -> None:
    servers = secured_broker.servers if kafka else secured_broker.sasl_servers
    properties = {**kafka, "ssl.ca.location": str(secured_broker.ca)}
    with pytest.raises(LogUnavailable, match=r"within 2 s .*security\.protocol"):
        describe_hub(KafkaSettings(servers, hub_name, properties, request_seconds_max=2))


def test_a_file_that_is_not_there_is_named(closed_port: int) -> None:
    properties = {"security.protocol": "SSL", "ssl.ca.location": "missing.pem"}
    with pytest.raises(ConfigError, match=r"ssl\.ca\.location: .*missing\.pem"):
        Client.kafka("hub", f"127.0.0.1:{closed_port}", properties=properties).open()
