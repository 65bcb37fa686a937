"""The steps of indexing, each of which may be done again: stage a source, plan, chunk, embed, write, clear up.

Between steps lie files in the staging folder, under the name of the ingest and of the batch; the log carries only names.
"""

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from scipy.sparse import load_npz, save_npz

from workloads.files import replace_file

from .chunking import Passage, cut
from .directory import IndexDirectory
from .embedding import configured_embedder
from .sources import LineRange, Rejected, Source, SourceKind, cut_into_ranges, read_documents, write_export_as_lines
from .writing import ensure_current, write_passages

REASONS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines of one source on their way into the index. `generation` is empty for all that are open."""

    index: str
    ingest: str
    number: int
    lines: LineRange
    generation: str = ""


@dataclass(frozen=True, slots=True)
class Chunked:
    """What a batch was cut into."""

    documents: int
    passages: int
    rejected: tuple[Rejected, ...]
    rejected_count: int


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Plan the next `at_most` batches of the sources, from byte `start` of source number `source`; `first` numbers them."""

    index: str
    ingest: str
    sources: tuple[Source, ...]
    source: int
    start: int
    first: int
    lines_each: int
    at_most: int
    generation: str


@dataclass(frozen=True, slots=True)
class Page:
    """Batches, and where the next page begins; `source` is past the last one when there is no more."""

    batches: tuple[Batch, ...]
    source: int
    start: int


def plan_page(request: PageRequest) -> Page:
    """Cut the next piece of the sources into batches, and remember the sources for a re-index."""
    directory = IndexDirectory(Path(request.index))
    _remember_sources(directory, request.sources)
    batches: list[Batch] = []
    number, start = request.source, request.start
    for number, source in enumerate(request.sources[request.source :], request.source):
        for lines in _ranges(directory, request, source, start):
            batches.append(
                Batch(request.index, request.ingest, request.first + len(batches), lines, request.generation)
            )
            if len(batches) == request.at_most:
                return Page(tuple(batches), number, lines.end)
        start = 0
    return Page(tuple(batches), len(request.sources), 0)


def chunk(batch: Batch) -> Chunked:
    """Cut the batch's documents into passages."""
    documents, rejected = read_documents(batch.lines)
    passages = [passage for document in documents for passage in cut(document)]
    lines = b"".join(orjson.dumps(asdict(passage)) + b"\n" for passage in passages)
    replace_file(_staged(batch, "passages.jsonl"), lines)
    return Chunked(len(documents), len(passages), tuple(rejected[:REASONS_KEPT]), len(rejected))


def embed(batch: Batch) -> str:
    """Turn the batch's passages into vectors; return the embedder's name."""
    embedder = configured_embedder()
    passages = _read_passages(batch)
    encoded = io.BytesIO()
    if passages:
        save_npz(encoded, embedder.embed([passage.text for passage in passages]))
    replace_file(_staged(batch, "vectors.npz"), encoded.getvalue())
    return embedder.name


def write(batch: Batch, embedder: str, cancelled: Callable[[], bool]) -> int:
    """Write the batch in one commit; return how many documents. Forgotten people are left out."""
    directory = IndexDirectory(Path(batch.index))
    passages = _read_passages(batch)
    with directory.locked(cancelled):
        ensure_current(directory, embedder)
        if not passages:
            return 0
        generations = (batch.generation,) if batch.generation else directory.open_generations()
        return write_passages(directory, generations, passages, load_npz(_staged(batch, "vectors.npz")), embedder)


def clear_up(index: str, ingest: str) -> None:
    """Remove what an ingest left in the staging folder."""
    shutil.rmtree(IndexDirectory(Path(index)).staging(ingest), ignore_errors=True)


def _ranges(directory: IndexDirectory, request: PageRequest, source: Source, start: int) -> Iterator[LineRange]:
    if source.kind is SourceKind.CHATGPT:
        lines = write_export_as_lines(source, directory.staging(request.ingest))
        return cut_into_ranges(LineRange(str(lines), start, -1), request.lines_each)
    return cut_into_ranges(LineRange(source.path, max(start, source.start), source.end), request.lines_each)


def _remember_sources(directory: IndexDirectory, sources: tuple[Source, ...]) -> None:
    named = {source.path: {"kind": source.kind.value, "person": source.person} for source in sources}
    with directory.locked():
        known = directory.read_sources()
        if known | named != known:
            directory.write_sources(known | named)


def _staged(batch: Batch, what: str) -> Path:
    return IndexDirectory(Path(batch.index)).staging(batch.ingest) / f"{batch.number}.{what}"


def _read_passages(batch: Batch) -> list[Passage]:
    lines = _staged(batch, "passages.jsonl").read_bytes().splitlines()
    return [Passage(**orjson.loads(line)) for line in lines]
