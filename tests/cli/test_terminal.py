"""On a terminal a person gets tables, colours and progress; elsewhere a program gets plain text."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

from tests.cli.conftest import PLENTY_SECONDS, RunningDev, clean_environment

ESCAPE = "\x1b["


def on_terminal(dev: RunningDev, *arguments: str, interrupt_at: str = "", **variables: str) -> tuple[int, str]:
    """Run a command on a terminal of 100 columns; return its code and all that it showed. `interrupt_at`: what is shown when Ctrl-C
    is pressed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", *arguments],
        cwd=dev.directory, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**clean_environment(), "TERM": "xterm-256color", "COLUMNS": "100", **variables},
    )  # fmt: skip
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + PLENTY_SECONDS
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux tells of the end in this way
            break
        if not piece:
            break
        shown += piece
        if interrupt_at and interrupt_at.encode() in shown:
            process.send_signal(signal.SIGINT)
            interrupt_at = ""
    os.close(ours)
    return process.wait(PLENTY_SECONDS), shown.decode()


def test_a_table_has_colours_and_local_times(dev: RunningDev) -> None:
    name = dev("start", "welcome", "--input", '["Ada"]').out.strip()
    dev("wait", name)
    code, shown = on_terminal(dev, "list")

    assert 0 == code
    assert f"{ESCAPE}32mCOMPLETED" in shown
    assert "T" not in shown.split(name)[1].split("welcome")[1].split("\n")[0].replace("COMPLETED", "")


def test_no_color_is_obeyed_and_a_pipe_gets_plain_text(dev: RunningDev) -> None:
    name = dev("start", "welcome", "--input", '["Ada"]').out.strip()
    plain = dev("get", name).out
    _, shown = on_terminal(dev, "get", name, NO_COLOR="1")

    assert ESCAPE not in plain
    assert f"{ESCAPE}32m" not in shown


def test_rows_in_a_pipe_end_where_their_text_does(dev: RunningDev) -> None:
    name = dev("start", "welcome", "--input", '["Ada"]').out.strip()
    dev("wait", name)

    for command in (["get", name], ["list"], ["config"], ["history", name]):
        shown = dev(*command).out
        assert shown.endswith("\n")
        assert [] == [row for row in shown.splitlines() if row != row.rstrip() or not row]


def test_progress_is_shown_to_a_person_alone(dev: RunningDev) -> None:
    names = [dev("start", "listen").out.strip() for _ in range(6)]
    code, shown = on_terminal(dev, "terminate", *names)

    assert 0 == code
    assert "asking" in shown
    assert "%" in shown
    assert "%" not in dev("purge", *names).err


def test_an_audit_shows_how_far_it_is(dev: RunningDev) -> None:
    dev("start", "welcome", "--input", '["Ada"]', "--wait")
    code, shown = on_terminal(dev, "audit", "--app", "app:app")

    assert code in (0, 4)
    assert "reading" in shown
    assert "head of partition 0" in shown


def test_an_error_is_red_and_one_line(dev: RunningDev) -> None:
    code, shown = on_terminal(dev, "get", "nobody")

    assert 5 == code
    assert f"{ESCAPE}1;31merror:" in shown
    assert "Traceback" not in shown


def test_an_interrupted_wait_exits_130_and_the_instance_goes_on(dev: RunningDev) -> None:
    name = dev("start", "listen").out.strip()
    code, shown = on_terminal(dev, "--debug", "wait", name, interrupt_at=f"waiting for {name}")

    assert 130 == code
    assert "Traceback" not in shown
    assert "RUNNING" == dev("get", name, "--json").json["status"]
