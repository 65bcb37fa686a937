"""/healthz, /readyz and /metrics of a worker process, on a small HTTP server in a thread of its own."""

import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import orjson
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from perdure.partitions.owner import Phase

from .loopback import url_of
from .metrics import WorkerCollector
from .worker import Worker

Answer = tuple[HTTPStatus, str, bytes]
_log = structlog.get_logger("perdure.health")
_JSON = "application/json"
# A turn is interrupted after seconds; an engine that made no round for this long will not make one any more.
ROUND_SECONDS_MAX = 30.0
# Probes and scrapers are few and quick; whoever else connects must not cost the worker its threads.
CONNECTIONS_MAX = 32
CONNECTION_SECONDS_MAX = 10.0
# A body that nobody wants is read, so that the answer reaches who sent it; one whose length has more digits is not.
_LENGTH_DIGITS_MAX = 5
_NOT_THE_API = "this is the health port of a perdure worker; the API is served by `perdure serve`"


def worker_registry(worker: Worker | None) -> CollectorRegistry:
    """What a worker process has to tell Prometheus; of itself alone, while there is no worker in it."""
    registry = CollectorRegistry()
    if worker is not None:
        registry.register(WorkerCollector(worker))
    ProcessCollector(registry=registry)
    return registry


def health(worker: Worker | None) -> Answer:
    """Alive: the engine makes its rounds, or the process waits for its brokers, which a restart would not bring back."""
    if worker is None:
        return _json(HTTPStatus.OK, {"status": "waiting for the brokers"})
    age = worker.clock.monotonic() - worker.round_at
    if age > ROUND_SECONDS_MAX:
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "stuck", "seconds_since_last_round": round(age, 1)})
    return _json(HTTPStatus.OK, {"status": "ok"})


def readiness(worker: Worker | None) -> Answer:
    """Ready: the group has given us our share, and all of it is recovered."""
    if worker is None:
        # Anybody may ask, so why they do not answer is for the log.
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "waiting_for": "the brokers"})
    phases = {str(partition): owner.phase.name.lower() for partition, owner in sorted(worker.owners.copy().items())}
    crashed = sorted(
        partition for partition, crashes in list(worker.crashes.items()) if crashes.retry_at != float("inf")
    )
    ready = worker.joined and not crashed and all(phase == Phase.OWNING.name.lower() for phase in phases.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    standing_by = sorted(worker.standing_by)
    content = {"joined": worker.joined, "partitions": phases, "crashed": crashed, "standing_by": standing_by}
    return _json(status, {"ready": ready, **content})


class HealthServer:
    """Serves until `close`. Port 0 takes a free one; `port` says which. Without a worker it tells of a process that waits for its
    brokers, until `tell_of`."""

    def __init__(self, worker: Worker | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.tell_of(worker)

        class Requests(_Requests):
            answers: ClassVar[dict[str, Callable[[], Answer]]] = {
                "/healthz": lambda: health(self._worker),
                "/readyz": lambda: readiness(self._worker),
                "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)),
            }

        self._server = _Server((host, port), Requests)
        self.port: int = self._server.server_address[1]
        self.url = url_of(self._server.socket)
        threading.Thread(target=self._server.serve_forever, name="perdure-health", daemon=True).start()

    def tell_of(self, worker: Worker | None) -> None:
        self._worker, self._registry = worker, worker_registry(worker)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread for each connection, of which there are few at a time, and none for long."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        # Of the family of its address: ThreadingHTTPServer takes IPv4 for granted.
        self.address_family = socket.AF_INET6 if ":" in arguments[0][0] else socket.AF_INET
        self._since: dict[socket.socket, float] = {}
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._since) >= CONNECTIONS_MAX:
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second: what has been open for too long is shut, whatever trickles in."""
        limit = time.monotonic() - CONNECTION_SECONDS_MAX
        for request, since in list(self._since.items()):
            if since < limit:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is nothing to write about; a fault of ours is."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _log.error("health.failed", exc_info=error)


class _Requests(BaseHTTPRequestHandler):
    """GET of the three paths."""

    answers: ClassVar[dict[str, Callable[[], Answer]]] = {}
    server_version = "perdure"
    sys_version = ""

    def do_GET(self) -> None:
        answer = self.answers.get(self.path.partition("?")[0])
        self._answer(answer() if answer is not None else self._refusal(HTTPStatus.NOT_FOUND))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: a method that is not there, or what is no request at all."""
        status = HTTPStatus(code)
        if status == HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            length = self.headers.get("Content-Length", "")
            if length.isascii() and length.isdigit() and len(length) <= _LENGTH_DIGITS_MAX:
                self.rfile.read(int(length))
        self.close_connection = True
        self._answer(self._refusal(status))

    def _refusal(self, status: HTTPStatus) -> Answer:
        return _json(status, {"error": status.phrase, "detail": _NOT_THE_API, "paths": [*self.answers]})

    def _answer(self, answer: Answer) -> None:
        status, content_type, body = answer
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Probes come every few seconds: no line for each."""


def _json(status: HTTPStatus, content: dict[str, object]) -> Answer:
    return status, _JSON, orjson.dumps(content)
