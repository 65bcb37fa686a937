"""Secrets are in no output: canaries for each of them, through every command, error, log and metric."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import structlog

from perdure.client import Client
from perdure.config import Settings, load_settings, secrets_of
from perdure.errors import ConfigError, HubUnavailable
from perdure.logs import configure_logs
from perdure.masking import MASK, masked, masked_failure, visible
from perdure.partitions.kafka import KafkaSettings
from perdure.partitions.kafka.client_logs import LOGGER
from perdure.schemas.events import Failure
from tests.e2e.workers import PLENTY_SECONDS, until
from tests.ports import free_ports
from tests.secured import SecuredBroker

CANARIES = {
    "PERDURE_TOKEN": "canary-token-1",
    "PERDURE_KAFKA_SASL_PASSWORD": "canary-sasl-2",
    "PERDURE_KAFKA_SSL_KEY_PASSWORD": "canary-key-3",
    "PERDURE_KAFKA_SSL_KEYSTORE_PASSWORD": "canary-store-4",
    "PERDURE_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "canary-oauth-5",
}
USERINFO = "canary-userinfo-6"
EVERY = (*CANARIES.values(), USERINFO)
KAFKA = {
    "PERDURE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "PERDURE_KAFKA_SASL_MECHANISM": "PLAIN",
    "PERDURE_KAFKA_SASL_USERNAME": "somebody",
    "PERDURE_KAFKA_DEBUG": "all",
}
APP = f"""
import os
from perdure import App, OrchestrationContext

app = App()

@app.activity
def fail(name: str) -> None:
    kafka, token = dict(os.environ), os.environ["PERDURE_TOKEN"]
    raise ValueError(f"401 from http://me:{USERINFO}@example.org for Bearer {{token}}")

@app.orchestration
async def doomed(ctx: OrchestrationContext, name: str) -> None:
    await ctx.call_activity(fail, name)
"""


def run(directory: Path, *arguments: str, **variables: str) -> str:
    """All that a command writes."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", *arguments],
        cwd=directory,
        env={**os.environ, **CANARIES, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"


def check_clean(text: str) -> None:
    assert [] == [canary for canary in EVERY if canary in text], text


def test_no_command_shows_a_secret_whatever_goes_wrong(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "app.py").write_text(APP)
    url = {"PERDURE_URL": f"http://me:{USERINFO}@127.0.0.1:{closed_port}"}
    kafka = {**KAFKA, "PERDURE_BROKERS": f"127.0.0.1:{closed_port}"}
    bad = {**kafka, "PERDURE_KAFKA_SSL_KEYSTORE_LOCATION": str(tmp_path / "app.py")}
    commands: list[tuple[tuple[str, ...], Mapping[str, str]]] = [
        (("config",), {**url, **kafka}),
        (("config", "--json"), {**url, **kafka}),
        (("--debug", "list"), url),
        (("start", "doomed", "--wait", "--input", '"x"'), url),
        (("hub", "describe"), bad),
        (("--debug", "worker", "app:app", "--port", "0", "--processes", "2"), bad),
        (("--debug", "audit"), {**kafka, "PERDURE_KAFKA_SASL_PASWORD": "x"}),
        (("hub", "acls"), kafka),
        (("list",), {"PERDURE_URL": f"ftp://me:{USERINFO}@127.0.0.1"}),
        (("serve", "--host", "nowhere.invalid"), kafka),
    ]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda each: run(tmp_path, *each[0], **each[1]), commands))

    for output in outputs:
        check_clean(output)
    assert all("exit 0" in output for output in outputs[:2])
    assert MASK in outputs[0]
    # They went as far as they should: an error, where it was asked for with its traceback.
    assert all("error: " in output for output in outputs[2:7])
    assert all("Traceback" in output for output in outputs if "--debug" in output)


