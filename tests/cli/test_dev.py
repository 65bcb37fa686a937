"""`perdure dev`, and a command that finds it, finds it gone, or finds what it left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from perdure.client import Client
from perdure.connection import RunningDev as DevFile
from perdure.errors import ConfigError
from tests.cli.conftest import APP, PLENTY_SECONDS, RunningDev, clean_environment, make_project, perdure, perdure_here
from tests.e2e.workers import until


def test_one_command_runs_hub_worker_and_api_and_stops_in_order(
    project: Path, start_dev: Callable[..., RunningDev]
) -> None:
    dev = start_dev(project)
    assert ["hello Ada"] == dev("start", "welcome", "--id", "w-1", "--input", '["Ada"]', "--wait").json
    assert 200 == httpx.get(f"{dev.url}/readyz").status_code
    metrics = httpx.get(f"{dev.url}/metrics").text
    for name in ("perdure_instances_started_total", "perdure_turn_seconds_bucket", "perdure_http_requests_total"):
        assert f"{name}{{" in metrics
    assert 200 == httpx.get(f"{dev.url}/docs").status_code

    assert 0 == dev.stop()
    assert not (project / ".perdure" / "dev.json").exists()


def test_a_command_and_a_program_find_it_from_a_folder_below(
    project: Path, start_dev: Callable[..., RunningDev], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = start_dev(project)
    below = project / "src" / "deep"
    below.mkdir(parents=True)

    assert 0 == perdure("start", "welcome", "--input", "[]", "--wait", cwd=below).code
    monkeypatch.chdir(below)
    with Client.connect() as client:
        assert ["hello Ada"] == client.start("welcome", ["Ada"]).result(30)
    monkeypatch.chdir("/")
    for flags in ({"url": dev.url}, {"dir": project / ".perdure"}):
        with Client.connect(**flags) as client:
            assert ["hello Ada"] == client.start("welcome", ["Ada"]).result(30)
    with pytest.raises(ConfigError, match=r"^broker=: no setting is called 'broker'; did you mean 'brokers'"):
        Client.connect(broker="x")
    with pytest.raises(ConfigError, match=r"name that with dir=; or name a hub elsewhere with brokers= or url=$"):
        Client.connect()


def test_what_was_done_is_there_when_it_runs_again_and_after_a_kill(
    project: Path, start_dev: Callable[..., RunningDev]
) -> None:
    dev = start_dev(project)
    dev("start", "listen", "--id", "waits")
    assert -signal.SIGKILL == dev.stop(signal.SIGKILL)
    dev = start_dev(project)
    assert 0 == dev("raise", "waits", "go", "--input", '"on"').code

    assert '"on"\n' == dev("wait", "waits").out
    assert 0 == dev.stop()


def test_two_processes_on_one_directory_are_one_too_many(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    dev = start_dev(project)
    second = perdure("dev", "--port", "0", cwd=project)

    assert 7 == second.code
    assert f"in use by the process with pid {dev.process.pid}" in second.err
    assert 0 == dev("list").code


def test_another_partition_count_is_refused(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    start_dev(project, "--partitions", "2").stop()
    done = perdure("dev", "--port", "0", "--partitions", "3", cwd=project)

    assert 8 == done.code
    assert "has 2 partitions, not 3; a hub's partition count never changes" in done.err


def test_a_broken_app_is_named_before_anything_starts(project: Path) -> None:
    (project / "app.py").write_text("import nowhere\n")
    missing = perdure("dev", cwd=project)
    (project / "app.py").write_text(f"{APP}\n1 / 0\n")
    broken = perdure("dev", cwd=project)

    assert (2, 2) == (missing.code, broken.code)
    assert "app cannot be imported: app.py:1: it needs 'nowhere', which is not installed" in missing.err
    assert "app.py:" in broken.err
    assert "ZeroDivisionError" in broken.err
    assert not (project / ".perdure").exists()


@pytest.mark.parametrize(
    ("command", "written", "what", "why"),
    [
        ("dev", "@app.activity\ndef pay(order: 'Nope') -> str: ...\n", "activity 'pay'", "name 'Nope' is not defined"),
        ("worker", "@app.orchestration\nasync def buy(ctx: OrchestrationContext) -> 'Nope': ...\n", "orchestration 'buy'", "name 'Nope' is not defined"),
        ("worker", "@app.activity\ndef pay(order: 'json.Nope') -> str: ...\nimport json\n", "activity 'pay'", "module 'json' has no attribute 'Nope'"),
    ],
)  # fmt: skip
def test_an_annotation_that_leads_nowhere_is_named_before_anything_starts(
    project: Path, command: str, written: str, what: str, why: str
) -> None:
    line = len(APP.splitlines()) + 1
    (project / "app.py").write_text(f"{APP}{written}")
    done = perdure(command, cwd=project, PERDURE_BROKERS="127.0.0.1:9")

    assert 2 == done.code
    assert f"app.py:{line}: {what}: an annotation cannot be resolved ({why})" in done.err
    assert not (project / ".perdure").exists()


def test_a_type_may_be_defined_below_its_use(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    below = (
        "@app.orchestration\nasync def later(ctx: OrchestrationContext, note: 'Note') -> 'Note':\n    return note\n\n"
        "import dataclasses\n\n@dataclasses.dataclass\nclass Note:\n    text: str\n"
    )
    (project / "app.py").write_text(f"{APP}{below}")
    dev = start_dev(project)

    assert {"text": "hi"} == dev("start", "later", "--input", '{"text": "hi"}', "--wait").json


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("./app.py", "app:app"),
        ("app.py", "app:app"),
        ("./app", "app:app"),
        ("src/orders.py:shop", "src.orders:shop"),
        ("src\\orders.py:shop", "src.orders:shop"),
        ("../app.py:app", "app:app"),
        (".app:app", "app:app"),
        ("/", "app:app"),
    ],
)
def test_an_app_that_is_named_by_its_file_is_refused_with_what_was_meant(project: Path, path: str, meant: str) -> None:
    for command in ("dev", "worker"):
        done = perdure_here(command, path, cwd=project)

        assert 2 == done.code
        assert f"found {path.partition(':')[0]!r}: did you mean {meant}?" in done.err


def test_a_module_that_an_app_misses_is_not_taken_for_the_app(project: Path) -> None:
    (project / "application.py").write_text("import app_that_is_not_there\nimport app_\n")
    (project / "app_that_is_not_there.py").write_text("import app\nimport appl\n")
    done = perdure("dev", "application:app", cwd=project)

    assert "application cannot be imported: app_that_is_not_there.py:2: it needs 'appl'" in done.err


def test_where_nobody_runs_it_reads_open_the_directory_and_the_rest_says_what_to_do(
    project: Path, start_dev: Callable[..., RunningDev]
) -> None:
    dev = start_dev(project)
    dev("start", "welcome", "--id", "w-1", "--input", '["Ada"]', "--wait")
    dev("start", "listen", "--id", "waits")
    running = {name: dev(*name.split(), "--json").json for name in ("get w-1", "list", "history w-1", "wait w-1")}
    dev.stop(signal.SIGKILL)
    before = files_of(project / ".perdure")
    for command in (["list"], ["audit"], ["start", "welcome"]):
        assert "holds hub 'perdure', not 'other'" in dev(*command, "--hub", "other").err

    for name, document in running.items():
        done = perdure_here(*name.split(), "--json", cwd=project)
        assert (0, document) == (done.code, done.json)
    waiting = perdure_here("wait", "waits", cwd=project)
    assert (7, "") == (waiting.code, waiting.out)
    assert "start `perdure dev`" in waiting.err
    for command in (["start", "welcome"], ["raise", "waits", "go"], ["cancel", "waits"], ["purge", "w-1"]):
        done = perdure_here(*command, cwd=project)
        assert (7, "") == (done.code, done.out)
        assert "nobody runs the hub in" in done.err
        assert "start `perdure dev`" in done.err
    assert before == files_of(project / ".perdure")
    # The log is the truth: a store that cannot be read is passed over.
    for current in (project / ".perdure" / "stores").glob("partition-*/CURRENT"):
        current.write_text("nonsense\n")
    assert running["get w-1"]["result"] == perdure_here("get", "w-1", "--json", cwd=project).json["result"]
    assert 2 == len(perdure_here("list", "--json", cwd=project).json["instances"])


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file()}


def test_a_pid_that_is_anothers_by_now_is_not_a_dev(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    dev = start_dev(project)
    dev("start", "listen", "--id", "waits")
    dev.stop(signal.SIGKILL)
    file = project / ".perdure" / "dev.json"
    DevFile(json.loads(file.read_text())["url"], os.getpid(), str(project / ".perdure")).save()

    assert ["waits"] == [each["instance_id"] for each in perdure_here("list", "--json", cwd=project).json["instances"]]


def test_what_an_activity_left_in_a_thread_keeps_no_process_that_was_told_to_stop(
    project: Path, start_dev: Callable[..., RunningDev]
) -> None:
    (project / "app.py").write_text(
        f"{APP}\n\n@app.activity\nasync def stay(value: None) -> None:\n"
        "    import asyncio, pathlib, time\n"
        "    pathlib.Path('began').touch()\n"
        "    await asyncio.to_thread(time.sleep, 3600)\n\n"
        "@app.orchestration\nasync def stays(ctx: OrchestrationContext) -> None:\n"
        "    await ctx.call_activity(stay)\n"
    )
    dev = start_dev(project, PERDURE_DRAIN_TIMEOUT="0")
    dev("start", "stays")
    until((project / "began").exists)

    assert 0 == dev.stop()
    assert "process.threads_left" in dev.said


def test_who_watches_it_reads_what_failed(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    dev = start_dev(project, PERDURE_LOG_FORMAT="json")
    dev("start", "welcome", "--id", "w-1", "--input", '["nobody"]', "--wait")
    dev.stop()
    written = dev.log.read_text().splitlines() + dev.said.splitlines()
    lines = {line["event"]: line for line in map(json.loads, filter(lambda line: line.startswith("{"), written))}
    activity, instance = lines["activity.failed"], lines["instance.failed"]

    assert ("w-1", "greet", 1, "ValueError", "nobody is there") == tuple(
        activity[name] for name in ("instance", "activity", "attempt", "type", "message")
    )
    assert ("w-1", "welcome", "TaskFailedError") == (instance["instance"], instance["name"], instance["type"])
    assert "activity.stack" not in lines
    assert "Traceback" not in "".join(written)


def test_with_a_token_only_who_has_it_comes_in(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    dev = start_dev(project, PERDURE_TOKEN="secret")
    without, wrong = dev("list"), dev("list", PERDURE_TOKEN="wrong")

    assert (8, 8) == (without.code, wrong.code)
    assert "set PERDURE_TOKEN" in without.err
    assert 0 == dev("list", PERDURE_TOKEN="secret").code


def test_beyond_loopback_it_wants_a_token(project: Path) -> None:
    done = perdure("dev", cwd=project, PERDURE_HOST="0.0.0.0")

    assert 2 == done.code
    assert "set PERDURE_TOKEN, or bind to 127.0.0.1" in done.err


def test_a_port_that_is_taken_is_left_alone_unless_it_was_asked_for(
    project: Path, tmp_path: Path, start_dev: Callable[..., RunningDev]
) -> None:
    taken = str(httpx.URL(start_dev(project).url).port)
    asked = perdure("dev", "--port", taken, cwd=make_project(tmp_path / "asked"))
    (tmp_path / "free").mkdir()
    free = make_project(tmp_path / "free")
    (free / "perdure.toml").write_text(f'app = "app:app"\nport = {taken}\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "dev"], cwd=free, env=clean_environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line, why = process.stderr.readline(), process.stderr.readline()
    process.terminate()
    process.communicate(timeout=PLENTY_SECONDS)

    assert 2 == asked.code
    assert "choose another --port" in asked.err
    assert line.startswith("http://127.0.0.1:")
    assert f":{taken} " not in line
    assert f"port {taken} is taken, so this one; --port names another\n" == why


def test_code_that_is_not_deterministic_shows_at_once(project: Path, start_dev: Callable[..., RunningDev]) -> None:
    """`dev` replays every turn from cold."""
    (project / "app.py").write_text(
        f"{APP}\n\nruns = []\n\n@app.orchestration\nasync def moody(ctx: OrchestrationContext) -> None:\n"
        "    runs.append(1)\n"
        "    await ctx.call_activity('greet' if len(runs) == 1 else 'insult', 'Ada')\n"
    )
    dev = start_dev(project)
    dev("start", "moody", "--id", "moody")
    until(lambda: dev("list", "--held", "--json").json["instances"])
    held = dev("get", "moody", "--json").json["held"]

    assert "nondeterminism" == held["kind"]
    assert "greet" in held["reason"]
    assert "insult" in held["reason"]
