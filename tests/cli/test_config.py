"""`perdure config` shows values and where they came from, and no secret; every command obeys them."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import perdure, perdure_here


def test_values_are_shown_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text('app = "app:app"\nhub = "file"\n[kafka]\nsasl.username = "ada"\n')
    document = perdure_here("config", "--json", "--hub", "flag", cwd=tmp_path, PERDURE_PORT="9000").json
    table = perdure_here("config", cwd=tmp_path, PERDURE_PORT="9000").out
    file = str(tmp_path / "perdure.toml")

    assert {"value": "flag", "source": "flag"} == document["hub"]
    assert {"value": 9000, "source": "PERDURE_PORT"} == document["port"]
    assert {"value": "app:app", "source": file} == document["app"]
    assert {"value": "ada", "source": file} == document["kafka.sasl.username"]
    assert {"value": "info", "source": "default"} == document["log_level"]
    row = next(line for line in table.splitlines() if line.startswith("port"))
    assert ["port", "9000", "PERDURE_PORT"] == row.split()[:3]


def test_no_secret_is_shown_anywhere(tmp_path: Path) -> None:
    canary = "canary-4711"
    (tmp_path / "perdure.toml").write_text(
        f'token = "{canary}"\nurl = "http://ada:{canary}@127.0.0.1:1"\nbrokers = "127.0.0.1:1"\n[kafka]\n'
        f'sasl.password = "{canary}"\nsasl.mechanism = "NOPE"\nsasl.username = "ada"\nsecurity.protocol = "SASL_PLAINTEXT"\n'
    )
    for command in (
        ["config"], ["config", "--json"], ["list"], ["list", "--brokers", "127.0.0.1:1"], ["get", "x"], ["hub", "describe"],
        ["audit"], ["start", "x"],
    ):  # fmt: skip
        done = perdure_here(*command, cwd=tmp_path)
        assert canary not in done.out + done.err
    shown = perdure_here("config", "--json", cwd=tmp_path).json

    assert ["********"] * 2 == [shown[name]["value"] for name in ("token", "kafka.sasl.password")]
    assert "http://********@127.0.0.1:1" == shown["url"]["value"]


def test_a_slip_in_a_variable_is_told_by_every_command(tmp_path: Path) -> None:
    done = perdure_here("config", cwd=tmp_path, PERDURE_BROKER="x", PERDURE_CORPUS="y")

    assert "PERDURE_BROKER is no setting; did you mean PERDURE_BROKERS?" in done.err
    assert "no settings of perdure's: PERDURE_CORPUS" in done.err


def test_what_is_fixed_is_refused_with_its_reason_and_what_librdkafka_does_not_know_too(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text('brokers = "127.0.0.1:1"\n[kafka]\nacks = "1"\n')
    fixed = perdure_here("list", cwd=tmp_path)
    unknown = perdure_here("hub", "describe", cwd=tmp_path, PERDURE_KAFKA_ACKS="", PERDURE_KAFKA_LINGER="5")
    (tmp_path / "perdure.toml").write_text('brokers = "127.0.0.1:1"\n[kafka]\nlinger = 5\n')
    unknown = perdure_here("hub", "describe", cwd=tmp_path)

    shown = perdure_here("config", cwd=tmp_path, PERDURE_KAFKA_ACKS="1")

    assert (2, 2, 2) == (fixed.code, unknown.code, shown.code)
    assert "kafka.acks" in shown.out
    assert "[kafka] acks cannot be set" in shown.err
    assert "[kafka] acks cannot be set: every acknowledged append is with all in-sync replicas" in fixed.err
    assert 'No such configuration property: "linger"' in unknown.err


def test_a_password_that_is_missing_is_told_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text(
        'brokers = "127.0.0.1:1"\n[kafka]\nsasl.mechanism = "PLAIN"\nsasl.username = "a"\nsecurity.protocol = "SASL_PLAINTEXT"\n'
    )
    done = perdure_here("hub", "describe", cwd=tmp_path)

    assert 2 == done.code
    assert "must be set; PERDURE_KAFKA_SASL_PASSWORD sets the password" in done.err


def test_what_a_slip_in_the_name_of_a_secret_was_to_hold_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text('[kafka]\nssl.keystore.pasword = "canary-file"\nlinger.ms = 5\n')
    for options in ([], ["--json"]):
        done = perdure_here("config", *options, cwd=tmp_path, PERDURE_KAFKA_SASL_PASWORD="canary-variable")

        assert 2 == done.code
        assert "canary" not in done.out + done.err
        assert "has no property ssl.keystore.pasword, sasl.pasword" in done.err
        assert "linger.ms" in done.out
        assert "5" in done.out


def test_a_configuration_that_cannot_be_read_is_an_error_of_every_command(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text("hub = \n")
    for command in (["config"], ["list"], ["dev"], ["worker"], ["hub", "create"]):
        done = perdure_here(*command, cwd=tmp_path)
        assert (2, "") == (done.code, done.out)
        assert "perdure.toml cannot be read" in done.err
    assert 64 == perdure_here("audit", cwd=tmp_path).code


@pytest.mark.parametrize(
    ("commands", "shown"),
    [
        (["dev"], ["--hub", "--dir"]),
        (["worker"], ["--hub", "--brokers", "--dir"]),
        (["serve", "hub create", "hub describe", "hub raise-level", "hub acls"], ["--hub", "--brokers"]),
        (["start", "list", "audit", "config", "purge"], ["--hub", "--brokers", "--url", "--dir"]),
    ],
)
def test_a_command_has_the_flags_that_it_obeys_and_refuses_the_others(
    tmp_path: Path, commands: list[str], shown: list[str]
) -> None:
    for name in commands:
        helped = perdure_here(*name.split(), "--help", cwd=tmp_path, COLUMNS="200", TERM="dumb").out
        assert shown == re.findall(r"(--(?:hub|brokers|url|dir))\b", helped)
        for flag in {"--brokers", "--url", "--dir"} - {*shown}:
            done = perdure_here(*name.split(), flag, "x", cwd=tmp_path)
            assert (2, True) == (done.code, f"No such option: {flag}" in done.err)
    assert "Where this worker keeps its stores" in perdure_here("worker", "--help", cwd=tmp_path, COLUMNS="200").out


def test_where_no_hub_is_named_the_error_says_how_to_name_one(tmp_path: Path) -> None:
    for command in (["list"], ["start", "x"], ["cancel", "x"]):
        done = perdure_here(*command, cwd=tmp_path)
        assert 2 == done.code
        assert "start `perdure dev`, or, where one runs, run this in its directory, or name that with --dir" in done.err
        assert "name a hub elsewhere with --brokers or --url" in done.err
    for command in (["worker", "x:y"], ["serve"], ["hub", "create"]):
        (tmp_path / "x.py").write_text("from perdure import App\ny = App()\n")
        done = perdure(*command, cwd=tmp_path)
        assert 2 == done.code
        assert "set PERDURE_BROKERS, --brokers, or `brokers` in perdure.toml" in done.err
