"""What others wrote is shown and nothing else: no command of a terminal, no line of our own, no markup."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.masking import visible_json
from tests.cli.conftest import Done, RunningDev, perdure_here

# Clear the screen, as bytes of 7 and of 8 bits; a title; a link; back over the line; from right to left; the end of the line.
HOSTILE = "\x1b[2J\x9b2J\x1b]0;title\x07\x1b]8;;http://example.org\x1b\\\b\r\u202e\u2028\x00[red]red[/red][/]"
APP = f"""
from typing import Any
from perdure import App, OrchestrationContext

app = App()
HOSTILE = {HOSTILE!r}

@app.orchestration
async def fail(ctx: OrchestrationContext, value: Any) -> None:
    ctx.set_custom_status(HOSTILE)
    raise ValueError(HOSTILE)

@app.orchestration
async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    ctx.set_custom_status(HOSTILE)
    return await ctx.wait_for_external_event("go")
"""
IDS = ("ends", "fails", "waits", "is [red]red[/red]", "is not [/] markup")


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDev]:
    """A hub with instances whose every free text is hostile."""
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "app.py").write_text(APP)
    (directory / "perdure.toml").write_text('app = "app:app"\n')
    dev = RunningDev(directory)
    payload = json.dumps(HOSTILE)
    for name in IDS:
        orchestration = "fail" if name == "fails" else "echo"
        begun = dev("start", orchestration, "--id", name, "--input", payload, "--tag", "key=[/]")
        assert (0, name) == (begun.code, begun.out.strip())
    assert 0 == dev("raise", "ends", "go", "--input", payload).code
    assert 0 == dev("cancel", IDS[3], "--reason", HOSTILE.replace("\x00", "")).code
    dev("wait", "ends")
    dev("wait", "fails")
    yield dev
    dev.stop()


def check_seen(done: Done) -> None:
    """Nothing but text and ends of lines, and colours where there is a terminal."""
    text = done.out + done.err
    assert {*text} - {*filter(str.isprintable, text)} <= {"\n"}, repr(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("list", "--json"),
        ("get", "ends"),
        ("get", "fails"),
        ("get", "fails", "--json"),
        ("get", IDS[3]),
        ("get", IDS[4], "--json"),
        ("history", "ends"),
        ("history", "ends", "--json"),
        ("history", "fails"),
        ("history", IDS[3]),
        ("wait", "ends"),
        ("wait", "fails"),
        ("wait", "fails", "--json"),
        ("suspend", IDS[4]),
        ("raise", "ends", HOSTILE),
        ("get", HOSTILE),
        ("start", HOSTILE),
        ("start", "echo", "--id", HOSTILE),
        ("start", "echo", "--request-id", HOSTILE),
        ("start", "echo", "--tag", f"{HOSTILE}={HOSTILE}"),
        ("list", "--after", HOSTILE),
        ("list", "--status", HOSTILE),
        ("config",),
        ("audit", "--json"),
        ("audit", "--head", HOSTILE),
        ("audit", "--instance", "fails"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(HOSTILE, "HOSTILE"),
)
def test_no_command_passes_on_what_steers_a_terminal(dev: RunningDev, arguments: tuple[str, ...]) -> None:
    done = dev(*(argument.replace("\x00", "") for argument in arguments), PERDURE_APP="app:app")

    check_seen(done)
    assert "this is a fault of perdure's" not in done.err
    assert "Traceback" not in done.err


def test_what_is_escaped_for_the_eye_is_the_same_value_for_a_program(dev: RunningDev) -> None:
    assert HOSTILE == json.loads(dev("get", "ends", "--json").out)["result"]
    assert HOSTILE == json.loads(dev("wait", "ends").out)
    assert HOSTILE == json.loads(dev("get", "fails", "--json").out)["failure"]["message"]


def test_markup_of_others_is_text(dev: RunningDev) -> None:
    listed = dev("list").out
    assert IDS[3] in listed
    assert IDS[4] in listed
    assert "[red]red[/red][/]" in dev("get", "fails").out
    assert f"suspended: {IDS[4]}" in dev("suspend", IDS[4]).err


def test_a_hostile_name_of_a_folder_is_text(tmp_path: Path) -> None:
    done = perdure_here("init", "a[/]b\x1b[2Jc", cwd=tmp_path)

    assert 0 == done.code, done.err
    check_seen(done)
    assert (tmp_path / "a[/]b\x1b[2Jc" / "app.py").exists()


def test_json_in_which_nothing_is_hidden_is_the_same_json() -> None:
    for value in (HOSTILE, {"é": ["漢", "\U000e0001", "\x7f"]}, "plain"):
        text = json.dumps(value, ensure_ascii=False, indent=2)
        shown = visible_json(text)
        assert value == json.loads(shown)
        assert {*shown} - {*filter(str.isprintable, shown)} <= {"\n"}
