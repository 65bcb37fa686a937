"""A real Kafka for tests, demo and benchmark: one that is there, one in Docker, or one on this machine's Java.

`python -m tests.broker [--warm]` runs one in the foreground, prints its address and the process ids of what it started, in one line, and ends with
its standard input, SIGINT or SIGTERM.
Nothing is taken for granted: Docker, Java and Maven are run under a time limit before they are believed.
"""

import argparse
import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.ports import free_ports

ROOT = Path(__file__).resolve().parent.parent
LIBS = ROOT / "build" / "kafka-libs"
POM = ROOT / "tests" / "kafka" / "pom.xml"
IMAGE = "apache/kafka:4.1.1"
PROBE_SECONDS = 20
FETCH_SECONDS = 600
START_SECONDS = 90
JAVA_MIN = 17


class NoBroker(Exception):
    """There is no way to a broker here; the message says why, for each way."""


class Broker(Protocol):
    """A broker to test against. One that is not ours cannot be killed."""

    servers: str

    @property
    def pids(self) -> Sequence[int]:
        """The processes whose CPU time is the broker's; none where they are out of sight."""

    def kill(self) -> None:
        """End it with SIGKILL."""

    def start(self) -> None:
        """Start it (again) on the same address and data."""

    def stop(self) -> None:
        """End it in order and remove its data."""


class GivenBroker:
    """The broker that KAFKA_BOOTSTRAP_SERVERS names."""

    pids: Sequence[int] = ()

    def __init__(self, servers: str) -> None:
        self.servers = servers

    def kill(self) -> None:
        raise NoBroker("KAFKA_BOOTSTRAP_SERVERS names a broker that is not ours to kill")

    def start(self) -> None:
        raise NoBroker("KAFKA_BOOTSTRAP_SERVERS names a broker that is not ours to start")

    def stop(self) -> None:
        """It was there before us."""


