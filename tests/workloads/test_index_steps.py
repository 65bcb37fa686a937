"""The steps between a source and the index, each done once, twice, or half."""

import json
from pathlib import Path

import pytest

from workloads.memory_index import generations, steps
from workloads.memory_index.directory import CURRENT, NEXT, IndexDirectory
from workloads.memory_index.generations import ReindexRefused
from workloads.memory_index.searching import MemoryIndex
from workloads.memory_index.sources import Source, SourceKind
from workloads.memory_index.steps import Batch, Page, PageRequest
from workloads.memory_index.writing import forget_person, read_document_ids, rewrite_generations


class Workshop:
    """An index directory, a source of lines, and the steps by hand."""

    def __init__(self, root: Path) -> None:
        self.directory = IndexDirectory(root / "index")
        self.source = root / "source.jsonl"

    def append(self, *messages: str, person: str = "ada") -> None:
        with self.source.open("a", encoding="utf-8") as file:
            for message in messages:
                text = f"This is what {message} says."
                file.write(json.dumps({"person": person, "conversation": "c", "message": message, "text": text}) + "\n")

    def plan(
        self, *, source: int = 0, start: int = 0, at_most: int = 100, generation: str = "", first: int = 0
    ) -> Page:
        sources = (Source(str(self.source)),)
        return steps.plan_page(
            PageRequest(str(self.directory.root), "i", sources, source, start, first, 2, at_most, generation)
        )

    def index(self, page: Page) -> int:
        return sum(self.index_batch(batch) for batch in page.batches)

    def index_batch(self, batch: Batch) -> int:
        steps.chunk(batch)
        return steps.write(batch, steps.embed(batch), lambda: False)

    def messages(self) -> list[str]:
        return sorted(found.split("/")[-1] for found in MemoryIndex(self.directory.root).document_ids())


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.delenv("PERDURE_MODEL_URL", raising=False)
    workshop = Workshop(tmp_path)
    workshop.append("m1", "m2", "m3", "m4", "m5")
    return workshop


def test_pages_of_batches_cover_the_source_and_are_numbered_through(workshop: Workshop) -> None:
    first = workshop.plan(at_most=2)
    second = workshop.plan(source=first.source, start=first.start, at_most=2, first=2)
    assert ([0, 1], [2]) == ([b.number for b in first.batches], [b.number for b in second.batches])
    assert 1 == second.source
    assert 5 == workshop.index(first) + workshop.index(second)
    assert ["m1", "m2", "m3", "m4", "m5"] == workshop.messages()


def test_an_empty_source_plans_nothing_and_writes_an_empty_index(workshop: Workshop) -> None:
    workshop.source.write_text("", "utf-8")
    assert Page((), 1, 0) == workshop.plan()


def test_each_step_can_be_done_again(workshop: Workshop) -> None:
    page = workshop.plan()
    for batch in page.batches:
        assert steps.chunk(batch) == steps.chunk(batch)
        assert steps.embed(batch) == steps.embed(batch)
        embedder = steps.embed(batch)
        assert steps.write(batch, embedder, lambda: False) == steps.write(batch, embedder, lambda: False)
    assert ["m1", "m2", "m3", "m4", "m5"] == workshop.messages()
    assert 5 == len(MemoryIndex(workshop.directory.root))


def test_lines_that_are_no_documents_are_counted_and_shown(workshop: Workshop) -> None:
    workshop.source.write_text('{"person": "ada"}\nnonsense\n', "utf-8")
    (batch,) = workshop.plan().batches
    chunked = steps.chunk(batch)
    assert (0, 2, 2) == (chunked.documents, chunked.rejected_count, len(chunked.rejected))
    assert 0 == workshop.index_batch(batch)


def test_clearing_up_leaves_no_passage_behind(workshop: Workshop) -> None:
    workshop.index(workshop.plan())
    steps.clear_up(str(workshop.directory.root), "i")
    steps.clear_up(str(workshop.directory.root), "i")
    assert [] == list((workshop.directory.root / "staging").iterdir())


def test_a_reindex_takes_the_old_ones_place_only_when_it_is_complete(workshop: Workshop) -> None:
    workshop.index(workshop.plan())
    assert [Source(str(workshop.source), SourceKind.JSONL)] == list(generations.begin(workshop.directory, "fresh"))
    with pytest.raises(ReindexRefused, match="lacks documents"):
        generations.finish(workshop.directory, "fresh")
    workshop.index(workshop.plan(generation="fresh"))
    assert 5 == generations.finish(workshop.directory, "fresh")
    assert 5 == generations.finish(workshop.directory, "fresh"), "repeated"
    assert ("fresh",) == workshop.directory.open_generations()
    assert ["fresh"] == [path.name for path in (workshop.directory.root / "generations").iterdir()]


def test_what_is_written_during_a_reindex_is_in_both_generations(workshop: Workshop) -> None:
    workshop.index(workshop.plan())
    generations.begin(workshop.directory, "fresh")
    workshop.append("m6")
    workshop.index(workshop.plan())
    for pointer in (CURRENT, NEXT):
        assert "ada/c/m6" in read_document_ids(workshop.directory, workshop.directory.read_pointer(pointer) or "")


def test_two_reindexes_do_not_mix(workshop: Workshop) -> None:
    workshop.index(workshop.plan())
    generations.begin(workshop.directory, "fresh")
    generations.begin(workshop.directory, "fresh")
    with pytest.raises(ReindexRefused, match="being built already"):
        generations.begin(workshop.directory, "other")
    generations.abandon(workshop.directory, "other")
    assert "fresh" == workshop.directory.read_pointer(NEXT)
    generations.abandon(workshop.directory, "fresh")
    assert ("1",) == workshop.directory.open_generations()


def test_a_person_forgotten_during_a_reindex_does_not_stop_it(workshop: Workshop) -> None:
    workshop.append("b1", person="bob")
    workshop.index(workshop.plan())
    generations.begin(workshop.directory, "fresh")
    workshop.index(workshop.plan(generation="fresh"))
    forget_person(workshop.directory, "ada")
    rewrite_generations(workshop.directory)
    assert 1 == generations.finish(workshop.directory, "fresh")
    assert ["b1"] == workshop.messages()
