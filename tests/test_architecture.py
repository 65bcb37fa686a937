"""The layers of ARCHITECTURE.md, held by the imports themselves: workloads → perdure → partitions → actors → schemas."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("schemas", "actors", "partitions", "perdure", "workloads")
"""From the bottom up: a layer imports itself and what stands before it."""

FRONT = "perdure"

# Client libraries and the one folder that may know each.
ADAPTERS = {"confluent_kafka": "partitions/kafka", "rocksdict": "partitions/rocksdb"}

# The two pure layers compute; whatever waits, looks at a clock or rolls dice is given to them by the shell.
IMPURE = {
    "asyncio",
    "multiprocessing",
    "os",
    "random",
    "requests",
    "select",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}
PURE_LIBRARIES = {
    "schemas": {"fastavro", "orjson"},
    "actors": {"orjson", "pydantic", "pydantic_core", "rpds", "typing_extensions"},
}
# The guard stands where asyncio looks for its loop, so that orchestration code that asks for one is told what to write instead.
# Whether values are guarded is decided as they are defined, and by the environment.
PURE_EXCEPTIONS = {("actors/guard.py", "asyncio.events"), ("schemas/frozen.py", "os")}


def folder_of(layer: str) -> Path:
    return ROOT / "src" / "perdure" if layer == FRONT else ROOT / layer


def modules_of(layer: str) -> Iterator[tuple[str, Path]]:
    """Every module of a layer as (dotted name, file); the front's links to the other layers are not followed."""
    folder = folder_of(layer)
    prefix = layer if layer in {FRONT, "workloads"} else f"{FRONT}.{layer}"
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if layer == FRONT and parts[0] in LAYERS:
            continue
        yield ".".join((prefix, *(part for part in parts if part != "__init__"))), path


def imports_of(name: str, path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports anywhere in it, relative imports resolved, as (dotted name, line)."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno


def layer_of(imported: str) -> str | None:
    parts = imported.split(".")
    if parts[0] == FRONT:
        return parts[1] if len(parts) > 1 and parts[1] in LAYERS else FRONT
    return parts[0] if parts[0] in LAYERS else None


def test_every_layer_is_there() -> None:
    assert [layer for layer in LAYERS if not list(modules_of(layer))] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_no_import_points_up(layer: str) -> None:
    up = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for name, path in modules_of(layer)
        for imported, line in imports_of(name, path)
        if (target := layer_of(imported)) and LAYERS.index(target) > LAYERS.index(layer)
    ]

    assert up == []


@pytest.mark.parametrize("library", ADAPTERS)
def test_a_client_library_is_imported_only_by_its_adapter(library: str) -> None:
    strays = [
        f"{path.relative_to(ROOT)}:{line}"
        for layer in LAYERS
        for name, path in modules_of(layer)
        for imported, line in imports_of(name, path)
        if imported.split(".")[0] == library and not path.is_relative_to(ROOT / ADAPTERS[library])
    ]

    assert strays == []


@pytest.mark.parametrize("layer", PURE_LIBRARIES)
def test_the_pure_layers_import_nothing_that_waits_or_guesses(layer: str) -> None:
    allowed = (sys.stdlib_module_names - IMPURE) | PURE_LIBRARIES[layer] | {FRONT}
    strays = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for name, path in modules_of(layer)
        for imported, line in imports_of(name, path)
        if imported.split(".")[0] not in allowed
        and (str(path.relative_to(ROOT)), imported.rpartition(".")[0]) not in PURE_EXCEPTIONS
    ]

    assert strays == []


@pytest.mark.parametrize("layer", PURE_LIBRARIES)
def test_the_pure_layers_never_ask_what_time_it_is_or_for_a_random_name(layer: str) -> None:
    forbidden = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom"}
    strays = [
        f"{path.relative_to(ROOT)}:{node.lineno} .{node.attr}"
        for _, path in modules_of(layer)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in forbidden
        and isinstance(node.value, ast.Name | ast.Attribute)
        if ast.unparse(node.value).split(".")[-1] in {"datetime", "date", "uuid", "os"}
    ]

    assert strays == []


def test_workloads_use_only_the_public_face() -> None:
    private = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for name, path in modules_of("workloads")
        for imported, line in imports_of(name, path)
        if layer_of(imported) in {"schemas", "actors", "partitions"}
        or any(part.startswith("_") for part in imported.split(".")[:-1])
        if imported.split(".")[0] == FRONT
    ]

    assert private == []


def test_within_a_layer_imports_are_relative() -> None:
    """`actors.x` and `perdure.actors.x` would be two copies of one module."""
    absolute = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for layer in ("schemas", "actors", "partitions")
        for _, path in modules_of(layer)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None
        if node.module.split(".")[0] in LAYERS[:3] or node.module.split(".")[:2] == [FRONT, layer]
    ]

    assert absolute == []


@pytest.mark.parametrize("layer", LAYERS[:3])
def test_the_links_of_the_package_lead_to_the_folders_at_the_root(layer: str) -> None:
    link = ROOT / "src" / "perdure" / layer

    assert (ROOT / layer).samefile(link), (
        f"src/perdure/{layer} is not a link to {layer}/: run `git config core.symlinks true && git checkout -- src/perdure`"
    )


def run_python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_importing_perdure_loads_no_client_library() -> None:
    loaded = run_python(
        "import sys, perdure; print(sorted({'confluent_kafka', 'rocksdict', 'fastapi', 'httpx'} & set(sys.modules)))"
    )

    assert loaded == "[]"


def test_every_module_of_the_package_is_loaded_once() -> None:
    """Checked after importing all there is, by a process that also has the checkout on its path."""
    names = [name for layer in LAYERS[:4] for name, _ in modules_of(layer) if not name.endswith("__main__")]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint({set(LAYERS[:3])!r} & set(sys.modules))"

    assert run_python(code) == "set()"
