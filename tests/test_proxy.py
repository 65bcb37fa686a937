"""The bad network of the chaos tests does what it says, and nothing else."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy, Way


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = Proxy(server.server_address[1])
        yield proxy
        proxy.close()
        server.shutdown()


@pytest.fixture
def line(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as line:
        assert b"hello" == ask(line, b"hello")
        yield line


def ask(line: socket.socket, data: bytes) -> bytes:
    line.sendall(data)
    return receive(line, len(data))


def receive(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := line.recv(size - len(data))):
        data += more
    return data


def is_silent(line: socket.socket) -> bool:
    line.settimeout(0.3)
    try:
        return line.recv(1) == b"never"
    except TimeoutError:
        return True
    finally:
        line.settimeout(20)


def test_what_goes_through_keeps_its_bytes_and_their_order(line: socket.socket) -> None:
    data = bytes(range(256)) * 1_000

    threading.Thread(target=line.sendall, args=(data,)).start()
    assert data == receive(line, len(data))


def test_a_delay_is_one_of_each_direction(proxy: Proxy, line: socket.socket) -> None:
    proxy.delay(0.1)
    began = time.monotonic()
    assert b"late" == ask(line, b"late")

    assert time.monotonic() - began >= 0.2
    assert proxy.counts["delayed"] >= 2


@pytest.mark.parametrize("ways", [(), (Way.UP,), (Way.DOWN,)])
def test_what_is_held_comes_when_it_is_released(proxy: Proxy, line: socket.socket, ways: tuple[Way, ...]) -> None:
    proxy.hold(*ways)
    line.sendall(b"held")
    assert is_silent(line)
    proxy.release()

    assert b"held" == receive(line, 4)
    assert proxy.counts["held"]


def test_a_cut_resets_every_connection_and_new_ones_go_through(proxy: Proxy, line: socket.socket) -> None:
    proxy.cut()
    with pytest.raises(ConnectionError):
        ask(line, b"x") or (_ for _ in ()).throw(ConnectionResetError)

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as another:
        assert b"again" == ask(another, b"again")


def test_who_is_refused_is_accepted_after_the_release(proxy: Proxy) -> None:
    proxy.cut(refuse=True)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as refused, pytest.raises(ConnectionError):
        ask(refused, b"x") or (_ for _ in ()).throw(ConnectionResetError)
    proxy.release()

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as another:
        assert b"again" == ask(another, b"again")
    assert 1 == proxy.counts["refused"]


def test_a_half_closed_connection_still_carries_the_other_direction(proxy: Proxy, line: socket.socket) -> None:
    proxy.hold(Way.DOWN)
    line.sendall(b"before")
    while not proxy.counts["held"]:
        time.sleep(0.01)
    proxy.half_close(Way.UP)
    proxy.release()

    assert b"before" == receive(line, 6)
    assert 1 == proxy.counts["half-closed"]
