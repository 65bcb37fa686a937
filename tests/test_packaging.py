"""What a user gets: the lock, the set-up, wheel and sdist, the container files. `.ci/run` installs the packages for real."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from perdure.cli import app
from perdure.config import Settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_FOLDERS = ("actors", "partitions", "schemas")
LOCKS = ("build", "dev", "runtime")


def tracked(*patterns: str) -> list[str]:
    """What is tracked or new, by git's own patterns; a link is not a file."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in listed if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


# The lock


def locked(name: str) -> list[str]:
    """One string for each requirement of a lock, its continuation lines joined."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_its_hashes(lock: str) -> None:
    loose = [
        line for line in locked(lock) if not re.match(r"[a-z0-9._-]+(\[\w+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line)
    ]

    assert loose == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock: str) -> None:
    assert [line for line in locked(lock) if "://" in line or line.startswith("-")] == []


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "dev": [*project["dependencies"], *extras["workloads"], *extras["dev"]],
        "runtime": [*project["dependencies"], *extras["workloads"]],
    }
    missing = {
        (lock, requirement)
        for lock, requirements in wanted.items()
        for requirement in requirements
        if re.match(r"[\w.-]+", requirement)[0] not in {re.split(r"[=\[]", line)[0] for line in locked(lock)}  # type: ignore[index]
    }

    assert missing == set()


# The set-up


def fake_python(folder: Path, name: str, exit_code: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\nexit {exit_code}\n")
    (folder / name).chmod(0o755)


def find_python(path: str, chosen: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path} | ({"PYTHON": chosen} if chosen else {})
    return subprocess.run(
        ["/bin/sh", "scripts/find-python"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
    )


def test_set_up_takes_the_first_python_that_works(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3.14", 1)
    fake_python(tmp_path / "bin", "python3.12", 0)
    fake_python(tmp_path / "bin", "python3", 0)

    assert f"{tmp_path}/bin/python3.12\n" == find_python(f"{tmp_path}/bin").stdout


def test_set_up_takes_the_python_that_it_is_told(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3.12", 0)

    assert f"{sys.executable}\n" == find_python(f"{tmp_path}/bin", chosen=sys.executable).stdout


def test_without_a_python_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3", 1)

    found = find_python(f"{tmp_path}/bin")

    assert (1, "", 1) == (found.returncode, found.stdout, len(found.stderr.splitlines()))
    assert "3.11" in found.stderr
    assert "venv" in found.stderr


def test_make_lists_its_commands() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout

    assert {"demo", "demo-kafka", "test", "check", "bench", "kill-test"} <= set(
        re.findall(r"^  make ([\w-]+)", listed, re.MULTILINE)
    )
    columns = {len(row) for row in re.findall(r"^  make [\w-]+ +", listed, re.MULTILINE)}
    assert 1 == len(columns), "one of them runs out of its column"


def test_every_target_of_make_is_listed() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)

    assert set(targets.split()) == set(re.findall(r"^([a-z-]+):.* ## .+$", text, re.MULTILINE))


def test_no_make_of_one_kind_is_asked_for() -> None:
    """What BSD's make does not have, GNU's functions and order-only prerequisites first of all."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert [] == re.findall(
        r"\$\((?:shell|wildcard|CURDIR|info|if|foreach) ?|^\S+:[^#\n]*[ |]\| |:=|^export |^ifeq", text, re.MULTILINE
    )


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "scripts/find-python", "scripts/lock"])
def test_set_up_needs_no_sudo_and_no_tool_that_only_gnu_has(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    gnu = r"(?<!-)\b(sudo|timeout|realpath|readlink -f|sed -i|grep -P|xargs -r|date -d|stat -c|nproc|tac|localhost)\b"

    assert re.findall(gnu, text) == []


# Wheel and sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist of a copy of the repository, built without a network."""
    source, out = tmp_path_factory.mktemp("source of perdure"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for layer in PACKAGE_FOLDERS:
        (source / "src" / "perdure" / layer).symlink_to(f"../../{layer}")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return out


def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    front = [name.removeprefix("src/") for name in tracked("src/perdure")]
    layers = [f"perdure/{name}" for name in tracked(*PACKAGE_FOLDERS)]

    with wheel(built) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert {*front, *layers} == held


def test_the_wheel_carries_licence_types_and_entry_points(built: Path) -> None:
    with wheel(built) as archive:
        names = archive.namelist()
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))

    assert [name for name in names if name.endswith("licenses/LICENSE")] != []
    assert "perdure/py.typed" in names
    assert "perdure = perdure.cli:main" in entry_points