def broker_properties(listener: str, client_port: int, controller_port: int) -> dict[str, str]:
    """Return the settings of a lone broker that is soon up, and soon back after a SIGKILL."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://{listener}:{client_port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client_port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # It waits for its own old session when it comes back.
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "300",
        "auto.create.topics.enable": "false",
    }


class LocalBroker:
    """A broker on this machine's Java, in a directory of its own, on ports that were free. It dies with this process."""

    def __init__(self, java: str, directory: Path, *, warm: bool = False) -> None:
        self._java = java
        self._directory = directory
        # Without the two flags it starts more slowly and, once warm, runs faster.
        self._flags = [] if warm else ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        self._heap = "512m"
        client_port, controller_port = free_ports(2)
        self.servers = f"127.0.0.1:{client_port}"
        self._cluster_id = new_cluster_id()
        self._settings = broker_properties("127.0.0.1", client_port, controller_port)
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> Sequence[int]:
        return () if self._process is None else (self._process.pid,)

    @property
    def data(self) -> Path:
        """Where its topics lie, one folder for each partition."""
        return self._directory / "data"

    def start(self) -> None:
        self.launch()
        try:
            wait_until_up(self.servers, self.alive)
        except NoBroker as error:
            tail = (self._directory / "broker.log").read_text(errors="replace")[-2000:]
            self.kill()
            raise NoBroker(f"{error}: {tail}") from error

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Begin to start it."""
        properties = self._directory / "server.properties"
        if not properties.exists():
            settings = {**self._settings, "log.dirs": str(self.data)}
            properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            self._run_java("kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(properties)).wait(
                START_SECONDS
            )
        self._process = self._run_java("kafka.Kafka", str(properties))
        # Its standard input closes when this process ends, however that happens.
        self._watcher = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0" 2>/dev/null', str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self.pause()
        shutil.rmtree(self._directory, ignore_errors=True)

    def pause(self) -> None:
        """End it in order and keep its data; `start` goes on."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._watcher is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watcher.kill()
        self._watcher.communicate()
        self._process = self._watcher = None

    def _run_java(self, *command: str) -> "subprocess.Popen[bytes]":
        with (self._directory / "broker.log").open("ab") as log:
            return subprocess.Popen(
                [
                    self._java,
                    f"-Xmx{self._heap}",
                    *self._flags,
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                    "-cp",
                    f"{LIBS}/*",
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


class DockerBroker:
    """A broker in a container; testcontainers' reaper removes it when this process dies."""

    pids: Sequence[int] = ()

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        (port,) = free_ports(1)
        self.servers = f"127.0.0.1:{port}"
        self._container: Any = DockerContainer(IMAGE).with_bind_ports(port, port)
        for key, value in broker_properties("0.0.0.0", port, 29093).items():
            self._container.with_env(f"KAFKA_{key.upper().replace('.', '_')}", value)
        self._started = False

    def start(self) -> None:
        if self._started:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._started = True
        wait_until_up(self.servers, lambda: True)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def stop(self) -> None:
        self._container.stop()


def new_cluster_id() -> str:
    """16 random bytes. The first bit is 0, so that it never begins with a dash, which would read as an option."""
    random = os.urandom(16)
    return base64.urlsafe_b64encode(bytes([random[0] & 0x7F]) + random[1:]).decode().rstrip("=")


def wait_until_up(servers: str, alive: Any) -> None:
    """Block until a client sees the broker."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0, "reconnect.backoff.max.ms": 200})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and alive():
        try:
            if admin.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            time.sleep(0.05)
    raise NoBroker(f"no broker answered at {servers} within {START_SECONDS} s")


def run_limited(command: Sequence[str], seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end and return what it said; NoBroker, and no process left, when it does not end in time."""
    # In a group of its own, since what hangs is often the child of a script. To a file, since a pipe ends with its last holder.
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise NoBroker(f"`{' '.join(command)}` did not end within {seconds:g} s") from None
        out.seek(0)
        return subprocess.CompletedProcess(command, code, out.read())


def probe(command: Sequence[str]) -> str:
    """Run a command that must answer; raise NoBroker with the reason where it does not. A stub that is merely there does not count."""
    try:
        done = run_limited(command, PROBE_SECONDS)
    except FileNotFoundError:
        raise NoBroker(f"no {Path(command[0]).name}") from None
    except OSError as error:
        raise NoBroker(f"`{' '.join(command)}`: {error.strerror}") from None
    if done.returncode != 0:
        raise NoBroker(f"`{' '.join(command)}` failed: {' '.join(done.stdout.strip().splitlines()[-1:])[:200]}")
    return done.stdout


def find_java() -> str:
    """Return a Java that runs and is new enough."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    said = probe([java, "-version"])
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_MIN:
        raise NoBroker(
            f"Java {JAVA_MIN} or newer is needed, `{java} -version` says {said.splitlines()[0] if said else 'nothing'}"
        )
    return java


def fetch_jars() -> None:
    """Put a broker's jars under build/ with Maven, unless those that the pom asks for are there."""
    stamp, wanted = LIBS / "complete", hashlib.sha256(POM.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    probe(["mvn", "-v"])
    shutil.rmtree(LIBS, ignore_errors=True)
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(POM),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={LIBS}",
        f"-Dmaven.repo.local={ROOT / 'build' / 'maven'}",
        "-DincludeScope=runtime",
    ]
    done = run_limited(command, FETCH_SECONDS)
    if done.returncode != 0 or not list(LIBS.glob("kafka_2*.jar")):
        raise NoBroker(
            f"Maven could not fetch a broker's jars: {' '.join(done.stdout.split())[-300:] or 'it said nothing'}"
        )
    stamp.write_text(wanted)


def fetch() -> None:
    """Have a broker's image or jars here, so that a run needs no network."""
    try:
        probe(["docker", "info"])
        if run_limited(["docker", "image", "inspect", IMAGE], PROBE_SECONDS).returncode != 0:
            run_limited(["docker", "pull", "--quiet", IMAGE], FETCH_SECONDS).check_returncode()
    except (NoBroker, subprocess.CalledProcessError) as no_docker:
        try:
            find_java()
            fetch_jars()
        except NoBroker as no_java:
            raise NoBroker(f"{no_docker}; {no_java}") from None


def docker_broker() -> Broker:
    probe(["docker", "info"])
    broker = DockerBroker()
    try:
        broker.start()
    except Exception as error:
        raise NoBroker(f"Docker could not run {IMAGE}: {error}") from error
    return broker


def local_broker(*, warm: bool = False) -> Broker:
    broker = LocalBroker(ready_java(), broker_directory(), warm=warm)
    broker.start()
    return broker


def ready_java() -> str:
    """A Java that can run a broker, whose jars are here."""
    java = find_java()
    fetch_jars()
    return java


def broker_directory() -> Path:
    (ROOT / "build").mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="kafka-", dir=ROOT / "build"))


def own_broker(*, warm: bool = False) -> Broker:
    """Start a broker that is ours to kill: in Docker, or else on Java. `warm`: for benchmarks."""
    try:
        return docker_broker()
    except NoBroker as no_docker:
        try:
            return local_broker(warm=warm)
        except NoBroker as no_java:
            raise NoBroker(f"{no_docker}; {no_java}") from None


def find_broker(*, warm: bool = False) -> Broker:
    """Return a running broker: the one that KAFKA_BOOTSTRAP_SERVERS names, else one of our own."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        wait_until_up(servers, lambda: True)
        return GivenBroker(servers)
    return own_broker(warm=warm)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--warm", action="store_true", help="for benchmarks: slower to start, faster once warm")
    arguments.add_argument("--fetch", action="store_true", help="only fetch a broker's jars")
    given = arguments.parse_args()
    try:
        if given.fetch:
            fetch()
            return
        broker = find_broker(warm=given.warm)
    except NoBroker as error:
        sys.exit(f"no Kafka here: {error}")
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())

    def follow_stdin() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=follow_stdin, daemon=True).start()
    print(broker.servers, *broker.pids, flush=True)
    ended.wait()
    broker.stop()


if __name__ == "__main__":
    main()
