"""The command line on a real broker: a hub is created, described, worked for, talked to and audited."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, ResourceType

from perdure.partitions.partitioner import partition_of
from tests.cli.conftest import Done, clean_environment, make_project, perdure, perdure_here
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka


class Hub:
    """A project on a hub of its own, with a worker."""

    def __init__(self, directory: Path, servers: str) -> None:
        self.directory = make_project(directory)
        self.servers = servers
        self.name = f"cli-{uuid4().hex[:8]}"
        (directory / "perdure.toml").write_text(f'app = "app:app"\nhub = "{self.name}"\nbrokers = "{servers}"\n')
        self.created = self("hub", "create", "--partitions", "3")
        self.worker = WorkerProcess(directory, servers, self.name)
        self.worker.wait_until_ready()

    def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> Done:
        return perdure_here(*arguments, cwd=self.directory, stdin=stdin, **variables)

    def close(self) -> None:
        self.worker.kill()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, kafka_servers: str) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"), kafka_servers)
    yield hub
    hub.close()


def test_a_hub_is_created_once_and_described(hub: Hub) -> None:
    again = hub("hub", "create", "--partitions", "3", "--json")
    described = hub("hub", "describe")
    document = hub("hub", "describe", "--json").json

    assert (0, 0, 0) == (hub.created.code, again.code, described.code)
    assert "production wants 3" in hub.created.err
    assert document == again.json
    assert (hub.name, 3) == (document["hub"], document["partitions"])
    topics = {topic["name"].removeprefix(f"{hub.name}."): topic for topic in document["topics"]}
    assert {"inbox", "history", "replies", "dead-letter", "snapshots"} == topics.keys()
    assert ("-1", "delete") == (
        topics["history"]["settings"]["retention.ms"],
        topics["history"]["settings"]["cleanup.policy"],
    )
    for name in topics:
        assert f"{hub.name}.{name}" in described.out


def test_another_partition_count_is_refused(hub: Hub) -> None:
    done = hub("hub", "create", "--partitions", "5")

    assert 8 == done.code
    assert "exists with 3 partitions, not 5; a hub's partition count never changes" in done.err


def test_a_hub_that_is_missing_is_named_with_the_command_that_creates_it(hub: Hub) -> None:
    for command in (["list"], ["start", "welcome"], ["hub", "describe"], ["audit"]):
        done = hub(*command, "--hub", "nowhere")
        assert (7, "") == (done.code, done.out)
        assert "`perdure hub create` creates it" in done.err
    worker = perdure("worker", "--hub", "nowhere", "--port", "0", cwd=hub.directory)
    assert 7 == worker.code
    assert "`perdure hub create` creates it" in worker.err


def test_a_topic_with_retention_is_refused_by_describe_and_by_a_worker(
    hub: Hub, tmp_path: Path, kafka_servers: str
) -> None:
    name = f"kept-{uuid4().hex[:8]}"
    assert 0 == hub("hub", "create", "--hub", name, "--partitions", "1").code
    entry = ConfigResource(ResourceType.TOPIC, f"{name}.history", incremental_configs=[retention_of("86400000")])
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    for future in admin.incremental_alter_configs([entry]).values():
        future.result(30)
    described = hub("hub", "describe", "--hub", name)
    worker = perdure("worker", "--hub", name, "--port", "0", "--dir", str(tmp_path), cwd=hub.directory)

    assert (8, 8) == (described.code, worker.code)
    for done in (described, worker):
        assert f"topic {name}.history: retention.ms must be -1, it is 86400000" in done.err
        assert "kafka-configs --alter" in done.err


def test_a_second_worker_on_one_directory_is_refused_with_the_way_out(hub: Hub) -> None:
    (state,) = hub.directory.glob("state-*")
    done = perdure("worker", "--port", "0", "--dir", str(state), cwd=hub.directory)

    assert 7 == done.code
    assert "in use by another process; give each process a directory of its own" in done.err


def retention_of(milliseconds: str) -> ConfigEntry:
    from confluent_kafka.admin import AlterConfigOpType

    return ConfigEntry("retention.ms", milliseconds, incremental_operation=AlterConfigOpType.SET)


def test_the_verbs_need_nothing_but_the_brokers(hub: Hub) -> None:
    name = f"w-{uuid4().hex[:8]}"
    assert ["hello Ada"] == hub("start", "welcome", "--input", '["Ada"]', "--wait", "--timeout", "60").json
    assert 0 == hub("start", "listen", "--id", name, "--tag", "team=a").code
    assert "RUNNING" == hub("get", name, "--json").json["status"]
    assert [name] == [each["instance_id"] for each in hub("list", "--tag", "team=a", "--json").json["instances"]]
    assert 0 == hub("raise", name, "go", "--input", "7").code
    assert "7\n" == hub("wait", name, "--timeout", "60").out
    assert 4 == sum(len(turn["events"]) for turn in hub("history", name, "--json").json["turns"])
    assert (8, 0) == (hub("cancel", name).code, hub("purge", name).code)


def test_serve_is_the_same_over_http_and_stops_in_order(hub: Hub) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "serve", "--port", "0"],
        cwd=hub.directory, env=clean_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    url = process.stderr.readline().split()[0]
    assert ["hello Grace"] == hub("start", "welcome", "--input", '["Grace"]', "--wait", "--url", url).json
    assert 0 == hub("list", "--url", url).code
    assert [200, 200] == [httpx.get(f"{url}{path}").status_code for path in ("/healthz", "/readyz")]
    assert 'route="/v1/instances",status="201"' in httpx.get(f"{url}/metrics").text
    process.send_signal(signal.SIGTERM)

    assert 0 == process.wait(30)


LOGGING = """
import logging
from perdure import ActivityContext, App, OrchestrationContext

