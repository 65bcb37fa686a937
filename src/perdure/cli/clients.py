"""The client of a command: the hub that the configuration names, or for reads the directory of a `dev` that does not run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from perdure.client import AsyncClient, Client
from perdure.client.transport import Transport
from perdure.config import Loaded
from perdure.connection import connect_transport, hub_directory, looks_at_directory

from .telling import TellingTransport

_SECONDS_MIN = 1.0


@contextmanager
def client_of(loaded: Loaded, *, reads: bool = False) -> Iterator[Client]:
    """A client for one command. `reads`: it only looks, so that a hub that nobody runs will do. Raises ConfigError, HubError."""
    client = Client(lambda: AsyncClient(_transport(loaded, reads=reads), timeout=loaded.settings.request_timeout))
    try:
        yield client
    finally:
        client.close()


def within(loaded: Loaded, seconds: float | None) -> Loaded:
    """The same where a request takes no longer than the whole command may; a second is for the least that can be asked."""
    if seconds is None:
        return loaded
    bounded = min(max(seconds, _SECONDS_MIN), loaded.settings.request_timeout)
    return replace(loaded, settings=replace(loaded.settings, request_timeout=bounded))


def _transport(loaded: Loaded, *, reads: bool) -> Transport:
    if reads and looks_at_directory(loaded):
        from perdure.client.directory_transport import DirectoryTransport

        return DirectoryTransport(hub_directory(loaded))
    return TellingTransport(connect_transport(loaded))
