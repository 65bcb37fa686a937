"""Peers: a connection to every owner that this process stands by for, to hear at once when one is gone (R4, R6).

A process that is killed closes its connections, the kernel sees to that; the group notices a session time-out later. A connection
may close for other reasons, so before an owner counts as gone it is called once more. Whoever answers says who it is: at the
same address there may be another process by now.

Rules of this file: one thread owns all sockets; nothing that is read here, addresses in the log included, is trusted beyond the name that
is expected; no name is looked up, since that may take long; nothing that others do ends the thread, which would hang up on everybody.
"""

import ipaddress
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import cast

from .errors import ConfigError

# A process that lives may be busy; one that is dead is refused at once.
CALL_SECONDS_MAX = 2.0
GREETING_BYTES_MAX = 512
RETRY_SECONDS = 5.0
# An owner that hangs up as soon as it has said who it is must not keep us busy.
CALL_PAUSE_SECONDS = 0.25
# Of the 1,024 files that a process mostly may have open, the store and the brokers need theirs.
CONNECTIONS_MAX = 256


@dataclass(slots=True)
class _Call:
    """One owner that is watched. `again`: it was connected, and is called once more."""

    owner: str
    address: tuple[str, int]
    line: socket.socket | None = None
    heard: bytes = b""
    greeted: bool = False
    greeted_at: float = float("-inf")
    again: bool = False
    deadline: float = field(default=0.0)
    next_try: float = field(default=0.0)