@pytest.mark.parametrize(
    ("command", "trouble"), [(("worker", "app:app"), "hub.unavailable"), (("serve",), "serve.not_ready")]
)
def test_who_waits_for_brokers_that_are_away_tells_all_but_secrets_and_ends_when_told_to(
    tmp_path: Path, closed_port: int, command: Sequence[str], trouble: str
) -> None:
    """debug=all and --log-level debug: what librdkafka has to say is in the log."""
    (tmp_path / "app.py").write_text(APP)
    log = tmp_path / "log"
    environment = {**os.environ, **CANARIES, **KAFKA, "PERDURE_BROKERS": f"127.0.0.1:{closed_port}"}
    (port,) = free_ports(1)
    options = ["--port", str(port), "--log-level", "debug"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure", "--debug", *command, *options],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
        )

    def is_in_trouble() -> bool:
        with suppress(httpx.HTTPError):
            check_clean(httpx.get(f"http://127.0.0.1:{port}/readyz").text)
        return trouble in log.read_text()

    try:
        until(is_in_trouble, log.read_text)
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(PLENTY_SECONDS), log.read_text()
    finally:
        process.kill()
        process.wait()

    assert "sasl.password" in log.read_text()
    check_clean(log.read_text())


def test_no_log_line_answer_or_metric_of_a_running_dev_shows_a_secret(tmp_path: Path) -> None:
    """Its activity raises with the token and an address in its message, and all that it has in hand in its frame."""
    (tmp_path / "app.py").write_text(APP)
    for form in ("text", "json"):
        log = tmp_path / f"dev-{form}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "perdure", "dev", "app:app", "--port", "0", "--log-format", form]
            environment = {**os.environ, **CANARIES}
            process = subprocess.Popen([*command, "--log-level", "debug"], cwd=tmp_path, env=environment, stderr=out)
        try:
            until((tmp_path / ".perdure" / "dev.json").exists, log.read_text)
            dev = (tmp_path / ".perdure" / "dev.json").read_text()
            check_clean(dev)
            with httpx.Client(base_url=json.loads(dev)["url"], trust_env=False, timeout=20) as http:
                assert httpx.codes.UNAUTHORIZED == http.get("/v1/instances").status_code
                http.headers["Authorization"] = f"Bearer {CANARIES['PERDURE_TOKEN']}"
                begun = http.post("/v1/instances", json={"name": "doomed", "input": "x", "instance_id": form})
                assert httpx.codes.CREATED == begun.status_code, begun.text
                ended = http.get(f"/v1/instances/{form}/result", params={"wait": 20})
                assert "FAILED" == ended.json()["status"]
                assert f"401 from http://{MASK}@example.org for Bearer {MASK}" in ended.text
                seen = ("/v1/instances", f"/v1/instances/{form}", f"/v1/instances/{form}/history")
                for path in ("/metrics", "/readyz", "/healthz", "/openapi.json", "/v1/nothing", "/v1/none", *seen):
                    check_clean(http.get(path).text)
            check_clean(ended.text)
            for verb in ("get", "history", "list"):
                check_clean(run(tmp_path, verb, *([form] if verb != "list" else [])))
            check_clean(Path(f"/proc/{process.pid}/cmdline").read_text() if Path("/proc").exists() else "")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert "worker.draining" in log.read_text(), log.read_text()
        check_clean(log.read_text())
        kept = [file for file in (tmp_path / ".perdure").rglob("*") if file.is_file()]
        assert [] == [(file, each) for file in kept for each in EVERY if each.encode() in file.read_bytes()]


CHILD = """
import multiprocessing, os
from perdure import App

if multiprocessing.parent_process() is not None:
    raise ValueError("in a child: " + os.environ["PERDURE_TOKEN"])
app = App()
"""
THREADS = """
import gc, os, threading
from perdure.config import load_settings
from perdure.logs import start_logs

class Wicked:
    def __del__(self):
        fail()

def fail():
    raise ValueError("told by nobody: " + os.environ["PERDURE_TOKEN"])

start_logs(load_settings().settings)
thread = threading.Thread(target=fail, name="a-thread")
thread.start()
thread.join()
Wicked()
gc.collect()
"""


def test_a_worker_among_several_hides_what_its_parent_hides(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CHILD)
    told = run(tmp_path, "--debug", "worker", "app:app", "--processes", "2", PERDURE_BROKERS="127.0.0.1:1")

    assert f"in a child: {MASK}" in told
    check_clean(told)


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_ends_a_thread_or_a_finalizer_is_told_without_secrets(tmp_path: Path, form: str) -> None:
    environment = {**os.environ, **CANARIES, "PERDURE_LOG_FORMAT": form}
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert 2 == done.stderr.count(f"told by nobody: {MASK}"), done.stderr
    assert all(word in done.stderr for word in ("thread.failed", "a-thread", "unraisable", "__del__"))
    check_clean(done.stderr)


