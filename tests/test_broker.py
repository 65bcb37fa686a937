"""A way to a broker is believed only when it was tried: fakes on PATH stand for what is common on people's machines."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import broker
from tests.broker import NoBroker, fetch, fetch_jars, find_java, own_broker

ROOT = Path(__file__).resolve().parent.parent
Fake = Callable[[str, str], None]
NO_ENGINE = "echo 'Cannot connect to the Docker daemon. Is it running?' >&2; exit 1"
NO_RUNTIME = "echo 'Unable to locate a Java Runtime.' >&2; exit 1"
JAVA_17 = "echo 'openjdk version \"17.0.2\" 2022-01-18' >&2"
# Its child holds the output open, as a JVM behind a script does.
HANGS = "/bin/sleep 300; true"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Nothing is on PATH but what is put there; jars would go to a place of their own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(broker, "LIBS", tmp_path / "libs")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def test_a_machine_with_nothing_says_what_is_missing(fake: Fake) -> None:
    with pytest.raises(NoBroker, match=r"^no docker; no java$"):
        own_broker()


def test_a_docker_without_an_engine_is_no_broker(fake: Fake) -> None:
    fake("docker", NO_ENGINE)
    with pytest.raises(NoBroker, match=r"`docker info` failed: Cannot connect to the Docker daemon.*; no java"):
        own_broker()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (NO_RUNTIME, "`java -version` failed: Unable to locate a Java Runtime"),
        ("echo 'openjdk version \"11.0.2\" 2019-01-15' >&2", "Java 17 or newer is needed.*11.0.2"),
        ("echo 'java version \"1.8.0_341\"' >&2", "Java 17 or newer is needed.*1.8.0"),
        ("true", "Java 17 or newer is needed.*says nothing"),
    ],
    ids=["stub", "Java 11", "Java 8", "silent"],
)
def test_a_java_that_cannot_run_a_broker_is_named_with_what_it_says(fake: Fake, script: str, reason: str) -> None:
    fake("java", script)
    with pytest.raises(NoBroker, match=reason):
        find_java()


def test_a_java_that_is_new_enough_is_taken(fake: Fake) -> None:
    fake("java", JAVA_17)
    assert "java" == find_java()


@pytest.mark.parametrize("name", ["docker", "java", "mvn"])
def test_a_command_that_hangs_is_given_up_and_leaves_no_process(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(broker, "PROBE_SECONDS", 3.0)
    fake("docker", NO_ENGINE)
    fake("java", JAVA_17)
    fake(name, f"echo $$ >{tmp_path}/pid; {HANGS}")
    with pytest.raises(NoBroker, match=rf"`{name} .*` did not end within 3 s"):
        own_broker() if name != "docker" else broker.docker_broker()
    with pytest.raises(ProcessLookupError):
        _wait_for_group_to_end(int((tmp_path / "pid").read_text()))


def _wait_for_group_to_end(group: int) -> None:
    """Raise ProcessLookupError when no process of the group is left."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        os.killpg(group, 0)
        time.sleep(0.01)


def test_a_maven_that_stops_in_the_middle_is_given_up(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "FETCH_SECONDS", 0.5)
    fake("mvn", f'[ "$1" = -v ] || {{ {HANGS}; }}')
    with pytest.raises(NoBroker, match=r"did not end within 0.5 s"):
        fetch_jars()


@pytest.mark.parametrize(("script", "said"), [("exit 0", "it said nothing"), ("echo offline; exit 1", "offline")])
def test_a_maven_that_brings_no_jars_leaves_no_stamp(fake: Fake, script: str, said: str) -> None:
    fake("mvn", f'[ "$1" = -v ] || {{ {script}; }}')
    with pytest.raises(NoBroker, match=f"could not fetch a broker's jars: {said}"):
        fetch_jars()
    assert not (broker.LIBS / "complete").exists()


