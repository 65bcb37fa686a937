"""`perdure init` writes an app and its test that work as they are."""

import re
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import RunningDev, clean_environment, perdure, perdure_here


def test_the_app_and_its_test_work_as_they_are(tmp_path: Path) -> None:
    done = perdure("init", "hello", cwd=tmp_path)
    project = tmp_path / "hello"
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=project, env=clean_environment(), capture_output=True, text=True
    )

    assert (0, {"app.py", "test_app.py", "perdure.toml", ".gitignore"}) == (
        done.code,
        {file.name for file in project.iterdir()} - {"__pycache__", ".pytest_cache"},
    )
    assert 0 == tested.returncode, tested.stdout
    assert re.search(r"\b1 passed\b", tested.stdout), tested.stdout
    dev = RunningDev(project)
    try:
        assert ["hello Ada", "hello Grace"] == dev("start", "welcome", "--input", '["Ada", "Grace"]', "--wait").json
    finally:
        dev.stop()


def test_the_app_is_ten_lines_and_what_init_says_to_run_is_right(tmp_path: Path) -> None:
    done = perdure_here("init", "hello", cwd=tmp_path)
    code = [line for line in (tmp_path / "hello" / "app.py").read_text().splitlines() if line.strip()]

    assert len(code) <= 10
    assert "cd hello && perdure dev" in done.err
    assert """perdure start welcome --input '["Ada", "Grace"]' --wait""" in done.err
    assert "pytest" in done.err


def test_a_folder_with_a_space_is_quoted_in_what_init_says_to_run(tmp_path: Path) -> None:
    done = perdure_here("init", "my app", cwd=tmp_path)

    assert "cd 'my app' && perdure dev" in done.err


def test_the_test_that_it_writes_can_fail(tmp_path: Path) -> None:
    perdure_here("init", cwd=tmp_path)
    app = tmp_path / "app.py"
    app.write_text(app.read_text().replace("hello", "goodbye"))
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )

    assert 1 == tested.returncode


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    done = perdure_here("init", cwd=tmp_path)

    assert 2 == done.code
    assert "app.py exists" in done.err
    assert "nothing was written" in done.err
    assert ["app.py"] == [file.name for file in tmp_path.iterdir()]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = perdure_here("init", "file/hello", cwd=tmp_path)

    assert 2 == done.code
    assert "cannot write to file/hello" in done.err
