"""The demo's input and questions hold for the Python that runs, before any engine is involved."""

from collections.abc import Iterator

import pytest

from workloads.demo.inputs import CONVERSATIONS, CONVERSATIONS_PERSON, write_feed
from workloads.demo.questions import QUESTIONS, Question
from workloads.demo.walk import expected_ids
from workloads.memory_index import steps
from workloads.memory_index.searching import MemoryIndex, Scope
from workloads.memory_index.sources import Source, SourceKind
from workloads.memory_index.steps import PageRequest


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryIndex]:
    root = tmp_path_factory.mktemp("demo")
    write_feed(root / "feed")
    sources = (
        Source(str(root / "feed" / "topics.jsonl")),
        Source(str(root / "feed" / "modules.jsonl")),
        Source(str(CONVERSATIONS), SourceKind.CHATGPT, CONVERSATIONS_PERSON),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PERDURE_MODEL_URL", raising=False)
        for batch in steps.plan_page(PageRequest(str(root / "index"), "i", sources, 0, 0, 0, 200, 100, "")).batches:
            steps.chunk(batch)
            steps.write(batch, steps.embed(batch), lambda: False)
        yield MemoryIndex(root / "index")


def test_what_is_indexed_is_what_an_independent_walk_of_the_input_finds(index: MemoryIndex) -> None:
    assert expected_ids() == index.document_ids()


def test_the_input_is_of_some_size_and_has_branches(index: MemoryIndex) -> None:
    ids = index.document_ids()
    assert len(ids) > 200
    assert any(found.startswith("ada/") for found in ids)
    abandoned = index.search("Clint Yeastwood", scope=Scope("ada", abandoned=True))
    assert [False] == [hit.passage.current for hit in abandoned[:1]]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_each_question_finds_its_known_passage_in_the_top_three(index: MemoryIndex, question: Question) -> None:
    assert 1 <= question.rank_in(index.search(question.text)) <= 3


def test_a_passage_that_is_not_there_is_not_found(index: MemoryIndex) -> None:
    assert 0 == Question("How does a heap queue work?", "python/", "words that nobody wrote").rank_in(
        index.search("How does a heap queue work?")
    )