app = App()

@app.activity
def plain(ctx: ActivityContext, name: str) -> str:
    ctx.logger.warning("in a plain activity")
    return name

@app.activity
async def waiting(ctx: ActivityContext, name: str) -> str:
    ctx.logger.warning("in an async activity")
    return name

@app.orchestration
async def talk(ctx: OrchestrationContext, name: str) -> str:
    ctx.logger.warning("in the orchestration")
    logging.getLogger("its.own").warning("through a logger of its own")
    await ctx.call_activity(plain, name)
    return await ctx.call_activity(waiting, name)
"""


def test_every_line_of_a_worker_says_hub_partition_instance_and_turn(
    hub: Hub, tmp_path: Path, kafka_servers: str
) -> None:
    name = f"logs-{uuid4().hex[:8]}"
    (tmp_path / "app.py").write_text(LOGGING)
    hub("hub", "create", "--hub", name, "--partitions", "2")
    worker = WorkerProcess(tmp_path, kafka_servers, name, "--drain-timeout", "0")
    worker.wait_until_ready()
    assert 0 == hub("start", "talk", "--hub", name, "--id", "t-1", "--input", '"Ada"', "--wait", "--timeout", "60").code
    hub("start", "unheard-of", "--hub", name)
    worker.terminate()
    assert 0 == worker.wait()
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    said = {line["event"]: line for line in lines}

    assert {name} == {line["hub"] for line in lines}
    assert all(line["level"] and line["timestamp"] for line in lines)
    for event in ("in the orchestration", "through a logger of its own", "in a plain activity", "in an async activity"):
        assert ("t-1", partition_of("t-1", 2)) == (said[event]["instance"], said[event]["partition"]), said[event]
        assert said[event]["turn"] >= 0
    assert (1, 1) == (said["in a plain activity"]["task"], said["in a plain activity"]["attempt"])
    assert {0, 1} == {line["partition"] for line in lines if line["event"] == "partition.owned"}


def test_serve_beyond_loopback_wants_a_token(hub: Hub) -> None:
    done = perdure("serve", "--host", "0.0.0.0", cwd=hub.directory)

    assert 2 == done.code
    assert "set PERDURE_TOKEN, or bind to 127.0.0.1" in done.err


def ended(hub: Hub, prefix: str) -> set[str]:
    listed = hub("list", "--prefix", prefix, "--status", "FAILED", "--status", "COMPLETED", "--json")
    return {each["instance_id"] for each in listed.json["instances"]}


def test_a_line_of_json_from_kcat_is_a_start(hub: Hub) -> None:
    """README's own line; where there is no kcat, the next test sends the same bytes."""
    if shutil.which("kcat") is None:
        pytest.skip("no kcat here: install it (Debian: apt-get install kcat) to run the README's own line")
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (line,) = [each.strip() for each in readme.splitlines() if each.strip().startswith("echo") and "kcat" in each]
    assert "-b 127.0.0.1:9092 -t orders.inbox" in line
    command = line.replace("127.0.0.1:9092", hub.servers).replace("orders.inbox", f"{hub.name}.inbox")
    subprocess.run(["sh", "-c", command], check=True, timeout=60)

    until(lambda: {"w-2"} == ended(hub, "w-2"))
    assert ["hello Ada"] == hub("get", "w-2", "--json").json["result"]


def test_the_same_bytes_from_any_producer_are_a_start(hub: Hub) -> None:
    producer = Producer({"bootstrap.servers": hub.servers})
    for number in range(3):
        value = json.dumps({"start": "welcome", "id": f"plain-{number}", "input": ["Ada"]})
        producer.produce(f"{hub.name}.inbox", value)
    producer.flush(30)

    until(lambda: {"plain-0", "plain-1", "plain-2"} == ended(hub, "plain-"))
    assert ["hello Ada"] == hub("get", "plain-0", "--json").json["result"]


def test_an_audit_reads_the_topic_one_instance_or_an_export(hub: Hub, tmp_path: Path) -> None:
    name = f"audited-{uuid4().hex[:8]}"
    hub("start", "welcome", "--id", name, "--input", '["Ada"]', "--wait", "--timeout", "60")
    whole = perdure("audit", "--json", cwd=hub.directory)
    one = perdure("audit", "--instance", name, "--json", cwd=hub.directory)
    exported = perdure("audit", "--export", str(tmp_path / "history.jsonl"), cwd=hub.directory)
    again = perdure("audit", "--from", str(tmp_path / "history.jsonl"), "--json", cwd=hub.directory)
    heads = [argument for head in whole.json["heads"] for argument in ("--head", head)]
    missing = perdure("audit", "--instance", "nobody", cwd=hub.directory)

    assert (0, []) == (whole.code, whole.json["findings"])
    assert (0, 1) == (one.code, one.json["counts"]["started"])
    assert 0 == exported.code
    assert whole.json["counts"] == again.json["counts"]
    assert 0 == perdure("audit", *heads, cwd=hub.directory).code
    assert 5 == missing.code
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    (tmp_path / "cut.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert 0 == perdure("audit", "--from", str(tmp_path / "cut.jsonl"), cwd=hub.directory).code
    assert 2 == perdure("audit", "--from", str(tmp_path / "cut.jsonl"), *heads, cwd=hub.directory).code
