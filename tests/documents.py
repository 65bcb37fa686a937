"""Documents that name tests: their tables, and whether what they name exists. Read, not run."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST_ID = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)`")
_RULE = re.compile(r"\|[\s:|-]+\|")


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row of every table; heads and rules are left out."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if _RULE.fullmatch(line.strip()):
            rows.pop()
        elif line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def missing_tests(text: str) -> Iterator[str]:
    """Tests that a document names and that do not exist."""
    return (test_id for test_id in TEST_ID.findall(text) if not is_test(test_id))


def is_test(test_id: str) -> bool:
    name, _, test = test_id.partition("::")
    path = ROOT / name
    return path.is_file() and test in _tests_in(path)


@cache
def _tests_in(path: Path) -> frozenset[str]:
    """Test ids of a file without the file: functions, and methods of test classes."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {f"{prefix}{test.name}" for test in inner if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(name for name in names if name.split("::")[-1].startswith("test_"))
