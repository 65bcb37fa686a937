"""What a person is told on stderr while a command waits, and how a wait is ended."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure.cli import output
from perdure.cli.telling import TellingTransport
from perdure.client import AsyncClient, Client
from perdure.client.log_transport import LogTransport
from tests.cli.conftest import APP, PLENTY_SECONDS, RunningDev, clean_environment, make_project, perdure
from tests.client.ways import InProcess, OverHttp
from tests.e2e.workers import until

MISTYPED = (
    APP
    + """

@app.orchestration
async def calls(ctx: OrchestrationContext) -> Any:
    greeting = await ctx.call_activity("gret", "Ada")
    return [greeting, await ctx.wait_for_external_event("go")]
"""
)
KNOWN = f"{MISTYPED}\n\n@app.activity\ndef gret(name: str) -> str:\n    return greet(name)\n"


class Waiting:
    """A command that goes on; `err` is what it has said so far."""

    def __init__(self, directory: Path, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "perdure", *arguments],
            cwd=directory, env={**clean_environment(), **variables},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.err = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err += line

    def until_it_says(self, text: str) -> None:
        until(lambda: text in self.err or self.process.poll() is not None)
        assert text in self.err, self.err

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.end()[0]

    def end(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(PLENTY_SECONDS)
        self._reader.join(PLENTY_SECONDS)
        assert "Traceback" not in self.err, self.err
        return code, out


@pytest.fixture
def begin() -> Iterator[Callable[..., Waiting]]:
    begun: list[Waiting] = []

    def start(directory: Path, *arguments: str, **variables: str) -> Waiting:
        begun.append(Waiting(directory, *arguments, **variables))
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.wait()


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDev]:
    directory = make_project(tmp_path_factory.mktemp("dev"))
    (directory / "app.py").write_text(MISTYPED)
    dev = RunningDev(directory)
    yield dev
    dev.stop()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[OverHttp]:
    way = OverHttp(tmp_path)
    yield way
    way.close()


def test_who_waits_is_told_that_it_is_held_that_nobody_answers_and_that_it_goes_on(
    tmp_path: Path, begin: Callable[..., Waiting], start_dev: Callable[..., RunningDev]
) -> None:
    (make_project(tmp_path) / "app.py").write_text(MISTYPED)
    dev = start_dev(tmp_path)
    waiting = begin(tmp_path, "start", "calls", "--id", "c-1", "--wait", "--json")
    waiting.until_it_says("held: activity 'gret' is not registered with this worker's app")
    dev.stop(signal.SIGKILL)
    waiting.until_it_says(f"still waiting: nothing answers at {dev.url}")
    (tmp_path / "app.py").write_text(KNOWN)
    dev = start_dev(tmp_path, "--port", dev.url.rpartition(":")[2])
    waiting.until_it_says("answered again")
    waiting.until_it_says("it goes on again")
    dev("raise", "c-1", "go", "--input", "1")
    code, out = waiting.end()

    assert (0, ["hello Ada", 1]) == (code, json.loads(out)["result"])
    for once in ("held: ", "still waiting: ", "answered again", "it goes on again"):
        assert 1 == waiting.err.count(once)


def test_who_waits_on_the_log_itself_is_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    way, said = InProcess(tmp_path), ""
    output.errors.cache_clear()

    def is_said(text: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return text in said

    client = Client(lambda: AsyncClient(TellingTransport(LogTransport(way.hub.log.share))))
    with client, ThreadPoolExecutor(1) as waits:
        started = client.start("unheard-of", instance_id="u-1")
        assert is_said("held: ")
        ended = waits.submit(started.wait)
        way.stop_worker()
        until(lambda: is_said("still waiting: partition"))
        way.restart_worker()
        until(lambda: is_said("answered again"))
        started.terminate("enough")
        assert "enough" == ended.result(PLENTY_SECONDS).result
    output.errors.cache_clear()
    way.close()

    assert 1 == said.count("held: ")
    assert "`perdure purge --force u-1` removes it" in said


def test_whoever_interrupts_a_wait_is_told_the_id_that_goes_on(dev: RunningDev, begin: Callable[..., Waiting]) -> None:
    waiting = begin(dev.directory, "start", "calls", "--tag", "interrupted=1", "--wait")
    waiting.until_it_says("held: ")
    code = waiting.interrupt()
    (found,) = dev("list", "--tag", "interrupted=1", "--json").json["instances"]

    assert 130 == code
    assert f"goes on; to wait again: perdure wait {found['instance_id']}\n" in waiting.err


@pytest.mark.parametrize("verb", [["resume"], ["cancel"], ["raise", "go"]])
def test_what_is_held_stays_held_and_who_asked_is_told(dev: RunningDev, verb: list[str]) -> None:
    name = f"held-{verb[0]}"
    dev("start", "calls", "--id", name)
    until(lambda: dev("get", name, "--json").json["held"])
    done = dev(verb[0], name, *verb[1:], "--json")

    assert (0, [name]) == (done.code, done.json["done"])
    assert "still held: activity 'gret' is not registered" in done.err
    assert f"`perdure terminate {name}` ends it, `perdure purge --force {name}` removes it" in done.err
    assert "still held" not in dev("terminate", name).err


def test_where_no_worker_runs_it_is_said_soon_and_an_interrupted_start_can_be_repeated(
    way: OverHttp, tmp_path: Path, begin: Callable[..., Waiting]
) -> None:
    way.stop_worker()
    here = ("--url", way.server.url)
    variables = {"PERDURE_TOKEN": "secret", "PERDURE_REQUEST_TIMEOUT": "3600"}
    start, get = begin(tmp_path, "start", "listen", *here, **variables), begin(tmp_path, "get", "x", *here, **variables)
    for each in (start, get):
        each.until_it_says("no answer yet; is a worker running?")
    codes = (start.interrupt(), get.interrupt())
    _, told = start.err.split("the same, with ")
    way.restart_worker()
    again = [perdure("start", "listen", *told.split(), *here, "--json", cwd=tmp_path, **variables).json for _ in "12"]

    assert (130, 130) == codes
    assert again[0] == again[1]
    assert told.split()[1] == again[0]["instance_id"]


def test_the_time_of_a_start_that_waits_is_that_of_the_whole_command(way: OverHttp, tmp_path: Path) -> None:
    way.stop_worker()
    done = perdure(
        "start", "listen", "--wait", "--timeout", "1", "--url", way.server.url, cwd=tmp_path,
        PERDURE_TOKEN="secret", PERDURE_REQUEST_TIMEOUT="3600",
    )  # fmt: skip
    way.restart_worker()

    assert (7, "") == (done.code, done.out)
    assert "may have been started or not" in done.err
    assert "start it again with the same --id and --request-id" in done.err


def test_a_stop_that_takes_a_while_says_for_what_and_how_to_end_it(
    tmp_path: Path, start_dev: Callable[..., RunningDev]
) -> None:
    make_project(tmp_path)
    (tmp_path / "app.py").write_text(
        f"{APP}\n\n@app.activity\ndef stay(value: None) -> None:\n"
        "    import pathlib, time\n"
        "    pathlib.Path('began').touch()\n"
        "    time.sleep(3600)\n\n"
        "@app.orchestration\nasync def stays(ctx: OrchestrationContext) -> None:\n"
        "    await ctx.call_activity(stay)\n"
    )
    dev = start_dev(tmp_path)
    dev("start", "stays")
    until((tmp_path / "began").exists)
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.stderr is not None
    said = next(line for line in dev.process.stderr if "waiting up to" in line)
    code = dev.stop(signal.SIGINT)

    assert "waiting up to 37 s for what runs and who waits; Ctrl-C again ends at once, and nothing is lost\n" == said
    assert 128 + signal.SIGINT == code
