"""The client of a command: the hub that the configuration names, or for reads the directory of a `dev` that does not run."""

from collections.abc import Iterator
from contextlib import contextmanager

from perdure.client import AsyncClient, Client
from perdure.client.transport import Transport
from perdure.config import Loaded
from perdure.connection import connect_transport, find_dev


@contextmanager
def client_of(loaded: Loaded, *, reads: bool = False) -> Iterator[Client]:
    """A client for one command. `reads`: it only looks, so that a hub that nobody runs will do. Raises ConfigError, HubError."""
    client = Client(lambda: AsyncClient(_transport(loaded, reads=reads), timeout=loaded.settings.request_timeout))
    try:
        yield client
    finally:
        client.close()


def _transport(loaded: Loaded, *, reads: bool) -> Transport:
    if reads and looks_at_directory(loaded):
        from perdure.client.directory_transport import DirectoryTransport

        return DirectoryTransport(loaded.settings.dir)
    return connect_transport(loaded)


def looks_at_directory(loaded: Loaded) -> bool:
    """True where a hub stands in the state directory, nobody runs it, and nothing else was asked for."""
    settings = loaded.settings
    if loaded.named_now("url") or loaded.named_now("brokers") or not (settings.dir / "hub.json").exists():
        return False
    return find_dev(settings.dir) is None and (loaded.named_now("dir") or not (settings.url or settings.brokers))
