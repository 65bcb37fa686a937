"""Turn passages into vectors: hashed TF-IDF on this machine, or an OpenAI-compatible model when one is configured.

The local embedder counts words and pairs of words under hashed names; it needs no training and no network, and the same
text gives the same vector on every machine. What a word is worth (IDF) is learnt from the index when it is opened. It
finds words, not meanings: "car" and "automobile" are strangers to it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from openai import OpenAI
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

from workloads.remote import Endpoint, configured_endpoint, told_apart

_HASHED_WORDS = 2**18
_TEXTS_A_REQUEST = 256  # endpoints take a limited number of texts and of words at once
_TIMEOUT_SECONDS = 60


class Embedder(Protocol):
    """Vectors from texts. Vectors of embedders with different names cannot be compared."""

    @property
    def name(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> csr_matrix:
        """Return one row for each text, to be kept."""
        ...

    def weigher(self, kept: csr_matrix) -> Callable[[csr_matrix], csr_matrix]:
        """Return what makes rows, kept or asked, such that their dot products are cosine likenesses."""
        ...


@dataclass(frozen=True)
class HashedWords:
    """Hashed word counts; TF-IDF and length one at search time, since IDF changes with every document."""

    name: str = "hashed-tf-idf-1"
    _vectorizer: HashingVectorizer = field(
        default_factory=lambda: HashingVectorizer(
            n_features=_HASHED_WORDS,
            ngram_range=(1, 2),
            stop_words="english",
            alternate_sign=False,
            norm=None,
            dtype=np.float32,
        ),
        repr=False,
    )

    def embed(self, texts: Sequence[str]) -> csr_matrix:
        return csr_matrix(self._vectorizer.transform(texts))

    def weigher(self, kept: csr_matrix) -> Callable[[csr_matrix], csr_matrix]:
        weigh: Callable[[csr_matrix], csr_matrix] = TfidfTransformer(sublinear_tf=True).fit(kept).transform
        return weigh


@dataclass(frozen=True)
class RemoteVectors:
    """An OpenAI-compatible embeddings endpoint."""

    endpoint: Endpoint
    model: str

    @property
    def name(self) -> str:
        return f"openai:{self.model}"

    def embed(self, texts: Sequence[str]) -> csr_matrix:
        if not texts:
            return csr_matrix((0, 0), dtype=np.float32)
        url, secret = self.endpoint.url, self.endpoint.key
        vectors: list[Sequence[float]] = []
        with (
            told_apart(self.endpoint),
            OpenAI(base_url=url, api_key=secret, max_retries=0, timeout=_TIMEOUT_SECONDS) as client,
        ):
            for first in range(0, len(texts), _TEXTS_A_REQUEST):
                some = list(texts[first : first + _TEXTS_A_REQUEST])
                answer = client.embeddings.create(model=self.model, input=some, encoding_format="float")
                vectors += [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]
        return csr_matrix(np.asarray(vectors, dtype=np.float32))

    def weigher(self, kept: csr_matrix) -> Callable[[csr_matrix], csr_matrix]:
        weigh: Callable[[csr_matrix], csr_matrix] = normalize
        return weigh


def configured_embedder() -> Embedder:
    """Return the remote embedder when PERDURE_MODEL_URL and PERDURE_MODEL_KEY are set, else the local one."""
    if endpoint := configured_endpoint():
        return RemoteVectors(endpoint, os.environ.get("PERDURE_EMBEDDING_MODEL", "text-embedding-3-small"))
    return HashedWords()


def encode_vector(row: csr_matrix) -> bytes:
    """Write one row: its width, then its column numbers and values."""
    head: bytes = np.array([row.shape[1]], dtype="<u4").tobytes()
    encoded: bytes = head + row.indices.astype("<u4").tobytes() + row.data.astype("<f4").tobytes()
    return encoded


def decode_vectors(rows: Sequence[bytes]) -> csr_matrix:
    """Read rows written by `encode_vector` into one matrix."""
    if not rows:
        return csr_matrix((0, 0), dtype=np.float32)
    counts = [(len(row) - 4) // 8 for row in rows]
    pairs = list(zip(rows, counts, strict=True))
    columns = np.concatenate([np.frombuffer(row, "<u4", count, offset=4) for row, count in pairs]).astype(np.int32)
    values = np.concatenate([np.frombuffer(row, "<f4", count, offset=4 + 4 * count) for row, count in pairs])
    width = int(np.frombuffer(rows[0], "<u4", 1)[0])
    return csr_matrix((values, columns, np.cumsum([0, *counts])), shape=(len(rows), width))