@pytest.mark.kafka
def test_a_client_that_tells_all_about_its_connections_does_not_tell_its_password(
    secured_broker: SecuredBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """debug=all on a broker that takes the password: what librdkafka itself writes about its configuration and its handshakes."""
    monkeypatch.setattr(LOGGER, "filters", [])
    caplog.set_level(logging.DEBUG, LOGGER.name)
    properties = {**secured_broker.as_user("nobody"), "debug": "all"}
    producer = KafkaSettings(secured_broker.sasl_servers, "secrets", properties).producer(idempotent=False)

    def is_in() -> bool:
        producer.poll(0.1)
        return "AUTH_REQ -> UP" in caplog.text

    until(is_in)

    assert "sasl.password" in caplog.text
    assert secured_broker.passwords["nobody"] not in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "token = 12345678\n",
        'token = ["canary-token-1"]\n',
        '[kafka]\nsasl.password = ["canary-sasl-2"]\n',
        '[kafka]\nsasl.pasword = ["canary-sasl-2"]\n',
        'kafka = "sasl.password=canary-sasl-2"\n',
        "[kafka]\nssl.key.password = 2026-01-01\n",
    ],
)
def test_a_secret_that_is_written_wrongly_is_not_repeated(tmp_path: Path, text: str) -> None:
    (tmp_path / "perdure.toml").write_text(text)

    with pytest.raises(ConfigError) as refusal:
        load_settings({}, {}, tmp_path)

    assert not any(secret in str(refusal.value) for secret in ("12345678", "canary", "2026"))
    assert "perdure.toml" in str(refusal.value)


@pytest.mark.parametrize("token", ["two\nlines", "tab\t", " ", "käse", "a\x00b"])
def test_a_token_that_no_header_can_hold_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="PERDURE_TOKEN: a token is visible ASCII") as refusal:
        load_settings({}, {"PERDURE_TOKEN": token})

    assert not token.strip() or token not in str(refusal.value)


def test_credentials_among_the_brokers_are_refused_with_where_they_belong() -> None:
    with pytest.raises(ConfigError, match=r"sasl\.password") as refusal:
        load_settings({}, {"PERDURE_BROKERS": "me:sesame-open@127.0.0.1:9092"})

    assert "sesame" not in str(refusal.value)


def test_no_value_that_is_printed_by_itself_holds_a_secret() -> None:
    settings = load_settings({}, {**CANARIES, **KAFKA}).settings
    kafka = KafkaSettings("127.0.0.1:1", "hub", settings.kafka)

    check_clean(f"{settings!r} {kafka!r} {settings.kafka.keys()}")
    assert {*CANARIES.values()} == set(secrets_of(settings))


def test_an_address_with_credentials_is_named_without_them_in_errors_of_the_library(closed_port: int) -> None:
    with pytest.raises(HubUnavailable, match="nothing answers at") as refusal:
        Client.http(f"http://me:{USERINFO}@127.0.0.1:{closed_port}").open()

    check_clean(str(refusal.value))


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_a_traceback_in_the_log_tells_places_and_no_values(stream: io.StringIO, as_json: bool) -> None:
    configure_logs(json=as_json, stream=stream)

    def fail() -> None:
        password = "".join(("not-in", "-any-log"))
        raise ValueError(f"http://me:{USERINFO}@example.org", len(password))

    for log in (structlog.get_logger().error, logging.getLogger("somebody").error):
        try:
            fail()
        except ValueError as error:
            log("failed", exc_info=error)

    assert 2 == stream.getvalue().count("raise ValueError") or as_json
    assert "fail" in stream.getvalue()
    assert "not-in-any-log" not in stream.getvalue()
    check_clean(stream.getvalue())


