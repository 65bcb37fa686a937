"""Ask the index: words by BM25, vectors by likeness, both rankings joined, and an answer in the passages' own words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tantivy

from workloads.extractive import pick_sentences

from .chunking import Passage
from .directory import CURRENT, IndexDirectory
from .embedding import Embedder, configured_embedder, decode_vectors
from .writing import WrongEmbedder, decode_passage, open_index, read_embedder, read_stored

_CANDIDATES = 50
_RANK_OFFSET = 60  # reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)
_TITLE_BOOST = 2.0
_ANSWER_SENTENCES = 2


class NoIndex(FileNotFoundError):
    """Nothing has been indexed here yet."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memories are searched, and whether branches that a conversation left behind count."""

    person: str | None = None
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. The ranks say where words and vectors put it, from 1; 0 where they did not find it."""

    passage: Passage
    score: float
    word_rank: int
    vector_rank: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Sentences out of the hits, nothing else; empty when nothing fits."""

    text: str
    hits: tuple[Hit, ...]


class MemoryIndex:
    """A reader of the index as of its last commit; `refresh` takes up later ones. Needs no lock and disturbs no writer."""

    def __init__(self, path: Path, embedder: Embedder | None = None) -> None:
        self._directory = IndexDirectory(path)
        self._embedder = embedder or configured_embedder()
        self.refresh()

    def refresh(self) -> None:
        """Read what has been committed since."""
        index = _open_current(self._directory, self._embedder)
        searcher = index.searcher()
        stored = list(read_stored(searcher))
        self._index, self._searcher = index, searcher
        self._passages = [decode_passage(fields) for fields in stored]
        self._position = {passage.id: at for at, passage in enumerate(self._passages)}
        if stored:
            kept = decode_vectors([bytes(fields["vector"][0]) for fields in stored])
            self._weigh = self._embedder.weigher(kept)
            self._vectors = self._weigh(kept)

    def __len__(self) -> int:
        return len(self._passages)

    def document_ids(self) -> frozenset[str]:
        """Return the id of every document that is indexed."""
        return frozenset(passage.document_id for passage in self._passages)

    def search(self, question: str, at_most: int = 3, scope: Scope | None = None) -> tuple[Hit, ...]:
        """Return the best passages for `question`, best first."""
        if not self._passages or not question.strip():
            return ()
        scope = scope or Scope()
        by_words = self._rank_by_words(question, scope)
        by_vectors = self._rank_by_vectors(question, scope)
        score: dict[int, float] = {}
        for ranking in (by_words, by_vectors):
            for at, rank in ranking.items():
                score[at] = score.get(at, 0.0) + 1 / (_RANK_OFFSET + rank)
        best = sorted(score, key=lambda at: (-score[at], self._passages[at].id))[:at_most]
        return tuple(Hit(self._passages[at], score[at], by_words.get(at, 0), by_vectors.get(at, 0)) for at in best)

    def ask(self, question: str, at_most: int = 3, scope: Scope | None = None) -> Answer:
        """Answer from the passages found, word for word."""
        hits = self.search(question, at_most, scope)
        picked = pick_sentences(question, [hit.passage.text for hit in hits], _ANSWER_SENTENCES)
        return Answer(" ".join(picked), hits)

    def _rank_by_words(self, question: str, scope: Scope) -> dict[int, int]:
        # Lenient: a question is prose, and its quotes and colons are not operators.
        words, _ = self._index.parse_query_lenient(question, ["title", "text"], field_boosts={"title": _TITLE_BOOST})
        must = [(tantivy.Occur.Must, words)]
        if scope.person is not None:
            must.append((tantivy.Occur.Must, tantivy.Query.term_query(self._index.schema, "person", scope.person)))
        if not scope.abandoned:
            must.append((tantivy.Occur.Must, tantivy.Query.term_query(self._index.schema, "current", field_value=True)))
        hits = self._searcher.search(tantivy.Query.boolean_query(must), limit=_CANDIDATES).hits
        ids = [str(self._searcher.doc(address).get_first("id")) for _, address in hits]
        return {self._position[found]: rank for rank, found in enumerate(ids, 1)}

    def _rank_by_vectors(self, question: str, scope: Scope) -> dict[int, int]:
        asked = self._weigh(self._embedder.embed([question]))
        likeness = (self._vectors @ asked.T).toarray().ravel()
        likeness[~self._within(scope)] = 0
        best = np.argsort(-likeness, kind="stable")[:_CANDIDATES]
        return {int(at): rank for rank, at in enumerate(best, 1) if likeness[at] > 0}

    def _within(self, scope: Scope) -> np.ndarray:
        return np.array(
            [
                (scope.person is None or passage.person == scope.person) and (scope.abandoned or passage.current)
                for passage in self._passages
            ]
        )


def _open_current(directory: IndexDirectory, embedder: Embedder) -> tantivy.Index:
    # A rewrite may drop the generation between reading its name and opening it; the new name is there before that.
    for last_try in (False, True):
        name = directory.read_pointer(CURRENT)
        if name is None:
            raise NoIndex(f"no index at {directory.root}; run an ingest first")
        path = directory.generation(name)
        try:
            index = open_index(path)
            held = read_embedder(path)
        except (ValueError, OSError):
            if last_try:
                raise
            continue
        if held != embedder.name:
            raise WrongEmbedder(
                f"the index holds vectors of {held!r} and is asked with {embedder.name!r}: re-index first"
            )
        return index
    raise AssertionError("unreachable")
