"""The demo's input: the running Python's own documentation as a feed of JSONL, and conversations of ours.

Nothing is imported to read its docstring: modules that open browsers or print poems are read as text like the others.
"""

import ast
import json
import pydoc_data.topics
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PERSON = "python"
CONVERSATIONS = Path(__file__).with_name("conversations.json")
CONVERSATIONS_PERSON = "ada"
_WRITTEN_AT = "2026-03-01T00:00:00Z"


def write_feed(folder: Path) -> None:
    """Write the language's topics and the modules' docstrings into `folder`, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "topics.jsonl", "topics", iter(sorted(pydoc_data.topics.topics.items())))
    _write_lines(folder / "modules.jsonl", "modules", _read_docstrings())


def module_files() -> Iterator[tuple[str, Path]]:
    """Yield the name and source file of each public module of the standard library that is written in Python."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_"):
            for path in (library / f"{name}.py", library / name / "__init__.py"):
                if path.is_file():
                    yield name, path


def _read_docstrings() -> Iterator[tuple[str, str]]:
    for name, path in module_files():
        if text := ast.get_docstring(ast.parse(path.read_bytes())):
            yield name, text


def _write_lines(path: Path, conversation: str, texts: Iterator[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for name, text in texts:
            line = {
                "person": PERSON,
                "conversation": conversation,
                "message": name,
                "title": name,
                "author": "assistant",
                "at": _WRITTEN_AT,
                "text": text,
            }
            file.write(json.dumps(line) + "\n")
