"""The model behind scheduled tasks: the local one quotes, the remote one is really spoken to over HTTP."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from workloads.memory_index.embedding import HashedWords, RemoteVectors, configured_embedder
from workloads.scheduled_tasks.language_models import (
    NOTHING_FITS,
    ModelRefused,
    ModelUnavailable,
    QuotingModel,
    RemoteModel,
    configured_model,
)
from workloads.scheduled_tasks.task import ModelOptions


class Endpoint(ThreadingHTTPServer):
    """A server that speaks the OpenAI API well enough for its official client."""

    status = 200
    asked: list[tuple[str, dict[str, str], dict[str, object]]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answering(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), request))
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
        body = json.dumps(answer if self.server.status == 200 else {"error": {"message": "no"}}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), Answering) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


PLAIN = ModelOptions()


def ask(url: str, options: ModelOptions = PLAIN) -> str:
    return asyncio.run(RemoteModel(url, "secret").answer("hello", options, "i/e/1"))


def test_the_remote_model_gets_the_prompt_the_options_and_the_idempotency_key(endpoint: Endpoint) -> None:
    assert "You said: hello" == ask(endpoint.url, ModelOptions("m", "Be brief.", 0.5, 9))
    path, headers, request = endpoint.asked[0]
    assert ("/v1/chat/completions", "Bearer secret", "i/e/1") == (
        path,
        headers["authorization"],
        headers["idempotency-key"],
    )
    assert {"model": "m", "temperature": 0.5, "max_tokens": 9} == {k: v for k, v in request.items() if k != "messages"}
    assert ["system", "user"] == [m["role"] for m in request["messages"]]  # type: ignore[union-attr, attr-defined]


@pytest.mark.parametrize(
    ("status", "error"), [(400, ModelRefused), (401, ModelRefused), (429, ModelUnavailable), (503, ModelUnavailable)]
)
def test_the_remote_models_refusal_is_told_from_its_absence_and_not_retried_here(
    endpoint: Endpoint, status: int, error: type[Exception]
) -> None:
    endpoint.status = status
    with pytest.raises(error, match=str(status)):
        ask(endpoint.url)
    assert 1 == len(endpoint.asked)


def test_a_model_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        ask("http://127.0.0.1:9/v1")


def test_remote_vectors_come_back_in_the_order_of_the_texts(endpoint: Endpoint) -> None:
    rows = RemoteVectors(endpoint.url, "secret", "m").embed(["a", "bbb"])
    assert [[1.0, 1.0], [3.0, 1.0]] == rows.toarray().tolist()


def test_url_and_key_choose_the_remote_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERDURE_MODEL_URL", raising=False)
    assert (QuotingModel, HashedWords) == (type(configured_model()), type(configured_embedder()))
    monkeypatch.setenv("PERDURE_MODEL_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("PERDURE_MODEL_KEY", "secret")
    assert (RemoteModel, RemoteVectors) == (type(configured_model()), type(configured_embedder()))


def test_the_local_model_quotes_its_corpus_word_for_word(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# Tides\n\nThe tide is high at noon on Monday. Boats leave an hour later.\n", "utf-8"
    )
    (tmp_path / "b.txt").write_text("Bread is baked at four in the morning, every day but Sunday.\n", "utf-8")
    answer = asyncio.run(QuotingModel(str(tmp_path)).answer("When is high tide?", ModelOptions(), "k"))
    assert "The tide is high at noon on Monday." == answer


def test_the_local_model_says_when_nothing_fits() -> None:
    assert NOTHING_FITS == asyncio.run(QuotingModel().answer("zzyzx?", ModelOptions(), "k"))


def test_the_local_model_knows_the_language_reference_without_a_corpus() -> None:
    answer = asyncio.run(QuotingModel().answer("When are default parameter values evaluated?", ModelOptions(), "k"))
    assert "Default parameter values are evaluated from left to right" in answer


def test_an_empty_corpus_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="holds no"):
        asyncio.run(QuotingModel(str(tmp_path)).answer("x", ModelOptions(), "k"))


def test_likeness_of_remote_vectors_ignores_their_length() -> None:
    embedder = RemoteVectors("", "", "m")
    kept = csr_matrix(np.array([[3.0, 4.0]], dtype=np.float32))
    assert [[pytest.approx(0.6), pytest.approx(0.8)]] == embedder.weigher(kept)(kept).toarray().tolist()
