"""What holds histories and payloads is for its owner alone, under any umask; what others put in our way is not followed."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.config import load_settings
from perdure.connection import RunningDev, connect_transport, decode_dev, find_dev
from perdure.errors import ConfigError
from perdure.partitions.embedded import EmbeddedLog
from perdure.partitions.private import NotPrivate, make_private
from perdure.partitions.rocksdb import RocksStores
from tests.e2e.workers import until

NOBODY = 65_534
APP = "from perdure import App\n\napp = App()\n\n\n@app.orchestration\nasync def idle(ctx, name: str) -> str:\n    return name\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_dev_under_umask_000_keeps_everything_to_itself(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    state = tmp_path / "state" / ".perdure"
    perdure = [sys.executable, "-m", "perdure"]
    place = ["--dir", str(state)]
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [*perdure, "dev", "app:app", "--port", "0", *place]
        process = subprocess.Popen(command, cwd=tmp_path, umask=0, stdout=out, stderr=out)
    try:
        until((state / "dev.json").exists, log.read_text)
        for name in ("a", "../../b", "c/d"):
            begun = [*perdure, "start", "idle", "--input", '"x"', "--id", name, "--wait", *place]
            subprocess.run(begun, cwd=tmp_path, check=True, capture_output=True, timeout=60)
        files = [path for path in state.rglob("*") if path.is_file()]
        folders = [state, *(path for path in state.rglob("*") if path.is_dir())]
        modes = {path: mode(path) for path in (*files, *folders)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    assert [] == [path for path in folders if modes[path] != 0o700]
    # RocksDB names the modes of its own files, which stand in directories of ours.
    ours = [path for path in files if not path.parent.name.startswith("partition-") or path.name == "FORMAT"]
    assert len(ours) >= 6
    assert [] == [path for path in ours if modes[path] != 0o600]
    # No name of a user's made a path: everything is where it always is.
    assert {"app.py", "log", "state"} == {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert [] == [path for path in files if "b" == path.name or "d" == path.name]


def test_stores_and_what_is_above_them_are_made_for_their_owner_alone(tmp_path: Path, open_umask: None) -> None:
    stores = RocksStores(tmp_path / "state" / "worker-0")
    stores.open(0).close()
    stores.close()

    assert [0o700, 0o700, 0o700] == [
        mode(tmp_path / "state" / name) for name in (".", "worker-0", "worker-0/partition-0")
    ]
    assert 0o600 == mode(tmp_path / "state" / "worker-0" / "lock")


def test_a_directory_of_ours_that_others_may_enter_is_tightened(tmp_path: Path) -> None:
    place = tmp_path / "hub"
    EmbeddedLog.open(place).close()
    RocksStores(place / "stores").hold()
    for each in (place, place / "history", place / "stores"):
        each.chmod(0o755)
    EmbeddedLog.open(place).close()
    RocksStores(place / "stores").hold()

    assert [0o700, 0o700] == [mode(place), mode(place / "stores")]


def test_an_empty_directory_is_taken_for_ours(tmp_path: Path) -> None:
    place = tmp_path / "given"
    place.mkdir(mode=0o755)
    make_private(place, ("lock",))

    assert 0o700 == mode(place)


def test_a_directory_with_other_things_in_it_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "project"
    place.mkdir(mode=0o755)
    (place / "app.py").touch()

    with pytest.raises(NotPrivate, match=r"mode 0755\) and holds other things than ours \(app\.py\)"):
        EmbeddedLog.open(place)
    assert (0o755, ["app.py"]) == (mode(place), [path.name for path in place.iterdir()])


def test_a_directory_with_other_things_in_it_is_taken_where_nobody_else_may_enter(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    tmp_path.chmod(0o700)
    EmbeddedLog.open(tmp_path).close()

    assert (tmp_path / "hub.json").exists()


@as_root
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir(mode=0o700)
    os.chown(place, NOBODY, NOBODY)

    for use in (lambda: EmbeddedLog.open(place), lambda: RocksStores(place).hold()):
        with pytest.raises(NotPrivate, match=f"belongs to user {NOBODY}"):
            use()


@as_root
def test_another_user_cannot_read_it(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(0o755)
    place = tmp_path / "hub"
    EmbeddedLog.open(place).close()

    reading = ["cat", str(place / "hub.json")]
    assert 0 == subprocess.run(reading, capture_output=True).returncode
    denied = subprocess.run(reading, capture_output=True, text=True, user=NOBODY, group=NOBODY, extra_groups=[])
    assert "Permission denied" in denied.stderr


@as_root
def test_a_state_directory_that_somebody_put_above_us_is_not_ours(tmp_path: Path) -> None:
    """As /tmp/.perdure would be for whoever works below /tmp."""
    planted = tmp_path / ".perdure"
    planted.mkdir()
    (planted / "dev.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": os.getpid(), "directory": "x"}))
    os.chown(planted, NOBODY, NOBODY)
    work = tmp_path / "work"
    work.mkdir()

    loaded = load_settings({}, {}, work)
    assert work / ".perdure" == loaded.settings.dir
    with pytest.raises(ConfigError, match="there is no hub to ask"):
        connect_transport(loaded)


@as_root
def test_a_configuration_that_anybody_may_have_put_above_us_is_not_followed(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    planted = tmp_path / "perdure.toml"
    planted.write_text('app = "evil:app"\nurl = "http://198.51.100.1"\n')
    os.chown(planted, NOBODY, NOBODY)
    work = tmp_path / "work"
    work.mkdir()

    with pytest.raises(ConfigError, match=f"belongs to user {NOBODY} and stands where everybody may write"):
        load_settings({}, {}, work)
    os.chown(planted, 0, 0)
    assert "evil:app" == load_settings({}, {}, work).settings.app


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"url": "http://127.0.0.1:9", "pid": "1", "directory": ""}',
        '{"url": "http://127.0.0.1:9", "pid": -1, "directory": ""}',
        '{"url": "http://127.0.0.1:9", "pid": 0, "directory": ""}',
        '{"url": "http://127.0.0.1:9", "pid": true, "directory": ""}',
        '{"url": "http://127.0.0.1:9", "pid": 1e300, "directory": ""}',
        '{"url": "http://127.0.0.1:9", "pid": 99999999999999999999, "directory": ""}',
        '{"url": "file:///etc/passwd", "pid": 1, "directory": ""}',
        '{"url": "http://", "pid": 1, "directory": ""}',
        '{"url": ["http://127.0.0.1:9"], "pid": 1, "directory": ""}',
        '{"url": "http://[::1", "pid": 1, "directory": ""}',
    ],
)
def test_a_state_file_that_says_nothing_of_use_is_no_running_dev(tmp_path: Path, content: str) -> None:
    (tmp_path / "dev.json").write_text(content)

    assert find_dev(tmp_path) is None


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_state_file_is_read_as_it_was_written(tmp_path: Path, port: int) -> None:
    running = RunningDev(f"http://127.0.0.1:{port}", os.getpid(), str(tmp_path))
    running.save()

    assert running == find_dev(tmp_path) == decode_dev((tmp_path / "dev.json").read_text())
    assert 0o600 == mode(tmp_path / "dev.json")


def test_the_token_goes_to_no_other_machine_because_a_state_file_says_so(tmp_path: Path, port: int) -> None:
    for host, sent in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        RunningDev(f"http://{host}:{port}", os.getpid(), str(tmp_path)).save()
        loaded = load_settings({"dir": tmp_path}, {"PERDURE_TOKEN": "sesame"})
        headers = connect_transport(loaded)._http.headers  # type: ignore[attr-defined]

        assert sent == ("authorization" in headers)
