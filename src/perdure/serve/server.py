"""Serving the API: where it may listen, and a server that can be run or embedded."""

import asyncio
import socket
import threading
from collections.abc import Callable
from errno import EADDRINUSE

import structlog
import uvicorn
from fastapi import FastAPI

from perdure.errors import ConfigError
from perdure.loopback import is_loopback, url_of

from .connection import CONNECTIONS_MAX, IDLE_SECONDS_MAX, PatientConnection

_log = structlog.get_logger("perdure.api")
STOP_SECONDS = 5
# What a connection gets to take the answer that the server stops, before it is cut off.
_ANSWER_SECONDS = 2
STOP_SECONDS_MAX = STOP_SECONDS + _ANSWER_SECONDS


def check_address(host: str, token: str) -> None:
    """Raise ConfigError where the API would be open to other machines with no token."""
    if not token and not is_loopback(host):
        raise ConfigError(
            f"host {host} can be reached from other machines, and that needs a token: set PERDURE_TOKEN, or bind to 127.0.0.1"
        )


def bind(host: str, port: int, *, or_any: bool = False) -> socket.socket:
    """A listening socket. Port 0 takes a free one; `or_any` does where the port is taken. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named asyncio turns Nagle's algorithm off; without it every answer waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        if or_any and error.errno == EADDRINUSE:
            listener.bind((host, 0))
        else:
            listener.close()
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
            ) from error
    listener.listen(1024)
    return listener


class ApiServer:
    """One API on one socket. `run` blocks until `stop`; `start` does it in a thread."""

    def __init__(
        self, api: FastAPI, listener: socket.socket, connection: type[PatientConnection] = PatientConnection
    ) -> None:
        config = uvicorn.Config(
            api,
            http=connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=IDLE_SECONDS_MAX,
            timeout_graceful_shutdown=STOP_SECONDS_MAX,
        )
        self._server = _Server(config)
        self._listener = listener
        self._thread: threading.Thread | None = None
        self.url = url_of(listener)

    def run(self) -> None:
        """Serve until `stop`, without touching the process's signals."""
        self._server.run(sockets=[self._listener])

    def start(self, ended: Callable[[], None] | None = None) -> None:
        """Serve in a thread; `ended` is called there at the end, whatever it is."""

        def serve() -> None:
            try:
                self.run()
            finally:
                if ended is not None:
                    ended()

        self._thread = threading.Thread(target=serve, name="perdure-api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop soon. A signal handler may call it."""
        self._server.should_exit = True

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._listener.close()


class _Server(uvicorn.Server):
    """Leaves the process's signals to the process, and ends in order what lasts longer than a stop."""

    def install_signal_handlers(self) -> None:
        """None."""

    def capture_signals(self):  # type: ignore[no-untyped-def]
        from contextlib import nullcontext

        return nullcontext()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Who waits for the end of an instance may wait on elsewhere, and uvicorn would call that an error."""
        ending = asyncio.get_running_loop().call_later(STOP_SECONDS, self._end_requests)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    def _end_requests(self) -> None:
        tasks = tuple(self.server_state.tasks)
        if tasks:
            _log.info("api.requests_ended", requests=len(tasks), hint="each is told to ask again")
        for task in tasks:
            task.cancel()
