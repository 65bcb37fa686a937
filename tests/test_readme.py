"""What the documents tell a reader to type or to copy is there and works."""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.main import get_command

from perdure.actors.app import App
from perdure.cli import app as perdure
from perdure.client import AsyncClient
from perdure.serve import ApiServer, create_api
from perdure.serve.server import bind
from perdure.testing import run
from tests.client.hub import RunningHub

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "workloads/README.md",
    *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST, SECOND = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def commands_in(text: str) -> list[list[str]]:
    """Every perdure command line: in a block of its own, after `&&`, or between backquotes in a sentence."""
    blocks = [part for line in text.splitlines() if line.startswith("    ") for part in line.split("&&")]
    quoted = re.findall(r"`([^`]+)`", text.replace("```", ""))
    lines = [line.partition(" # ")[0].partition(" > ")[0] for line in (*blocks, *quoted)]
    return [shlex.split(line) for line in lines if re.match(r"\s*perdure [a-z]", line)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_the_documents_exists_with_its_options(document: str) -> None:
    unknown = []
    for _, *words in commands_in((ROOT / document).read_text(encoding="utf-8")):
        command, rest = get_command(perdure), list(words)
        while rest and hasattr(command, "commands") and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        known = {flag for parameter in command.params for flag in parameter.opts}
        unknown += [words for word in rest if word.startswith("-") and word.split("=")[0] not in known]
        unknown += [words for _ in rest[:1] if hasattr(command, "commands")]

    assert [] == unknown


def test_there_are_commands_to_look_at() -> None:
    assert len(commands_in(README)) > 12


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_of_the_documents_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z-]+)|^    make ([a-z-]+)", text, re.MULTILINE)
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout

    assert {first or second for first, second in named} <= set(re.findall(r"^  make ([\w-]+)", listed, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_the_documents_leads_somewhere(document: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / document).read_text(encoding="utf-8"))

    assert [] == [t for t in targets if "://" not in t and not ((ROOT / document).parent / t).exists()]


@pytest.fixture
def code(tmp_path: Path) -> dict[str, Any]:
    """README's first block, as a module of a reader's own."""
    (tmp_path / "app.py").write_text(FIRST)
    return runpy.run_path(str(tmp_path / "app.py"), run_name="app")


def test_an_orchestration_takes_ten_lines(code: dict[str, Any]) -> None:
    assert len([line for line in FIRST.splitlines() if line.strip()]) <= 10
    with run(code["app"]) as env:
        assert ["hello Ada", "hello Grace"] == env.run(code["welcome"], ["Ada", "Grace"])


@pytest.fixture
def url(code: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """An API on a hub whose worker has README's app."""
    app: App = code["app"]
    hub = RunningHub(tmp_path / "hub", app)
    server = ApiServer(create_api(AsyncClient.over(hub.log.share()), ""), bind("127.0.0.1", 0))
    server.start()
    yield server.url
    server.close()
    hub.close()


def test_the_client_of_the_readme_starts_and_waits(
    code: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERDURE_URL", url)
    monkeypatch.setitem(sys.modules, "app", SimpleNamespace(**code))

    exec(SECOND, {})

    assert "['hello Ada', 'hello Grace']" in capsys.readouterr().out.splitlines()


def test_the_requests_of_the_readme_are_answered(url: str) -> None:
    start, result = [shlex.split(line) for line in README.splitlines() if line.startswith("    curl ")]
    body, header = (start[start.index(option) + 1] for option in ("-d", "-H"))
    sent = httpx.post(f"{url}{httpx.URL(start[1]).path}", content=body, headers=dict([header.split(": ")]))

    assert httpx.codes.CREATED == sent.status_code
    answer = httpx.get(f"{url}{httpx.URL(result[1]).raw_path.decode()}", timeout=60)
    assert "hello Ada" in answer.text
