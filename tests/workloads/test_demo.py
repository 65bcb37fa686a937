"""The demo itself, run whole and killed in the middle; then what it left is damaged, and it must say so."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tantivy

from workloads.demo import __main__ as demo
from workloads.demo.hubs import EmbeddedDemo, MortalHub
from workloads.memory_index.directory import CURRENT, IndexDirectory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a demo")


@pytest.fixture(scope="module")
def story(place: Path) -> str:
    """What a good run prints."""
    command = [sys.executable, "-m", "workloads.demo", "--directory", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_goes_through_a_kill_and_every_claim_holds(story: str) -> None:
    killed = re.search(r"(\d+) instances were unfinished and activities ran", story)
    told = re.search(
        r"(\d+) started, (\d+) finished, (\d+) activities tried again .*, (\d+) executions replayed by audit", story
    )

    assert killed is not None
    assert int(killed[1]) >= 20
    assert told is not None
    assert told[1] == told[2]
    assert all(int(count) > 0 for count in told.groups())
    assert (7, 0) == (story.count("✓"), story.count("✗"))


def test_every_command_that_it_prints_works_afterwards(story: str) -> None:
    commands = [line.strip() for line in story.partition("Look further:\n")[2].splitlines() if line.startswith("  ")]
    codes = [
        subprocess.run(["sh", "-c", each], cwd=ROOT, capture_output=True, timeout=60).returncode for each in commands
    ]

    assert [0, 0, 0, 0] == codes


def drop_a_document(root: Path) -> None:
    directory = IndexDirectory(root / "index")
    name = directory.read_pointer(CURRENT)
    writer = tantivy.Index.open(str(directory.generation(name or ""))).writer(30_000_000, 1)
    writer.delete_documents_by_term("document_id", "python/topics/bltin-ellipsis-object")
    writer.commit()
    writer.wait_merging_threads()


def lose_a_record(root: Path) -> None:
    lines = (root / "history.jsonl").read_text("utf-8").splitlines(keepends=True)
    (root / "damaged.jsonl").write_text("".join([*lines[:100], *lines[101:]]), "utf-8")


@pytest.mark.parametrize(
    ("damage", "denied"),
    [
        (drop_a_document, "the index holds the input, all of it and nothing else"),
        (lose_a_record, "the log is whole and its decisions are the code's"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_run_leaves_is_judged_as_it_is(
    damage: Callable[[Path], None],
    denied: str,
    story: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def leave_damage(self: demo.Demo, victim: MortalHub | None) -> None:
        shutil.copytree(place, tmp_path, dirs_exist_ok=True)
        damage(tmp_path)

    def look(self: EmbeddedDemo) -> tuple[str, str]:
        damaged = tmp_path / "damaged.jsonl"
        return ("--from", str(damaged)) if damaged.exists() else ("--dir", str(tmp_path / "hub"))

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(demo.Demo, "run", leave_damage)
    monkeypatch.setattr(EmbeddedDemo, "look", look)

    code = demo.main(["--directory", str(tmp_path)])

    said = [line[2:].partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("✗")]
    assert denied in said
    assert 1 == code
