"""The search index: what is written is found, once, through repeats, kills and deletions."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from workloads.memory_index.chunking import cut
from workloads.memory_index.directory import CURRENT, NEXT, IndexDirectory, WriterBusy
from workloads.memory_index.documents import Document
from workloads.memory_index.embedding import HashedWords, decode_vectors, encode_vector
from workloads.memory_index.searching import MemoryIndex, NoIndex, Scope
from workloads.memory_index.writing import (
    WrongEmbedder,
    count_passages,
    create_generation,
    ensure_current,
    forget_person,
    read_document_ids,
    rewrite_generations,
    write_passages,
)

EMBEDDER = HashedWords()
DOCUMENTS = (
    Document("ada", "trip", "1", "We fly to Lisbon on the third of April and stay near the river.", "A trip"),
    Document("ada", "trip", "2", "Pack the walking shoes, the hills of Lisbon are steep.", "A trip"),
    Document("ada", "trip", "3", "Sevilla would have been warmer in March.", "A trip", current=False),
    Document("bob", "code", "1", "The consumer group rebalances when a worker leaves.", "Kafka"),
    Document("bob", "code", "2", "Offsets are committed after the batch has been processed.", "Kafka"),
)


def write(directory: IndexDirectory, documents: Sequence[Document]) -> int:
    passages = [passage for document in documents for passage in cut(document)]
    vectors = EMBEDDER.embed([passage.text for passage in passages])
    with directory.locked():
        ensure_current(directory, EMBEDDER.name)
        return write_passages(directory, directory.open_generations(), passages, vectors, EMBEDDER.name)


@pytest.fixture
def directory(tmp_path: Path) -> IndexDirectory:
    directory = IndexDirectory(tmp_path / "index")
    assert len(DOCUMENTS) == write(directory, DOCUMENTS)
    return directory


def found(directory: IndexDirectory, question: str, scope: Scope | None = None) -> list[str]:
    return [hit.passage.document_id for hit in MemoryIndex(directory.root, EMBEDDER).search(question, scope=scope)]


def test_a_question_finds_its_passage_first(directory: IndexDirectory) -> None:
    assert "ada/trip/1" == found(directory, "When do we fly to Lisbon?")[0]
    assert "bob/code/2" == found(directory, "when are offsets committed?")[0]


def test_words_are_found_by_their_stem(directory: IndexDirectory) -> None:
    assert ["bob/code/2"] == found(directory, "committing")


def test_an_answer_is_in_the_passages_words(directory: IndexDirectory) -> None:
    answer = MemoryIndex(directory.root, EMBEDDER).ask("When do we fly to Lisbon?")
    assert answer.text.startswith("We fly to Lisbon on the third of April")


def test_a_question_that_nothing_fits_has_no_answer(directory: IndexDirectory) -> None:
    index = MemoryIndex(directory.root, EMBEDDER)
    assert ("", ()) == (index.ask("zebra?").text, index.ask("zebra?").hits)
    assert () == index.search("  ")


@pytest.mark.parametrize("question", ['"unclosed', "title:(", "a AND OR b", "x^", "[1 TO", "\\"])
def test_punctuation_in_a_question_is_not_an_error(directory: IndexDirectory, question: str) -> None:
    MemoryIndex(directory.root, EMBEDDER).search(question)


def test_a_search_keeps_to_one_person(directory: IndexDirectory) -> None:
    assert [] == found(directory, "Lisbon", Scope(person="bob"))
    assert ["ada/trip/1", "ada/trip/2"] == sorted(found(directory, "Lisbon", Scope(person="ada")))


def test_an_abandoned_branch_is_found_only_when_asked_for(directory: IndexDirectory) -> None:
    assert [] == found(directory, "Sevilla")
    assert ["ada/trip/3"] == found(directory, "Sevilla", Scope(abandoned=True))


def test_writing_again_changes_nothing(directory: IndexDirectory) -> None:
    before = MemoryIndex(directory.root, EMBEDDER)
    write(directory, DOCUMENTS)
    after = MemoryIndex(directory.root, EMBEDDER)
    assert len(before) == len(after)
    assert before.document_ids() == after.document_ids()


def test_a_shorter_version_of_a_document_leaves_nothing_of_the_longer(directory: IndexDirectory) -> None:
    longer = Document("ada", "trip", "1", "Lisbon. " + "The hotel is by the river, said Tom. " * 60)
    write(directory, [longer])
    assert len(cut(longer)) > 1
    write(directory, [replace(longer, text="We stay at home.")])
    assert len(DOCUMENTS) == len(MemoryIndex(directory.root, EMBEDDER))
    assert [] == found(directory, "hotel")


def test_an_index_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoIndex, match="run an ingest first"):
        MemoryIndex(tmp_path / "nowhere", EMBEDDER)


def test_vectors_of_another_embedder_are_refused_on_both_sides(directory: IndexDirectory) -> None:
    with pytest.raises(WrongEmbedder, match="re-index"):
        MemoryIndex(directory.root, HashedWords(name="other"))
    with pytest.raises(WrongEmbedder, match="re-index"), directory.locked():
        write_passages(directory, ["1"], cut(DOCUMENTS[0]), EMBEDDER.embed(["x"]), "other")


def test_a_reader_sees_later_commits_when_it_refreshes(directory: IndexDirectory) -> None:
    index = MemoryIndex(directory.root, EMBEDDER)
    write(directory, [Document("bob", "code", "3", "Tombstones mark what is deleted.")])
    assert () == index.search("tombstones")
    index.refresh()
    assert ["bob/code/3"] == [hit.passage.document_id for hit in index.search("tombstones")]


def test_a_forgotten_person_is_gone_and_stays_gone(directory: IndexDirectory) -> None:
    assert 3 == forget_person(directory, "ada")
    assert 0 == count_passages(directory, "ada")
    assert 0 == write(directory, DOCUMENTS[:3])
    assert {"bob/code/1", "bob/code/2"} == MemoryIndex(directory.root, EMBEDDER).document_ids()
    assert 0 == forget_person(directory, "ada")


def test_after_a_rewrite_no_file_of_the_index_holds_the_deleted_words(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path / "index")
    # The term dictionary keeps a rare word in plain bytes, which makes what is left of it easy to see.
    write(directory, [Document("ada", "c", "1", "xylophonist"), *DOCUMENTS[3:]])

    def files_with_the_word() -> list[Path]:
        return [path for path in directory.root.rglob("*") if path.is_file() and b"xylophonist" in path.read_bytes()]

    assert files_with_the_word()
    forget_person(directory, "ada")
    rewrite_generations(directory)
    assert [] == files_with_the_word()
    assert {"bob/code/1", "bob/code/2"} == MemoryIndex(directory.root, EMBEDDER).document_ids()


def test_a_person_is_forgotten_in_a_generation_that_is_being_built_too(directory: IndexDirectory) -> None:
    create_generation(directory, "2", EMBEDDER.name)
    directory.write_pointer(NEXT, "2")
    write(directory, DOCUMENTS)
    assert 6 == forget_person(directory, "ada")
    rewrite_generations(directory)
    assert ("1.1", "2.1") == directory.open_generations()
    assert {"bob/code/1", "bob/code/2"} == read_document_ids(directory, "2.1")


def test_one_writer_waits_for_another_and_gives_up_in_time(directory: IndexDirectory) -> None:
    with directory.locked(), pytest.raises(WriterBusy), directory.locked(wait_seconds=0.05):
        pass
    with directory.locked(wait_seconds=0.05):
        pass


def test_writers_in_many_threads_lose_nothing(directory: IndexDirectory) -> None:
    more = [Document("eve", "c", str(n), f"Message number {n}.") for n in range(24)]
    threads = [threading.Thread(target=write, args=(directory, more[n::6])) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {d.id for d in (*DOCUMENTS, *more)} == MemoryIndex(directory.root, EMBEDDER).document_ids()


_WRITER = """
import sys
from pathlib import Path
from tests.workloads.test_memory_index import IndexDirectory, Document, write
directory = IndexDirectory(Path(sys.argv[1]))
for n in range(10_000):
    write(directory, [Document("eve", "c", f"{n}-{part}", f"Part {part} of batch {n}.") for part in range(5)])
    print(n, flush=True)
"""


def test_a_killed_writer_leaves_whole_batches_and_the_next_goes_on(directory: IndexDirectory) -> None:
    acknowledged = -1
    for _ in range(3):
        command = [sys.executable, "-c", _WRITER, str(directory.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged = int(line)
                if acknowledged >= 5:
                    writer.send_signal(signal.SIGKILL)
                    break
    ids = {i for i in read_document_ids(directory, directory.read_pointer(CURRENT) or "") if i.startswith("eve/")}
    batches = {i.split("/")[2].split("-")[0] for i in ids}
    assert {f"eve/c/{batch}-{part}" for batch in batches for part in range(5)} == ids
    assert {str(n) for n in range(acknowledged + 1)} <= batches
    assert 1 == write(directory, [Document("eve", "c", "last", "Still writable.")])


def test_a_vector_reads_back_as_it_was_written() -> None:
    rows = csr_matrix(np.array([[0, 1.5, 0, -2.0], [0, 0, 0, 0], [0.25, 0, 0, 3.0]], dtype=np.float32))
    read = decode_vectors([encode_vector(rows[i]) for i in range(3)])
    assert rows.toarray().tolist() == read.toarray().tolist()
