"""The model behind scheduled tasks: the local one quotes, the remote one is really spoken to over HTTP."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.workloads.models import ModelServer, model_server
from workloads.memory_index.embedding import HashedWords, RemoteVectors, configured_embedder
from workloads.remote import Endpoint, ModelRefused, ModelUnavailable
from workloads.scheduled_tasks.language_models import (
    NOTHING_FITS,
    QuotingModel,
    RemoteModel,
    configured_model,
)
from workloads.scheduled_tasks.task import ModelOptions


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


PLAIN = ModelOptions()


def ask(endpoint: Endpoint, options: ModelOptions = PLAIN) -> str:
    return asyncio.run(RemoteModel(endpoint).answer("hello", options, "i/e/1"))


def test_the_remote_model_gets_the_prompt_the_options_and_the_idempotency_key(server: ModelServer) -> None:
    assert "You said: hello" == ask(server.endpoint, ModelOptions("m", "Be brief.", 0.5, 9))
    path, headers, request = server.asked[0]
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
    server: ModelServer, status: int, error: type[Exception]
) -> None:
    server.status = status
    with pytest.raises(error, match=str(status)):
        ask(server.endpoint)
    assert 1 == len(server.asked)


def test_a_model_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        ask(Endpoint("http://127.0.0.1:9/v1", "secret"))


def test_remote_vectors_come_back_in_the_order_of_the_texts(server: ModelServer) -> None:
    rows = RemoteVectors(server.endpoint, "m").embed(["a", "bbb"])
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
    embedder = RemoteVectors(Endpoint("", ""), "m")
    kept = csr_matrix(np.array([[3.0, 4.0]], dtype=np.float32))
    assert [[pytest.approx(0.6), pytest.approx(0.8)]] == embedder.weigher(kept)(kept).toarray().tolist()