class TcpPeers:
    """`partitions.ports.Peers`. `gone` is called, on the thread, when `take_gone` has something to tell. Raises ConfigError where nobody
    could reach us at `host`."""

    def __init__(self, owner: str, host: str, gone: Callable[[], None]) -> None:
        self._greeting = f"{owner}\n".encode()
        self._gone_called = gone
        self._server = _listen(host)
        self.address = "{}:{}".format(*map(_bracketed, map(str, self._server.getsockname()[:2])))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.settimeout(0)
        self._wake_in.settimeout(0)
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self._visitors: set[socket.socket] = set()
        self._wanted: Mapping[str, str] = {}
        self._calls: dict[str, _Call] = {}
        self._dead: set[str] = set()
        self._gone: deque[str] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="perdure-peers", daemon=True)
        self._thread.start()

    def watch(self, wanted: Mapping[str, str]) -> None:
        if wanted != self._wanted:
            self._wanted = dict(wanted)
            self._wake()

    @property
    def reached(self) -> Collection[str]:
        return [call.owner for call in self._calls.copy().values() if call.greeted]

    def take_gone(self) -> Sequence[str]:
        gone: list[str] = []
        while self._gone:
            gone.append(self._gone.popleft())
        return gone

    def close(self) -> None:
        """Hang up; whoever stands by for us learns that we are gone. It may be called again."""
        self._closing = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with suppress(OSError):  # it is awake, or closed
            self._wake_in.send(b"!")

    # On the thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, _ in self._selector.select(self._wait_seconds()):
                    self._serve(key)
                self._take_wanted()
                self._keep_time()
        finally:
            for each in (self._server, self._wake_out, self._wake_in, *self._visitors):
                each.close()
            for call in self._calls.values():
                if call.line is not None:
                    call.line.close()
            self._selector.close()

    def _wait_seconds(self) -> float:
        now = monotonic()
        times = [
            call.deadline if call.line is not None else call.next_try
            for call in self._calls.values()
            if not call.greeted
        ]
        return min(1.0, max(0.0, min(times, default=now + 1.0) - now))

    def _serve(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._server:
            self._welcome()
        elif key.fileobj is self._wake_out:
            self._wake_out.recv(4096)
        elif isinstance(key.data, _Call):
            self._hear(key.data)
        else:
            self._part(cast("socket.socket", key.fileobj))

    def _welcome(self) -> None:
        """Say who we are, and hold the connection for as long as we live."""
        try:
            visitor, _ = self._server.accept()
        except BlockingIOError:
            return
        except OSError:
            sleep(0.05)  # no file is left for it, so it stays where it is
            return
        visitor.settimeout(0)
        try:
            # A machine that lost its power hangs up on nobody.
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if len(self._visitors) >= CONNECTIONS_MAX or visitor.send(self._greeting) != len(self._greeting):
                raise OSError
        except OSError:
            visitor.close()
            return
        self._visitors.add(visitor)
        self._selector.register(visitor, selectors.EVENT_READ, None)

    def _part(self, visitor: socket.socket) -> None:
        """Visitors have nothing to say; whoever speaks or leaves is let go."""
        self._selector.unregister(visitor)
        self._visitors.discard(visitor)
        visitor.close()

    def _take_wanted(self) -> None:
        wanted = self._wanted
        self._dead &= wanted.keys()
        for call in [call for owner, call in self._calls.items() if owner not in wanted]:
            self._let_go(call)
            del self._calls[call.owner]
        for owner, address in wanted.items():
            place = _parse(address)
            if owner not in self._calls and owner not in self._dead and place is not None:
                self._calls[owner] = _Call(owner, place)
                self._dial(self._calls[owner])

    def _dial(self, call: _Call) -> None:
        call.heard, call.greeted, call.deadline = b"", False, monotonic() + CALL_SECONDS_MAX
        try:
            call.line = socket.socket(_family_of(call.address[0]), socket.SOCK_STREAM)
        except OSError:  # no file is left
            call.next_try = monotonic() + RETRY_SECONDS
            return
        call.line.settimeout(0)
        call.line.connect_ex(call.address)  # what becomes of it is read from it
        self._selector.register(call.line, selectors.EVENT_READ, call)

    def _hear(self, call: _Call) -> None:
        """The owner's name, or the end."""
        assert call.line is not None
        try:
            heard = call.line.recv(GREETING_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        call.heard += heard
        if not heard or len(call.heard) > GREETING_BYTES_MAX:
            self._hang_up(call)
        elif call.heard.endswith(b"\n") and not call.greeted:
            if call.heard[:-1].decode(errors="replace") == call.owner:
                call.greeted, call.greeted_at, call.again = True, monotonic(), False
            else:
                self._hang_up(call)

    def _hang_up(self, call: _Call) -> None:
        """Call once more who was there; who does not answer then is gone. Who never answered is for the group to judge."""
        was_there, call.greeted = call.greeted, False
        self._let_go(call)
        if was_there:
            call.again = True
            call.next_try = call.greeted_at + CALL_PAUSE_SECONDS
            if monotonic() >= call.next_try:
                self._dial(call)
        elif call.again:
            del self._calls[call.owner]
            self._dead.add(call.owner)
            self._gone.append(call.owner)
            self._gone_called()
        else:
            call.next_try = monotonic() + RETRY_SECONDS

    def _let_go(self, call: _Call) -> None:
        if call.line is not None:
            self._selector.unregister(call.line)
            call.line.close()
            call.line = None

    def _keep_time(self) -> None:
        now = monotonic()
        for call in list(self._calls.values()):
            if call.line is not None and not call.greeted and now >= call.deadline:
                self._hang_up(call)
            elif call.line is None and now >= call.next_try:
                self._dial(call)


def _parse(address: str) -> tuple[str, int] | None:
    """Numbers only, as our own addresses are."""
    host, _, port = address.rpartition(":")
    try:
        place = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if "%" in host or not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536):
        return None
    return str(place), int(port)


def _listen(host: str) -> socket.socket:
    try:
        server = socket.create_server((host, 0), family=_family_of(host), backlog=64)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"peer_host {host!r} is no address of this machine: {reason}") from error
    server.settimeout(0)
    if ipaddress.ip_address(server.getsockname()[0]).is_unspecified:
        server.close()
        raise ConfigError(f"peer_host {host!r} is every address of this machine: name the one at which others reach it")
    return server


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