def test_the_sdist_holds_real_files_where_the_repository_has_links(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        links = [member.name for member in archive.getmembers() if member.issym() or member.islnk()]
        names = {member.name.split("/", 1)[-1] for member in archive.getmembers()}

    assert links == []
    assert {f"src/perdure/{layer}/__init__.py" for layer in PACKAGE_FOLDERS} <= names
    assert [name for name in names if name.startswith("tests/")] == [], "a part of the tests, which runs nowhere"


def test_the_package_runs_from_the_wheel_alone(built: Path, tmp_path: Path) -> None:
    with wheel(built) as archive:
        archive.extractall(tmp_path)
    code = "import perdure, perdure.cli, perdure.schemas, sys; print(perdure.__file__)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert f"{tmp_path / 'perdure' / '__init__.py'}\n" == finished.stdout, finished.stderr


# The container files


def compose() -> dict[str, dict[str, object]]:
    services: dict[str, dict[str, object]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
        "services"
    ]
    return services


def dockerfile() -> list[list[str]]:
    """The instructions of the Dockerfile as words, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def perdure_commands() -> list[list[str]]:
    """Every perdure command line that the container files run."""
    lines = [service["command"] for service in compose().values() if service.get("build")]
    assert all(isinstance(line, list) for line in lines), (
        "a command is a list, so that no shell stands between a signal and its process"
    )
    return [[str(word) for word in line] for line in lines if isinstance(line, list) and line[0] == "perdure"]


def test_compose_has_the_services_that_the_readme_promises() -> None:
    assert {"kafka", "hub", "worker", "api", "demo"} == set(compose())


def test_every_command_and_flag_of_the_container_files_exists() -> None:
    unknown = []
    for _, *words in perdure_commands():
        command = get_command(app)
        while words and not words[0].startswith("-") and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        unknown += [word for word in words if word.startswith("-") and word.split("=")[0] not in flags]

    assert unknown == []


def test_workers_can_be_scaled() -> None:
    """A fixed name or a published port would let only one start."""
    assert {"container_name", "ports"} & set(compose()["worker"]) == set()


def test_workers_wait_for_the_hub_and_the_hub_for_kafka() -> None:
    services = compose()

    assert {"kafka": {"condition": "service_healthy"}} == services["hub"]["depends_on"]
    assert {"hub": {"condition": "service_completed_successfully"}} == services["worker"]["depends_on"]


def test_the_image_is_debian_and_its_process_is_not_root() -> None:
    instructions = dockerfile()
    bases = [words[1] for words in instructions if words[0] == "FROM"]
    users = [words[1] for words in instructions if words[0] == "USER"]

    assert [base for base in bases if not re.fullmatch(r"python:3\.\d+-slim-\w+", base)] == []
    assert users[-1].split(":")[0] not in {"root", "0"}
    assert [words for words in instructions if words[0] == "HEALTHCHECK"] != []


def test_the_images_check_asks_where_both_a_worker_and_the_api_answer() -> None:
    (check,) = [words for words in dockerfile() if words[0] == "HEALTHCHECK"]
    variables = dict(word.split("=", 1) for words in dockerfile() if words[0] == "ENV" for word in words[1:])

    assert str(Settings().port) == variables["PERDURE_HEALTH_PORT"]
    assert f":{Settings().port}/healthz" in " ".join(check)


def test_everything_that_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    copied = [
        word
        for words in dockerfile()
        if words[0] == "COPY" and not words[1].startswith("--from")
        for word in words[1:-1]
    ]

    assert [name for name in copied if not (ROOT / name).exists() or name.split("/")[0] not in kept] == []
