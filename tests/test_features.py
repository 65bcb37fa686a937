"""docs/FEATURES.md promises a test for every feature; the promise is checked by reading, not by running."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEATURES = ROOT / "docs" / "FEATURES.md"
TEST_ID = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)`")


def rows() -> list[tuple[str, list[str]]]:
    """Every row of every table as (feature, test ids); heading and rule rows are left out."""
    cells = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in FEATURES.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    return [
        (row[0], TEST_ID.findall(row[-1])) for row in cells if row[0] != "Feature" and not set(row[0]) <= set("-: ")
    ]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Test ids of a file without the file: functions, and methods of test classes."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {f"{prefix}{test.name}" for test in inner if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(name for name in names if name.split("::")[-1].startswith("test_"))


def exists(test_id: str) -> bool:
    name, _, test = test_id.partition("::")
    path = ROOT / name
    return path.is_file() and test in names_in(path)


def test_every_row_names_a_test() -> None:
    assert [feature for feature, tests in rows() if not tests] == []


def test_every_test_that_a_row_names_exists() -> None:
    assert [test_id for _, tests in rows() for test_id in tests if not exists(test_id)] == []


def test_no_feature_is_listed_twice() -> None:
    features = [feature for feature, _ in rows()]

    assert sorted(set(features)) == sorted(features)


def test_there_is_something_to_check() -> None:
    assert len(rows()) > 20
