"""Completion in bash, zsh and fish: the script that each is given, and what it answers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RunningDev, clean_environment, make_project


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `perdure` is the command under test."""
    command = tmp_path / "bin" / "perdure"
    command.parent.mkdir()
    # By a shell, since a first line cannot name an interpreter in a folder with a space in its name.
    program = tmp_path / "perdure"
    program.write_text("from perdure.cli import main\nmain()\n")
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{program}' \"$@\"\n")
    command.chmod(0o755)
    return f"{command.parent}{os.pathsep}{os.environ['PATH']}"


def run(*command: str, path: str, cwd: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        command, env={**clean_environment(), "PATH": path, **variables}, cwd=cwd, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("shell", "sign"),
    [("bash", "complete -o default"), ("zsh", "#compdef perdure"), ("fish", "complete --command perdure")],
)
def test_each_shell_gets_its_script(shell: str, sign: str, path: str) -> None:
    script = run("perdure", "--show-completion", shell, path=path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")

    assert sign in script
    assert "_PERDURE_COMPLETE" in script


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish/completions/perdure.fish")]
)
def test_each_shell_is_set_up(shell: str, file: str, path: str, tmp_path: Path) -> None:
    said = run(
        "perdure", "--install-completion", shell, path=path, HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )  # fmt: skip

    assert f"{shell} completion installed" in said
    assert (tmp_path / file).exists()


LINES = {
    "perdure li": "list",
    "perdure hub d": "describe",
    "perdure list --st": "--status",
    "perdure list --status RU": "RUNNING",
    "perdure start welcome --if-exists re": "reject return replace",
}


def test_bash_completes_commands_flags_and_words(path: str) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    script = ['eval "$(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 perdure --show-completion bash)"']
    for line in LINES:
        words = line.split(" ")
        script.append(f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _perdure_completion perdure")
        script.append('echo "${COMPREPLY[@]}"')

    assert list(LINES.values()) == run("bash", "-c", "; ".join(script), path=path).splitlines()


def test_zsh_and_fish_are_answered_with_what_each_is_for(path: str) -> None:
    zsh = run("perdure", path=path, _PERDURE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="perdure li")
    fish = run(
        "perdure", path=path, _PERDURE_COMPLETE="complete_fish", _TYPER_COMPLETE_ARGS="perdure li",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )  # fmt: skip

    assert '"list":"List instances, newest first."' in zsh
    assert "list\tList instances, newest first." in fish


def test_ids_are_completed_where_a_dev_runs_and_nowhere_else_does_anybody_wait(dev: RunningDev, path: str) -> None:
    for name in ("order-1", "order-2", "other"):
        dev("start", "listen", "--id", name)

    def completed(line: str, directory: Path) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return run("perdure", path=path, cwd=directory, _PERDURE_COMPLETE="complete_bash", **words).split()

    assert ["order-1", "order-2"] == sorted(completed("perdure get order", dev.directory))
    assert ["other"] == completed("perdure terminate order-1 ot", dev.directory)
    assert [] == completed("perdure get none", dev.directory)
    elsewhere = make_project(dev.directory.parent / "elsewhere")
    assert [] == completed("perdure get order", elsewhere)
    (elsewhere / "perdure.toml").write_text('nonsense = "x"')
    assert [] == completed("perdure get order", elsewhere)