def test_jars_are_fetched_again_only_when_others_are_asked_for(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pom = tmp_path / "pom.xml"
    pom.write_text("<one/>")
    monkeypatch.setattr(broker, "POM", pom)
    libs = broker.LIBS
    fake("mvn", f'[ "$1" = -v ] || {{ /bin/mkdir "{libs}"; echo >"{libs}/kafka_2.13-$$.jar"; }}')
    fetched = []
    for text in ("<one/>", "<one/>", "<two/>"):
        pom.write_text(text)
        fetch_jars()
        fetched.append([path.name for path in libs.glob("*.jar")])

    assert [1, 1, 1] == [len(jars) for jars in fetched]
    assert fetched[0] == fetched[1] != fetched[2]


def test_set_up_fetches_the_image_where_docker_works_and_asks_for_no_java(fake: Fake, tmp_path: Path) -> None:
    fake("docker", f'echo "$@" >>{tmp_path}/said; [ "$1" != image ]')
    fetch()
    assert f"docker pull --quiet {broker.IMAGE}" in [f"docker {line}" for line in _lines(tmp_path / "said")]


def test_set_up_goes_on_to_java_where_the_image_cannot_be_had(fake: Fake) -> None:
    fake("docker", '[ "$1" = info ]')
    fake("java", NO_RUNTIME)
    with pytest.raises(NoBroker, match=r"docker.*pull.*; `java -version` failed"):
        fetch()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_the_last_line_of_a_run_says_how_many_ran_and_why_not_all(
    fake: Fake, tmp_path: Path, required: str, code: int, workers: str
) -> None:
    fake("docker", NO_ENGINE)
    fake("java", NO_RUNTIME)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        f"cache_dir={tmp_path}",
        "-n",
        workers,
        "tests/partitions/test_kafka_log.py",
    ]
    environment = {**os.environ, "PERDURE_REQUIRE_KAFKA": required}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    last = run.stdout.splitlines()[-1]
    assert (code, True) == (run.returncode, last.startswith("real Kafka: 0 of ")), run.stdout + run.stderr
    assert (
        "run (no broker: `docker info` failed: Cannot connect to the Docker daemon. Is it running?; `java -version` failed"
        in last
    )


@pytest.mark.parametrize(("reason", "code"), [("no broker: none", 1), ("no kcat here", 0)])
def test_where_a_broker_is_required_nothing_else_is(tmp_path: Path, reason: str, code: int) -> None:
    _lay_out(
        tmp_path,
        f"import pytest\n@pytest.mark.kafka\ndef test_one(): pytest.skip({reason!r})\n@pytest.mark.kafka\ndef test_two(): pass\n",
    )
    environment = {**_outside(), "PERDURE_REQUIRE_KAFKA": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert (code, f"real Kafka: 1 of 2 run ({reason})") == (run.returncode, run.stdout.splitlines()[-1]), run.stdout


def _lay_out(directory: Path, test: str) -> None:
    """A project with the real root's count, and its own settings, so that those of a checkout around it are not looked for."""
    (directory / "conftest.py").write_text((ROOT / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = kafka\n")
    (directory / "test_it.py").write_text(test)


def _outside() -> dict[str, str]:
    """This process's environment without what says that it is one of pytest-xdist's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_last_line_of_a_run_that_is_interrupted_says_so_and_what_ran_until_then(
    tmp_path: Path, workers: str
) -> None:
    _lay_out(
        tmp_path,
        "import threading, pytest\n"
        "pytestmark = pytest.mark.kafka\n"
        "def test_one(): pass\n"
        "def test_two(): threading.Event().wait(60)\n"
        "def test_three(): pass\n",
    )
    (tmp_path / "told.py").write_text(
        "import os, pathlib, pytest\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'teardown' and 'PYTEST_XDIST_WORKER' not in os.environ:\n"
        "        pathlib.Path('told').touch()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "told", "-n", workers]
    run = subprocess.Popen(
        [*command, "--dist", "loadfile"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=_outside()
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "told").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)

    assert "real Kafka: 1 of 3 run (the run was interrupted)" == said.splitlines()[-1], said
