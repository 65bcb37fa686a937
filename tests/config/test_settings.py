"""Where a setting's value comes from, and what is said of one that cannot be used."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.config import Loaded, Settings, is_secret, load_settings, written
from perdure.errors import ConfigError


def load(directory: Path, text: str = "", variables: Mapping[str, str] | None = None, **flags: object) -> Loaded:
    if text:
        (directory / "perdure.toml").write_text(text)
    return load_settings(flags, variables or {}, directory)


def test_a_flag_counts_over_a_variable_over_the_file_over_the_default(tmp_path: Path) -> None:
    text = 'hub = "file"\nbrokers = "file:1"\nport = 1\n'
    loaded = load(tmp_path, text, {"PERDURE_HUB": "variable", "PERDURE_BROKERS": "variable:1"}, hub="flag", url=None)
    settings, file = loaded.settings, str(tmp_path / "perdure.toml")

    assert ("flag", "variable:1", 1, "") == (settings.hub, settings.brokers, settings.port, settings.url)
    assert ["flag", "PERDURE_BROKERS", file, "default"] == [
        loaded.sources[name] for name in ("hub", "brokers", "port", "url")
    ]
    assert [True, True, False, False] == [loaded.named_now(name) for name in ("hub", "brokers", "port", "url")]


def test_without_anything_there_are_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path)

    assert Settings(dir=tmp_path / ".perdure") == loaded.settings
    assert {"default"} == set(loaded.sources.values())
    assert loaded.file is None


def test_the_file_is_found_above_and_its_paths_are_its_own(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "perdure.toml").write_text('dir = "state"\n')

    assert tmp_path / "state" == load_settings({}, {}, below).settings.dir
    (tmp_path / "perdure.toml").write_text("")
    assert tmp_path / ".perdure" == load_settings({}, {}, below).settings.dir
    (tmp_path / "a" / "perdure.toml").write_text('hub = "nearer"\n')
    assert "nearer" == load_settings({}, {}, below).settings.hub


def test_without_a_file_the_nearest_state_is_taken(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".perdure").mkdir()

    assert tmp_path / ".perdure" == load_settings({}, {}, below).settings.dir


def test_properties_of_librdkafka_come_from_the_file_and_from_variables(tmp_path: Path) -> None:
    text = '[kafka]\n"compression.type" = "lz4"\nsasl.mechanism = "PLAIN"\nsasl.password = "file"\nlinger.ms = 5\n'
    loaded = load(tmp_path, text, {"PERDURE_KAFKA_SASL_PASSWORD": "variable"})

    assert {"compression.type": "lz4", "sasl.mechanism": "PLAIN", "sasl.password": "variable", "linger.ms": 5} == dict(
        loaded.settings.kafka
    )
    assert ("PERDURE_KAFKA_SASL_PASSWORD", str(tmp_path / "perdure.toml")) == (
        loaded.sources["kafka.sasl.password"],
        loaded.sources["kafka.linger.ms"],
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hubb = 'x'", r"perdure\.toml: unknown key 'hubb'; did you mean 'hub'\?"),
        ("standby = -1", r"perdure\.toml: standby must be at least 0, found -1"),
        ('dir = ""', r"perdure\.toml: dir must be a path, found ''"),
        ('host = ""', r"perdure\.toml: host must not be empty; 0\.0\.0\.0 is every address"),
        ('peer_host = " "', r"perdure\.toml: peer_host must not be empty"),
        ("zzz = 1", r"perdure\.toml: unknown key 'zzz'; known are activities_async_max, .*url"),
        ("port = 'x'", r"perdure\.toml: port must be a whole number, found 'x'"),
        ("port = true", "port must be a whole number, found True"),
        ("port = 1.5", "port must be a whole number, found 1.5"),
        ("port = 70000", "port must be 0 to 65535, found 70000"),
        ("processes = 0", "processes must be at least 1, found 0"),
        ("drain_timeout = -1", "drain_timeout must be a number of seconds"),
        ("drain_timeout = nan", "drain_timeout must be a number of seconds"),
        ("request_timeout = inf", "request_timeout must be a number of seconds"),
        ("hub = 5", "hub must be a string, found 5"),
        ("dir = 5", "dir must be a path, found 5"),
        ("log_level = 'loud'", "log_level is one of debug, info, warning, error; found 'loud'"),
        ("log_format = 'xml'", "log_format is one of auto, text, json; found 'xml'"),
        ("kafka = 5", r"\[kafka\] must be a table"),
        ("[kafka]\nx = [1]", r"\[kafka\] x must be a string, number or boolean"),
        ("hub = ", "cannot be read"),
        ("hub = '\xff'", None),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(tmp_path: Path, text: str, said: str | None) -> None:
    (tmp_path / "perdure.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=said or r"perdure\.toml cannot be read"):
        load_settings({}, {}, tmp_path)


@pytest.mark.parametrize(
    ("variables", "flags", "said"),
    [
        ({"PERDURE_PORT": "x"}, {}, "PERDURE_PORT: port must be a whole number, found 'x'"),
        ({"PERDURE_LOG_LEVEL": "x"}, {}, "PERDURE_LOG_LEVEL: log_level is one of"),
        ({}, {"port": "x"}, "^--port: port must be a whole number"),
        ({}, {"drain_timeout": "x"}, "^--drain-timeout: drain_timeout must be a number"),
        ({}, {"hub": "x y"}, "^--hub: a hub's name has"),
        ({}, {"drain_timeout": -1}, "^--drain-timeout: drain_timeout must be a number of seconds"),
        ({}, {"hubb": "x"}, "no setting is called 'hubb'; did you mean 'hub'"),
    ],
)
def test_a_variable_or_flag_that_cannot_be_used_is_named(
    tmp_path: Path, variables: dict[str, str], flags: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, "", variables, **flags)


@pytest.mark.parametrize(
    "brokers",
    [
        "",
        "a:1",
        "127.0.0.1:9092",
        "kafka_1:9092, kafka-2.b.c:65535",
        "[::1]:9092,[fe80::1%eth0]:1",
        "käse:1",
        "localhost",
        "[::1]",
        "a:1,",
        "a:1,,b",
    ],
)
def test_addresses_of_brokers_are_taken_as_they_are(tmp_path: Path, brokers: str) -> None:
    assert brokers == load(tmp_path, brokers=brokers).settings.brokers


@pytest.mark.parametrize(
    ("brokers", "said"),
    [
        (
            "http://127.0.0.1:9",
            r"--brokers: brokers are host:port,host:port, without http://; how to speak to them stands",
        ),
        ("a:1,SASL_SSL://b:1", r"without SASL_SSL://.*security\.protocol; found 'SASL_SSL://b:1'"),
        ("127.0.0.1:15730 2136", r"as kafka-1:9092 or \[::1\]:9092; found '127\.0\.0\.1:15730 2136'"),
        (",", "found ','"),
        ("a;b:1", "found 'a;b:1'"),
        ("a:٩٠٩٢", "found 'a:"),
        ("a:1 b:1", "found 'a:1 b:1'"),
        ("a:0", "found 'a:0'"),
        ("a:65536", "found 'a:65536'"),
        ("a:x", "found 'a:x'"),
        ("::1:9092", "found '::1:9092'"),
        (":9092", "found ':9092'"),
        (" ", "found ' '"),
    ],
)
def test_what_is_no_address_of_a_broker_is_refused_at_once(tmp_path: Path, brokers: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, brokers=brokers)
    with pytest.raises(ConfigError, match=r"^brokers: brokers are host:port"):
        Client.kafka("hub", brokers)


def test_a_variable_that_is_no_setting_is_told_of_with_the_one_that_was_meant(tmp_path: Path) -> None:
    loaded = load(tmp_path, "", {"PERDURE_BROKER": "x", "PERDURE_CORPUS": "y", "PERDURE_DEBUG": "1"})

    assert {"PERDURE_BROKER": "PERDURE_BROKERS", "PERDURE_CORPUS": ""} == dict(loaded.ignored)


@pytest.mark.parametrize(
    "name",
    [
        "token", "sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.private.key.pem",
    ],
)  # fmt: skip
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["brokers", "sasl.username", "sasl.mechanism", "ssl.ca.location", "security.protocol"])
def test_what_is_no_secret_is_shown(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize("text", ["30d", "12h", "15m", "20s", "36h", "0", "1.5s"])
def test_a_span_is_shown_as_it_is_written(tmp_path: Path, text: str) -> None:
    assert text == written(load(tmp_path, "", {"PERDURE_RETENTION": text}).settings.retention)
