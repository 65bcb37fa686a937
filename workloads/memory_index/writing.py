"""Write the index. Every write can be repeated: a document's passages replace whatever it had before, in one commit.

Text, identity and vector of a passage are fields of one tantivy document, so that there is no moment at which they differ.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tantivy
from scipy.sparse import csr_matrix

from workloads.files import digest_of, replace_file

from .chunking import Passage
from .directory import CURRENT, NEXT, IndexDirectory, never
from .embedding import encode_vector

_WRITER_HEAP_BYTES = 30_000_000
_EXACT = "raw"
_WORDS = "en_stem"


class WrongEmbedder(ValueError):
    """The index holds vectors of another embedder, which cannot be compared with these."""


def schema() -> tantivy.Schema:
    """Return the fields of a passage. `person` and `document_id` are searched whole, `title` and `text` by stemmed words."""
    builder = tantivy.SchemaBuilder()
    for name in ("id", "document_id", "person"):
        builder.add_text_field(name, stored=True, tokenizer_name=_EXACT, index_option="basic")
    for name in ("title", "text"):
        builder.add_text_field(name, stored=True, tokenizer_name=_WORDS)
    for name in ("author", "at"):
        builder.add_text_field(name, stored=True, tokenizer_name=_EXACT, index_option="basic")
    builder.add_boolean_field("current", stored=True, indexed=True)
    builder.add_bytes_field("vector", stored=True)
    return builder.build()


def create_generation(directory: IndexDirectory, name: str, embedder: str) -> None:
    """Make an empty generation unless it is there; one that is there keeps what it holds."""
    path = directory.generation(name)
    path.mkdir(parents=True, exist_ok=True)
    if not tantivy.Index.exists(str(path)):
        tantivy.Index(schema(), path=str(path))
    if not (path / "embedder.json").exists():
        replace_file(path / "embedder.json", json.dumps(embedder).encode())


def read_embedder(generation: Path) -> str:
    """Return the name of the embedder whose vectors a generation holds."""
    name: str = json.loads((generation / "embedder.json").read_bytes())
    return name


def ensure_current(directory: IndexDirectory, embedder: str) -> None:
    """Make the first generation of a new index. The caller holds the lock."""
    if directory.read_pointer(CURRENT) is None:
        create_generation(directory, "1", embedder)
        directory.write_pointer(CURRENT, "1")


def write_passages(
    directory: IndexDirectory,
    generations: Sequence[str],
    passages: Sequence[Passage],
    vectors: csr_matrix,
    embedder: str,
) -> int:
    """Replace the documents of these passages in each generation; return how many documents. The caller holds the lock."""
    forgotten = directory.read_forgotten()
    wanted = [i for i, passage in enumerate(passages) if digest_of(passage.person) not in forgotten]
    documents = dict.fromkeys(passages[i].document_id for i in wanted)
    for name in generations:
        path = directory.generation(name)
        if (held := read_embedder(path)) != embedder:
            raise WrongEmbedder(
                f"generation {name} holds vectors of {held!r}, these are of {embedder!r}: re-index first"
            )
        with _writer(path) as writer:
            for document_id in documents:
                writer.delete_documents_by_term("document_id", document_id)
            for i in wanted:
                writer.add_document(_encode(passages[i], encode_vector(vectors[i])))
    return len(documents)


def forget_person(directory: IndexDirectory, person: str, cancelled: Callable[[], bool] = never) -> int:
    """Take a person out of every generation and keep them out; return how many passages went."""
    with directory.locked(cancelled):
        directory.write_forgotten(directory.read_forgotten() | {digest_of(person)})
        before = count_passages(directory, person)
        for name in directory.open_generations():
            with _writer(directory.generation(name)) as writer:
                writer.delete_documents_by_term("person", person)
        return before


def rewrite_generations(directory: IndexDirectory, cancelled: Callable[[], bool] = never) -> None:
    """Copy what is alive into new files and drop the old ones, for a deleted passage stays in its segment until then."""
    with directory.locked(cancelled):
        for pointer in (CURRENT, NEXT):
            if name := directory.read_pointer(pointer):
                _rewrite(directory, pointer, name)


def count_passages(directory: IndexDirectory, person: str) -> int:
    """Return how many passages of a person a search could find, over all generations."""
    found = 0
    for name in directory.open_generations():
        index = open_index(directory.generation(name))
        searcher = index.searcher()
        query = tantivy.Query.term_query(index.schema, "person", person)
        found += len(searcher.search(query, limit=max(1, searcher.num_docs)).hits)
    return found


def open_index(generation: Path) -> tantivy.Index:
    """Open a generation for reading."""
    index = tantivy.Index.open(str(generation))
    index.reload()
    return index


def read_document_ids(directory: IndexDirectory, name: str) -> frozenset[str]:
    """Return the id of every document in a generation."""
    searcher = open_index(directory.generation(name)).searcher()
    return frozenset(stored["document_id"][0] for stored in read_stored(searcher))


def decode_passage(stored: dict[str, list[Any]]) -> Passage:
    """Read a passage from the fields of a stored tantivy document."""
    fields = {name: values[0] for name, values in stored.items() if name != "vector"}
    return Passage(**fields)


@contextmanager
def _writer(generation: Path) -> Iterator[tantivy.IndexWriter]:
    """Write in one commit: all of it, or after an error or a kill nothing."""
    writer = tantivy.Index.open(str(generation)).writer(heap_size=_WRITER_HEAP_BYTES, num_threads=1)
    try:
        yield writer
        writer.commit()
    except BaseException:
        writer.rollback()
        raise
    finally:
        writer.wait_merging_threads()  # lets tantivy's own lock go, too


def _encode(passage: Passage, vector: bytes) -> tantivy.Document:
    document = tantivy.Document()
    for name in ("id", "document_id", "person", "title", "text", "author", "at"):
        document.add_text(name, getattr(passage, name))
    document.add_boolean("current", passage.current)
    document.add_bytes("vector", vector)
    return document


def _rewrite(directory: IndexDirectory, pointer: str, name: str) -> None:
    old = directory.generation(name)
    fresh = f"{name.split('.')[0]}.{int(name.partition('.')[2] or 0) + 1}"
    directory.remove_generation(fresh)  # what a killed attempt left
    create_generation(directory, fresh, read_embedder(old))
    with _writer(directory.generation(fresh)) as writer:
        for stored in read_stored(open_index(old).searcher()):
            writer.add_document(_encode(decode_passage(stored), bytes(stored["vector"][0])))
    directory.write_pointer(pointer, fresh)
    directory.remove_generation(name)


def read_stored(searcher: tantivy.Searcher) -> Iterator[dict[str, list[Any]]]:
    """Yield the stored fields of every passage."""
    count = searcher.num_docs
    if count:
        for _, address in searcher.search(tantivy.Query.all_query(), limit=count).hits:
            yield searcher.doc(address).to_dict()
