"""Nothing runs or is imported because the log says so: read off the code, since no test of behaviour could try every name."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PRODUCT = ("actors", "partitions", "schemas", "src/perdure", "workloads")
# Modules that make objects, or call functions, out of data.
BANNED_MODULES = frozenset(
    {
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "joblib",
        "marshal",
        "shelve",
        "jsonpickle",
        "yaml",
        "runpy",
        "code",
        "codeop",
        "imp",
    }
)
# Functions that do.
BANNED_CALLS = frozenset(
    {
        "eval", "exec", "compile", "__import__", "importlib.__import__", "pkgutil.resolve_name", "pydoc.locate", "os.system",
        "os.popen", "ctypes.CDLL", "ctypes.cdll.LoadLibrary", "logging.config.dictConfig", "logging.config.fileConfig",
    }
)  # fmt: skip
# Each with its reason; one that is not needed fails the test.
ALLOWED = {
    ("src/perdure/cli/apps.py", "importlib.import_module"): "the app that the operator names, as module:name",
    (
        "schemas/writer.py",
        "eval",
    ): "expressions over the fields of schemas that we ship, when they are read from the package",
    ("schemas/reader.py", "exec"): "statements that read the fields of those schemas",
}


def product_files() -> list[Path]:
    files = {file for folder in PRODUCT for file in (ROOT / folder).rglob("*.py")}
    return sorted(file for file in files if not any((ROOT / "src/perdure" / link) in file.parents for link in PRODUCT))


def dotted(node: ast.expr) -> str:
    """The name that an expression spells, as far as it is one."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def offences(source: str) -> list[str]:
    """What in a module makes code of data, by name."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [node.module or ""] if (node.module or "").split(".")[0] in BANNED_MODULES else []
            found += [
                f"{node.module}.{each.name}" for each in node.names if f"{node.module}.{each.name}" in BANNED_CALLS
            ]
            found += [
                f"{node.module}.{each.name}" for each in node.names if each.name in ("import_module", "__import__")
            ]
        elif isinstance(node, ast.Call):
            found += offences_of_call(node)
    return found


def offences_of_call(call: ast.Call) -> list[str]:
    name = dotted(call.func)
    literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
    if name in BANNED_CALLS or (name == "importlib.import_module" and not literal):
        return [name]
    for keyword in call.keywords:
        on = not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
        if keyword.arg in ("shell", "allow_pickle") and on:
            return [f"{name}({keyword.arg})"]
    return []


def test_no_module_of_the_product_makes_code_of_data() -> None:
    files = product_files()
    found = {
        (str(file.relative_to(ROOT)), name) for file in files for name in offences(file.read_text(encoding="utf-8"))
    }

    assert len(files) > 150
    assert set(ALLOWED) == found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import yaml",
        "from marshal import loads as read",
        "eval(text)",
        "exec(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "importlib.import_module(name)",
        "importlib.import_module(f'{name}')",
        "from importlib import import_module",
        "from pkgutil import resolve_name",
        "pkgutil.resolve_name(name)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "numpy.load(file, allow_pickle=True)",
        "numpy.load(file, allow_pickle=flag)",
    ],
)
def test_each_way_to_make_code_of_data_is_seen(source: str) -> None:
    assert 1 == len(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "re.compile(text)",
        "importlib.import_module('perdure.client')",
        "numpy.load(file)",
        "subprocess.run(command, shell=False)",
        "import codecs",
    ],
)
def test_what_only_looks_like_it_is_not(source: str) -> None:
    assert [] == offences(source)


def test_the_linters_rules_of_security_are_on_for_the_product() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    off = {
        rule
        for folder, rules in lint["per-file-ignores"].items()
        if not folder.startswith(("tests", "bench"))
        for rule in rules
        if rule.startswith("S") and rule[1:].isdigit()
    }

    assert "S" in lint["select"]
    assert {"S101"} == {rule for rule in lint["ignore"] if rule.startswith("S") and rule[1:].isdigit()}
    # The workloads draw no secrets, and the demo starts this program with arguments of its own.
    assert {"S311", "S603"} == off
