"""The rules of the house that a machine can check (CONTRIBUTING.md): sizes, words, and nothing of any one machine in a file."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("actors", "bench", "partitions", "schemas", "scripts", "src", "workloads")

MODULE_LINES_MAX = 600
TEST_MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 5

# Each exception with its reason; one that is no longer needed fails the test.
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {
    "actors/context.py:OrchestrationContext.call_activity": "Durable Task's signature, which its users know; the options are keywords",
    "actors/context.py:OrchestrationContext.call_sub_orchestrator": "Durable Task's signature, which its users know; the options are keywords",
    "actors/instance.py:apply_turn": "each is one field of what is built or applied here",
    "partitions/embedded/hub.py:EmbeddedHub.send": "a record's own fields; an object for each record would cost more than the send",
    "partitions/embedded/log.py:EmbeddedPublisher._send": "a record's own fields; an object for each record would cost more than the send",
    "partitions/kafka/publisher.py:KafkaPublisher._send": "a record's own fields; an object for each record would cost more than the send",
    "src/perdure/serve/api.py:_Filters.__init__": "FastAPI reads a request's parameters from the signature",
}
CLI_FOLDERS = ("src/perdure/cli",)
"""A typer command's parameters are its flags: the signature is the command line, so no settings object can stand for it."""

# A word of DESIGN.md has one meaning; these are the words that would be a second name for one, or a name that says nothing.
BANNED_WORDS = {
    "workflow": "orchestration",
    "shard": "partition",
    "manager": "the noun that it manages",
    "helper": "what it does",
    "helpers": "what it does",
    "util": "what it does",
    "utils": "what they do",
    "impl": "the name of the thing",
    "tick": "turn",
    "saga": "orchestration",
}
BANNED_NAMES = {"process_event", "handle", "handle_event", "handle_message"}

# Put together here, so that this file does not hold what it looks for.
MACHINE = re.compile(
    "|".join(
        ("/ho" + "me/[a-z]", "/Us" + "ers/[A-Za-z]", "/ro" + "ot/", "/wo" + "rk/(main|shared)", "[.]lib" + "rary/")
    )
)
REGISTRIES = re.compile(
    "|".join(
        ("pypi[.]" + "org", "pythonhosted[.]" + "org", "registry[.]npmjs[.]" + "org", "repo[.](maven|1)", "repo1[.]")
    )
)


@cache
def tracked() -> tuple[str, ...]:
    """Files of the repository: what git holds or would hold; links are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return tuple(
        sorted(
            name
            for name in listed.stdout.split("\0")
            if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()
        )
    )


def python_files(*folders: str) -> list[str]:
    return [name for name in tracked() if name.endswith(".py") and name.split("/")[0] in folders]


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def functions(name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a file as (file:Class.name, node)."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{prefix}{child.name}", child
            inner = (
                f"{prefix}{child.name}."
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                else prefix
            )
            yield from walk(child, inner)

    yield from walk(parsed(name), "")


def lines_of(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


def too_many_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = [
        a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in {"self", "cls"}
    ]
    return len(given) > PARAMETERS_MAX


def is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def test_modules_stay_small() -> None:
    long = {name for name in python_files(*CODE) if lines_of(name) > MODULE_LINES_MAX}
    long |= {name for name in python_files("tests") if lines_of(name) > TEST_MODULE_LINES_MAX}

    assert set(LONG_MODULES) == long


def test_functions_fit_on_a_screen() -> None:
    long = {
        where
        for name in python_files(*CODE, "tests")
        for where, node in functions(name)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES_MAX
    }

    assert set(LONG_FUNCTIONS) == long


def test_functions_take_few_parameters() -> None:
    many = {
        where
        for name in python_files(*CODE)
        if not name.startswith(CLI_FOLDERS)
        for where, node in functions(name)
        if too_many_parameters(node) and not is_overload(node)
    }

    assert set(MANY_PARAMETERS) == many


def names_in(name: str) -> Iterator[str]:
    yield Path(name).stem
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def words_of(identifier: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


def test_one_word_has_one_meaning() -> None:
    wrong = [
        f"{name}: {identifier} (say {', '.join(BANNED_WORDS[word] for word in found)})"
        for name in python_files(*CODE)
        for identifier in set(names_in(name))
        if (found := sorted(words_of(identifier) & set(BANNED_WORDS))) or identifier in BANNED_NAMES
    ]

    assert wrong == []


def texts() -> Iterator[tuple[str, int, str]]:
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            yield name, number, line


def test_no_file_names_one_machine_or_a_registry() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, number, line in texts()
        if MACHINE.search(line) or REGISTRIES.search(line)
    ]

    assert found == []


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    found = [f"{name}:{number}" for name, number, line in texts() if name != "LICENSE" and marks.search(line)]

    assert found == []


def test_text_files_end_with_one_newline_and_hold_no_trailing_blanks() -> None:
    wrong = [
        f"{name}:{number}"
        for name, number, line in texts()
        if name.endswith((".py", ".md", ".toml", ".yml")) and line != line.rstrip()
    ]
    wrong += [
        name
        for name in tracked()
        if name.endswith((".py", ".md", ".toml", ".yml")) and (content := (ROOT / name).read_text(encoding="utf-8"))
        if not content.endswith("\n") or content.endswith("\n\n")
    ]

    assert wrong == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name}: {target}"
        for name in tracked()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8"))
        if "://" not in target and not ((ROOT / name).parent / target).exists()
    ]

    assert broken == []
