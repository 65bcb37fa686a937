"""docs/CLIENT.md says what the client can do, and its examples run."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import errors
from perdure.cli.command import exit_code_of
from perdure.client import AsyncClient, AsyncHandle, Client, Handle, StartOptions
from perdure.serve.problems import _STATUSES
from perdure.testing import Environment
from tests.client.hub import RunningHub

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "CLIENT.md").read_text(encoding="utf-8")


def column(section: str) -> list[str]:
    """The first cells of a section's table."""
    part = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)


def public(kind: type[Any]) -> set[str]:
    return {name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")}


def test_every_option_of_a_start_is_there() -> None:
    assert list(StartOptions.__annotations__) == column("Start")


def test_every_call_of_a_handle_is_there_and_both_faces_have_the_same() -> None:
    assert public(Handle) == public(AsyncHandle) == set(column("Ask"))
    assert public(Client) | {"seconds", "send_start"} == public(AsyncClient)


def test_every_error_is_there_with_its_status_and_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (?:(\d+) )?\| (\d) \|$", PAGE, re.MULTILINE)
    for name, status, code in rows:
        kind = getattr(errors, name)
        error = kind.__new__(kind)
        assert int(code) == exit_code_of(error), name
        if status:
            assert int(status) == next(found for each, found, _ in _STATUSES if isinstance(error, each)), name
    raised = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.PerdureError) and not kind.__subclasses__()
    }
    assert raised - {"ConfigError", "AppNotLoaded"} <= {name for name, _, _ in rows}


def example(number: int) -> str:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[number]


def test_the_example_of_a_client_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = RunningHub(tmp_path)
    monkeypatch.setattr(Client, "connect", lambda: Client.over(hub.log.share()))
    try:
        exec(example(0).replace('["Ada"]', '"Ada"'), {})
    finally:
        hub.close()

    assert "hello Ada" in capsys.readouterr().out


def test_the_example_of_a_test_passes(perdure_env: Callable[..., Environment]) -> None:
    scope: dict[str, Any] = {}
    exec(example(1), scope)
    scope["test_an_order_is_charged_after_a_month"](perdure_env)
