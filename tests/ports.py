"""Ports of 127.0.0.1 for tests: some to listen on, and one where nobody does."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

# Below those that a system gives out by itself (Linux from 32768, macOS from 49152). A client that tries such a port again and again
# would in the end be given it as its own, connect to itself, and keep the port from the server that comes back there.
_FIRST, _END = 15_000, 32_000
# Under a test's seed, two processes would choose the same.
_random = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Ports in a row that were free a moment ago, and that only another call of this can take."""
    while True:
        first = _random.randrange(_FIRST, _END - count)
        ports = [*range(first, first + count)]
        with ExitStack() as held, suppress(OSError):
            for port in ports:
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports


@contextmanager
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody else can meanwhile: it is held by a socket that takes no connection."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
