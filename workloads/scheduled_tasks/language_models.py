"""Who answers a prompt: an OpenAI-compatible model when one is configured, else an honest local one.

The local model is not a language model. It looks for the paragraphs of a corpus that share words with the prompt and quotes
the sentences that fit best; when none fits it says so. Its corpus is the folder PERDURE_CORPUS (*.txt, *.md) or, without
one, the language reference that every Python carries with it.
"""

import os
import pydoc_data.topics
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from workloads.extractive import pick_sentences
from workloads.remote import Endpoint, ModelRefused, configured_endpoint, told_apart

from .task import ModelOptions

_DEFAULT_MODEL = "gpt-4o-mini"
_TIMEOUT_SECONDS = 120
_BLANK_LINES = re.compile(r"\n\s*\n")
_HEADING = 40  # characters; shorter paragraphs say nothing by themselves
_PARAGRAPHS = 5
_SENTENCES = 3
NOTHING_FITS = "Nothing in the corpus fits this prompt."


class LanguageModel(Protocol):
    """Answers a prompt. `key` is the same whenever the same question is asked again."""

    async def answer(self, prompt: str, options: ModelOptions, key: str) -> str: ...


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """An OpenAI-compatible chat endpoint."""

    endpoint: Endpoint

    async def answer(self, prompt: str, options: ModelOptions, key: str) -> str:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        if options.instructions:
            messages.insert(0, {"role": "system", "content": options.instructions})
        url, secret = self.endpoint.url, self.endpoint.key
        with told_apart(self.endpoint):
            async with AsyncOpenAI(base_url=url, api_key=secret, max_retries=0, timeout=_TIMEOUT_SECONDS) as client:
                completion = await client.chat.completions.create(
                    model=options.name or os.environ.get("PERDURE_MODEL_NAME", _DEFAULT_MODEL),
                    messages=messages,
                    temperature=options.temperature,
                    max_tokens=options.max_output_tokens,
                    extra_headers={"Idempotency-Key": key},
                )
        return (completion.choices[0].message.content or "").strip()


@dataclass(frozen=True, slots=True)
class QuotingModel:
    """Quotes a corpus; see this module's description."""

    corpus: str = ""

    async def answer(self, prompt: str, options: ModelOptions, key: str) -> str:
        found = pick_sentences(prompt, _read_corpus(self.corpus).nearest(prompt), _SENTENCES)
        return " ".join(found) or NOTHING_FITS


def configured_model() -> LanguageModel:
    """Return the remote model when PERDURE_MODEL_URL and PERDURE_MODEL_KEY are set, else the local one."""
    endpoint = configured_endpoint()
    return RemoteModel(endpoint) if endpoint else QuotingModel(os.environ.get("PERDURE_CORPUS", ""))


@dataclass(frozen=True, slots=True)
class _Corpus:
    paragraphs: tuple[str, ...]
    vectorizer: TfidfVectorizer
    rows: csr_matrix

    def nearest(self, prompt: str) -> list[str]:
        likeness = (self.rows @ self.vectorizer.transform([prompt]).T).toarray().ravel()
        best = sorted(range(len(self.paragraphs)), key=lambda i: (-likeness[i], i))[:_PARAGRAPHS]
        return [self.paragraphs[i] for i in best if likeness[i] > 0]


@lru_cache(maxsize=4)
def _read_corpus(folder: str) -> _Corpus:
    texts = _read_texts(Path(folder)) if folder else [text for _, text in sorted(pydoc_data.topics.topics.items())]
    paragraphs = tuple(part.strip() for text in texts for part in _BLANK_LINES.split(text) if len(part) > _HEADING)
    if not paragraphs:
        raise ModelRefused(f"PERDURE_CORPUS={folder!r} holds no .txt or .md file with a paragraph to answer from")
    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    return _Corpus(paragraphs, vectorizer, vectorizer.fit_transform(paragraphs))


def _read_texts(folder: Path) -> list[str]:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".txt", ".md"))
    return [path.read_text("utf-8", errors="replace") for path in files]
