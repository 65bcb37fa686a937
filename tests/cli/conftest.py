"""The real command, in processes of its own or in this one, and a `perdure dev` to talk to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.testing import CliRunner

from perdure.cli import app, output

PLENTY_SECONDS = 60.0
APP = """
from typing import Any

from perdure import App, OrchestrationContext

app = App()


@app.activity
def greet(name: str) -> str:
    if name == "nobody":
        raise ValueError("nobody is there")
    return f"hello {name}"


@app.orchestration
async def welcome(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    return [await ctx.call_activity(greet, name) for name in names]


@app.orchestration
async def listen(ctx: OrchestrationContext) -> Any:
    ctx.set_custom_status("listening")
    return await ctx.wait_for_external_event("go")
"""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def clean_environment() -> dict[str, str]:
    """Nothing of this machine's configuration or terminal."""
    ours = ("PERDURE_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def perdure(*arguments: str, cwd: Path, stdin: str = "", **variables: str) -> Done:
    """Run the command to its end; what would be a traceback fails the test."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", *arguments],
        cwd=cwd, env={**clean_environment(), **variables}, input=stdin, capture_output=True, text=True, timeout=PLENTY_SECONDS,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def perdure_here(*arguments: str, cwd: Path, stdin: str = "", **variables: str) -> Done:
    """The same in this process, which takes no second to start: for commands that load no app."""
    for console in (output.answers, output.errors):
        console.cache_clear()
    environment = mock.patch.dict(os.environ, {**clean_environment(), **variables}, clear=True)
    with contextlib.chdir(cwd), environment:
        done = CliRunner().invoke(app, arguments, input=stdin, prog_name="perdure")
    assert isinstance(done.exception, SystemExit | None), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


class RunningDev:
    """`perdure dev` in a project's directory."""

    def __init__(self, directory: Path, *arguments: str, **variables: str) -> None:
        self.directory = directory
        self.log = directory / "dev.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure", "dev", "--port", "0", *arguments],
                cwd=directory, env={**clean_environment(), **variables}, stderr=subprocess.PIPE, stdout=log, text=True,
            )  # fmt: skip
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert first.startswith("http://"), first
        self.url = first.split()[0]

    def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> Done:
        """A command in its directory."""
        return perdure_here(*arguments, cwd=self.directory, stdin=stdin, **variables)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, self.said = self.process.communicate(timeout=PLENTY_SECONDS)
        return self.process.returncode


def make_project(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "app.py").write_text(APP)
    (directory / "perdure.toml").write_text('app = "app:app"\n')
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def start_dev() -> Iterator[Callable[..., RunningDev]]:
    """Devs in directories of a test's own; none outlives it."""
    started: list[RunningDev] = []

    def start(directory: Path, *arguments: str, **variables: str) -> RunningDev:
        started.append(RunningDev(directory, *arguments, **variables))
        return started[-1]

    yield start
    for dev in started:
        dev.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDev]:
    """One for the tests of a module."""
    dev = RunningDev(make_project(tmp_path_factory.mktemp("dev")))
    yield dev
    dev.stop()
