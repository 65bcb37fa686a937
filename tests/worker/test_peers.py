"""A process that is gone is noticed at once, and one that lives is not taken for gone (R4)."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from perdure.errors import ConfigError
from perdure.peers import CALL_PAUSE_SECONDS, CONNECTIONS_MAX, TcpPeers

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
    until(lambda: connected(watcher, "other") and len(other._visitors) == 1)
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
    "address",
    [
        "",
        "nowhere",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        ":80",
        "127.0.0.1:x",
        "127.0.0.1:٣",
        f"127.0.0.1:{'9' * 5_000}",
        "nowhere.invalid:80",  # to look it up takes as long as somebody else likes
        "a..b:80",
        f"{'ü' * 70}:80",
        "\x00:80",
        "[::1%nowhere]:80",
        "1:1",
    ],
)
def test_an_address_that_is_none_is_left_alone(watcher: TcpPeers, address: str) -> None:
    watcher.watch({"other": address})
    other = TcpPeers("fine", "127.0.0.1", lambda: None)
    watcher.watch({"other": address, "fine": other.address})
    until(lambda: connected(watcher, "fine"))

    assert "other" not in watcher._calls
    other.close()


@pytest.mark.parametrize("address", ["255.255.255.255:9", "0.0.0.0:1", "[::]:1", "[ff02::1]:1", "[2001:db8::1]:9"])
def test_an_address_that_cannot_be_called_costs_the_others_nothing(watcher: TcpPeers, address: str) -> None:
    other = TcpPeers("fine", "127.0.0.1", lambda: None)
    watcher.watch({"other": address, "fine": other.address})
    until(lambda: connected(watcher, "fine"))
    other.close()

    until(lambda: ["fine"] == watcher.take_gone())


def test_an_owner_that_greets_and_hangs_up_again_and_again_keeps_nobody_busy(watcher: TcpPeers) -> None:
    calls: list[float] = []

    def greet() -> None:
        with suppress(OSError):
            while True:
                line, _ = server.accept()
                calls.append(time.monotonic())
                line.sendall(b"other\n")
                line.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, daemon=True).start()
        watcher.watch({"other": f"127.0.0.1:{server.getsockname()[1]}"})
        until(lambda: len(calls) >= 4)
        server.shutdown(socket.SHUT_RDWR)

    assert calls[3] - calls[0] >= 2 * CALL_PAUSE_SECONDS
    until(lambda: ["other"] == watcher.take_gone())


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "0.0.0.0", "::", "\x00", "ü" * 70])
def test_a_host_at_which_nobody_reaches_us_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="peer_host"):
        TcpPeers("me", host, lambda: None)


def test_a_name_of_this_machine_is_told_as_a_number() -> None:
    peers = TcpPeers("me", "localhost", lambda: None)
    peers.close()

    assert re.fullmatch(r"127\.0\.0\.1:\d+", peers.address)


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


def test_beyond_so_many_connections_one_is_hung_up_on_and_has_a_place_once_another_leaves() -> None:
    busy = TcpPeers("busy", "127.0.0.1", lambda: None)
    host, port = busy.address.rsplit(":", 1)

    def call() -> tuple[socket.socket, bytes]:
        line = socket.create_connection((host, int(port)), PLENTY_SECONDS)
        return line, line.recv(100)

    visitors = [call() for _ in range(CONNECTIONS_MAX)]
    late, greeting = call()
    late.close()
    assert ({b"busy\n"}, b"") == ({each for _, each in visitors}, greeting)
    visitors[0][0].close()
    until(lambda: len(busy._visitors) == CONNECTIONS_MAX - 1)
    visitors[0] = call()
    assert b"busy\n" == visitors[0][1]
    for line, _ in visitors:
        line.close()
    busy.close()
