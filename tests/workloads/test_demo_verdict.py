"""The demo says no where there is something to say no to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workloads.demo import verdict
from workloads.demo.questions import QUESTIONS
from workloads.demo.verdict import Asked, Tally, check_index, check_kill, check_log
from workloads.memory_index.searching import Answer

GOOD = Tally(
    started=66, finished=66, unfinished=0, failed=0, retried=0, redispatched=14, replayed=112, spanning=18, claims=5,
    exit_code=0, findings=(),
)  # fmt: skip


def test_a_good_log_passes() -> None:
    assert all(check.holds for check in (*check_log(GOOD), *check_kill(GOOD)))


@pytest.mark.parametrize(
    "bad",
    [
        {"started": 67},
        {"unfinished": 1},
        {"started": 0, "finished": 0},
        {"failed": 1},
        {"redispatched": 0},
        {"spanning": 0},
        {"exit_code": 2, "findings": ("0:7 R3: void",)},
        {"exit_code": 3},
    ],
    ids=str,
)
def test_a_log_with_something_wrong_does_not(bad: dict[str, Any]) -> None:
    tally = replace(GOOD, **bad)

    assert 1 == sum(not check.holds for check in (*check_log(tally), *check_kill(tally)))


class Index:
    """Stands for the index on disk: only its ids are asked for."""

    ids: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self.path = path

    def document_ids(self) -> frozenset[str]:
        return self.ids


@pytest.mark.parametrize(
    ("missing", "extra", "ranks", "wrong"),
    [
        (0, 0, [1, 2, 3, 1, 1], 0),
        (1, 0, [1, 2, 3, 1, 1], 1),
        (0, 1, [1, 2, 3, 1, 1], 1),
        (0, 0, [1, 2, 0, 1, 1], 1),
        (1, 1, [0, 0, 0, 0, 0], 2),
    ],
)
def test_the_index_is_held_to_the_input_and_the_questions(
    monkeypatch: pytest.MonkeyPatch, missing: int, extra: int, ranks: list[int], wrong: int
) -> None:
    wanted = sorted(verdict.expected_ids())
    monkeypatch.setattr(Index, "ids", frozenset([*wanted[missing:], *(f"extra-{n}" for n in range(extra))]))
    monkeypatch.setattr(verdict, "MemoryIndex", Index)
    asked = tuple(Asked(question, Answer("", ()), rank) for question, rank in zip(QUESTIONS, ranks, strict=True))

    assert wrong == sum(not check.holds for check in check_index(Path("index"), asked))
