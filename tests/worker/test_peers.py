"""A process that is gone is noticed at once, and one that lives is not taken for gone (R4)."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from perdure.peers import TcpPeers

PLENTY_SECONDS = 20.0
OTHER = """
import sys, time
from perdure.peers import TcpPeers
peers = TcpPeers(sys.argv[1], "127.0.0.1", lambda: None)
print(peers.address, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def watcher() -> Iterator[TcpPeers]:
    peers = TcpPeers("watcher", "127.0.0.1", lambda: None)
    yield peers
    peers.close()


class Process:
    """Another process with peers of its own."""

    def __init__(self, owner: str) -> None:
        command = [sys.executable, "-c", OTHER, owner]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PLENTY_SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connected(peers: TcpPeers, owner: str) -> bool:
    call = peers._calls.get(owner)
    return call is not None and call.greeted


def test_a_killed_process_is_gone(watcher: TcpPeers) -> None:
    other = Process("other")
    watcher.watch({"other": other.address})
    until(lambda: connected(watcher, "other"))
    assert [] == watcher.take_gone()
    other.kill()
    gone: list[str] = []
    until(lambda: bool(gone.extend(watcher.take_gone()) or gone))

    assert ["other"] == gone


def test_a_cut_connection_to_one_that_lives_is_made_again_and_nobody_is_gone(watcher: TcpPeers) -> None:
    other = TcpPeers("other", "127.0.0.1", lambda: None)
    watcher.watch({"other": other.address})
    until(lambda: connected(watcher, "other"))
    for _ in range(5):
        (visitor,) = other._visitors
        visitor.shutdown(socket.SHUT_RDWR)
        until(lambda visitor=visitor: visitor not in other._visitors)  # type: ignore[misc]
        until(lambda: connected(watcher, "other") and len(other._visitors) == 1)

    assert [] == watcher.take_gone()
    other.close()
    until(lambda: ["other"] == watcher.take_gone())


def test_another_process_at_the_same_address_is_not_the_owner(watcher: TcpPeers) -> None:
    other = Process("somebody else")
    watcher.watch({"other": other.address})
    until(lambda: "other" in watcher._calls and watcher._calls["other"].next_try > 0)
    other.kill()
    time.sleep(0.2)

    assert [] == watcher.take_gone()


@pytest.mark.parametrize(
    "address", ["", "nowhere", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ":80", "127.0.0.1:x"]
)
def test_an_address_that_is_none_is_left_alone(watcher: TcpPeers, address: str) -> None:
    watcher.watch({"other": address})
    other = TcpPeers("fine", "127.0.0.1", lambda: None)
    watcher.watch({"other": address, "fine": other.address})
    until(lambda: connected(watcher, "fine"))

    assert "other" not in watcher._calls
    other.close()


def test_who_never_answered_is_not_gone(watcher: TcpPeers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    watcher.watch({"other": f"127.0.0.1:{port}"})
    until(lambda: "other" in watcher._calls and watcher._calls["other"].next_try > 0)

    assert [] == watcher.take_gone()


def test_who_is_not_watched_any_more_may_go(watcher: TcpPeers) -> None:
    other = Process("other")
    watcher.watch({"other": other.address})
    until(lambda: connected(watcher, "other"))
    watcher.watch({})
    until(lambda: "other" not in watcher._calls)
    other.kill()
    watcher.watch({"next": "127.0.0.1:1"})
    until(lambda: "next" in watcher._calls)

    assert [] == watcher.take_gone()


def test_a_stranger_who_speaks_or_floods_is_let_go(watcher: TcpPeers) -> None:
    host, _, port = watcher.address.rpartition(":")
    strangers = [socket.create_connection((host, int(port))) for _ in range(20)]
    for stranger in strangers:
        assert b"watcher\n" == stranger.recv(100)
        stranger.sendall(b"x" * 1_000)
    for stranger in strangers:
        stranger.settimeout(PLENTY_SECONDS)
        with pytest.raises((ConnectionError, AssertionError)):
            assert stranger.recv(100)
        stranger.close()
