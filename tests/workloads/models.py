"""An OpenAI-compatible server on this machine, spoken to over HTTP by the official client."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from workloads.remote import Endpoint


class ModelServer(ThreadingHTTPServer):
    """A server that speaks the OpenAI API well enough for its official client."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.status = 200
        self.troubles: list[int] = []
        """Statuses of the next answers; `status` is that of those after them."""
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, "secret")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answering(BaseHTTPRequestHandler):
    server: ModelServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), request))
        status = self.server.troubles.pop(0) if self.server.troubles else self.server.status
        if self.path.endswith("/embeddings"):
            rows = [
                {"index": i, "object": "embedding", "embedding": [float(len(t)), 1.0]}
                for i, t in enumerate(request["input"])
            ]
            answer = {
                "object": "list",
                "model": "m",
                "data": rows[::-1],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        else:
            said = {"role": "assistant", "content": f" You said: {request['messages'][-1]['content']} "}
            answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                      "choices": [{"index": 0, "finish_reason": "stop", "message": said}]}  # fmt: skip
        body = json.dumps(answer if status == 200 else {"error": {"message": "no"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