def test_text_of_others_begins_no_line_of_its_own_in_the_log(stream: io.StringIO) -> None:
    configure_logs(json=False, stream=stream)
    forged = "x\r\n2026-01-01T00:00:00Z [info] all is well\x1b[2J\u202e\x9b2J"
    structlog.get_logger().warning("careful", instance=forged)
    logging.getLogger("somebody").warning(forged)
    try:
        raise ValueError(forged)
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)

    lines = stream.getvalue().splitlines()
    assert [] == [line for line in lines if line.startswith("2026-01-01")]
    assert not {"\x1b", "\u202e", "\x9b", "\r"} & set(stream.getvalue())
    assert [0, 1, 2] == [at for at, line in enumerate(lines) if not line.startswith("    ")]


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANcanaryC\nBKcwggSjAgEAcanaryE\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("secret", ['"canary"\\slash', "'canary'", "kä-canary", "'\"canary\\ö", PEM, "%canary/&="])
def test_a_secret_is_masked_however_it_is_written(stream: io.StringIO, secret: str, as_json: bool) -> None:
    """JSON and Python escape what is in it, an address does, and a key in PEM comes line by line."""
    settings = load_settings({}, {"PERDURE_KAFKA_SSL_KEY_PEM": secret}).settings
    assert [secret] == secrets_of(settings)
    configure_logs(json=as_json, stream=stream)
    for log in (structlog.get_logger().error, logging.getLogger("somebody").error):
        log(f"given {secret} {secret!r} {[secret, 'it is']!r} {json.dumps({'key': secret})} {quote(secret, safe='')}")
        for error in (ValueError(secret), KeyError(secret), OSError(2, "no such file", secret)):
            try:
                raise error
            except (ValueError, KeyError, OSError) as raised:
                log("failed", exc_info=raised)
    structlog.get_logger().error("failed", value=secret, values={"key": [secret]})

    assert MASK in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_what_is_kept_of_a_failure_is_masked_and_has_its_form_still() -> None:
    load_settings({}, {"PERDURE_TOKEN": "canary-token", "PERDURE_KAFKA_SASL_PASSWORD": 'canary"]'})
    cause = Failure("KeyError", "'canary-token'", "at canary-token", details=b'["canary-token", 1]')
    failure = Failure("ValueError", "as it was", "at 1", cause, retriable=False, details=b'["canary"]')

    kept = Failure("KeyError", f"'{MASK}'", f"at {MASK}", details=f'["{MASK}", 1]'.encode())
    assert Failure("ValueError", "as it was", "at 1", kept, retriable=False) == masked_failure(failure)


def test_of_two_secrets_the_longer_one_is_masked_whole() -> None:
    load_settings({}, {"PERDURE_TOKEN": "common-beginning", "PERDURE_KAFKA_SASL_PASSWORD": "common-beginning-canary"})

    assert f"{MASK} and {MASK}" == masked("common-beginning-canary and common-beginning")


def test_what_is_masked_is_the_secret_and_nothing_else() -> None:
    load_settings({}, {"PERDURE_TOKEN": "a-secret-of-ours", "PERDURE_KAFKA_SASL_PASSWORD": "short"})

    assert f"Bearer {MASK}, short" == masked("Bearer a-secret-of-ours, short")
    assert f"see https://{MASK}@example.org/a@b and me@example.org" == masked(
        "see https://me:pass@example.org/a@b and me@example.org"
    )
    assert "http://example.org/@x" == masked("http://example.org/@x")
    assert f"http://{MASK}@example.org" == masked("http://me:p@ss@example.org")


def test_a_password_that_breaks_its_address_is_masked_as_well() -> None:
    load_settings({}, {"PERDURE_URL": "http://me:canary/sla@sh@127.0.0.1:1"})

    check_clean(masked("http://me:canary/sla@sh@127.0.0.1:1 is no address"))
    assert "canary" not in masked("no port in 'http://me:canary/sla@sh@127.0.0.1:1'")


def test_a_long_word_beside_an_address_is_looked_through_once() -> None:
    """An activity's failure is masked on the engine's thread; the square of this would be an hour."""
    word = "a1+-." * 1_000_000
    assert f"{word}://{MASK}@b" == masked(f"{word}://me:canary@b")
    assert f"{word}://b" == masked(f"{word}://b")


def test_every_character_that_is_not_seen_as_itself_is_shown_as_an_escape() -> None:
    assert r"a\x1b[2J\n\r\t\u202eb\x9b\u2028\U000e0001 é 漢 🙂" == visible(
        "a\x1b[2J\n\r\t\u202eb\x9b\u2028\U000e0001 é 漢 🙂"
    )
    assert "two\nlines" == visible("two\nlines", keep="\n")
    assert Settings().hub == visible(Settings().hub)
