"""The memory index as its orchestrations run it: real files, a real index, real steps, and virtual time between them."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import OrchestrationFailed
from perdure.testing import Environment
from tests.workloads.models import ModelServer, model_server
from workloads.demo.inputs import CONVERSATIONS
from workloads.memory_index.activities import Person
from workloads.memory_index.directory import CURRENT, IndexDirectory
from workloads.memory_index.orchestrations import (
    STOP,
    FeedRequest,
    IngestRequest,
    app,
    follow_feed,
    forget_everything,
    ingest,
    reindex,
)
from workloads.memory_index.searching import MemoryIndex
from workloads.memory_index.sources import Source, SourceKind

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def env(perdure_env: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.delenv("PERDURE_MODEL_URL", raising=False)
    return perdure_env(app, now=NOON)


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "index")


def write_lines(path: Path, words: Sequence[str], person: str = "ada") -> Source:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for word in words:
            line = {"person": person, "conversation": "c", "message": word, "text": f"Something about {word}."}
            file.write(json.dumps(line | {"at": "2026-03-01T11:00:00Z"}) + "\n")
    return Source(str(path))


def found(place: str, question: str) -> list[str]:
    return [hit.passage.document_id for hit in MemoryIndex(Path(place)).search(question)]


def indexed(place: str) -> set[str]:
    return {name.rpartition("/")[2] for name in MemoryIndex(Path(place)).document_ids()}


def test_sources_of_both_formats_are_indexed_page_by_page_and_can_be_asked(
    env: Environment, place: str, tmp_path: Path
) -> None:
    words = [f"topic{number}" for number in range(9)]
    source = write_lines(tmp_path / "lines.jsonl", words)
    export = Source(str(CONVERSATIONS), SourceKind.CHATGPT, "eve")
    request = IngestRequest(place, (source, export), lines_each=2, batches_at_once=3)

    handle = env.start(ingest, request)
    counts = handle.result()

    instance = handle.get()
    assert instance.generation > 2, "each page is an execution of its own"
    assert instance.custom_status is not None
    assert {"batches": counts.batches, "planned": counts.batches, "failed": 0}.items() <= instance.custom_status.items()
    assert counts.documents == len(MemoryIndex(Path(place)).document_ids())
    assert set(words) <= indexed(place)
    assert ["ada/c/topic7"] == found(place, "topic7")
    assert found(place, "Which restaurant did we choose for the anniversary dinner?")[0].startswith("eve/")
    assert not list((Path(place) / "staging").iterdir())


def test_each_batch_is_an_instance_that_shows_its_step(env: Environment, place: str, tmp_path: Path) -> None:
    env.run(ingest, IngestRequest(place, (write_lines(tmp_path / "lines.jsonl", ["one", "two"]),), lines_each=1))

    batches = env.list(name="index_batch")
    assert ["written", "written"] == [batch.custom_status for batch in batches]
    events = [event for turn in env.instance(batches[0].instance_id).history().turns for event in turn["events"]]
    steps = [event["name"] for event in events if event["type"] == "TaskScheduled"]
    assert ["chunk_batch", "embed_batch", "write_batch"] == steps, "each is recorded by itself"


def test_lines_that_are_no_documents_are_counted_with_their_place_and_stop_nothing(
    env: Environment, place: str, tmp_path: Path
) -> None:
    source = write_lines(tmp_path / "lines.jsonl", ["good"])
    with Path(source.path).open("a") as file:
        file.write("nonsense\n")

    counts = env.run(ingest, IngestRequest(place, (source,)))

    assert (1, 1) == (counts.documents, counts.rejected)
    assert [(source.path, len(Path(source.path).read_bytes()) - len("nonsense\n"))] == [
        (reason.path, reason.byte) for reason in counts.reasons
    ]


def test_a_source_that_cannot_be_read_fails_at_once_and_says_what_was_expected(
    env: Environment, place: str, tmp_path: Path
) -> None:
    (tmp_path / "conversations.json").write_text("{}")
    request = IngestRequest(place, (Source(str(tmp_path / "conversations.json"), SourceKind.CHATGPT, "eve"),))

    with pytest.raises(OrchestrationFailed, match="expected a list of conversations, found dict"):
        env.run(ingest, request)
    assert NOON == env.now, "nothing was tried again"


def test_a_feed_is_followed_as_it_grows_and_its_freshness_is_told(env: Environment, place: str, tmp_path: Path) -> None:
    feed = tmp_path / "feed"
    write_lines(feed / "a.jsonl", ["first"])
    handle = env.start(follow_feed, FeedRequest(place, str(feed), every_seconds=60))
    env.advance(timedelta(seconds=1))
    assert {"first"} == indexed(place)

    for file, word in (("a.jsonl", "second"), ("b.jsonl", "third")):
        write_lines(feed / file, [word])
        assert word not in indexed(place)
        env.advance(timedelta(minutes=1))
    assert {"first", "second", "third"} == indexed(place)
    status: Any = handle.get().custom_status
    assert {"documents": 3, "waiting": 0, "oldest_waiting_seconds": None}.items() <= status.items()

    env.advance(timedelta(hours=2))
    assert handle.get().generation > 120, "an execution for each round, so that no history grows"
    handle.raise_event(STOP)
    assert 3 == handle.result().documents


def test_what_waits_longest_is_told_while_it_cannot_be_indexed(env: Environment, place: str, tmp_path: Path) -> None:
    feed = tmp_path / "feed"
    write_lines(feed / "a.jsonl", ["waiting"])

    def fail(_batch: object) -> str:
        raise OSError("the disk is away")

    env.fake("embed_batch", fail)
    handle = env.start(follow_feed, FeedRequest(place, str(feed), every_seconds=60))
    env.advance(timedelta(minutes=30))

    status: Any = handle.get().custom_status
    assert (1, 0) == (status["waiting"], status["documents"])
    assert status["oldest_waiting_seconds"] >= 0


def test_a_reindex_changes_over_when_it_is_complete_and_keeps_what_was_asked_for(
    env: Environment, place: str, tmp_path: Path
) -> None:
    source = write_lines(tmp_path / "lines.jsonl", ["one", "two", "three"])
    env.run(ingest, IngestRequest(place, (source,)))
    before = IndexDirectory(Path(place)).read_pointer(CURRENT)

    assert 3 == env.run(reindex, place)

    assert before != IndexDirectory(Path(place)).read_pointer(CURRENT)
    assert {"one", "two", "three"} == indexed(place)


def test_a_reindex_that_lacks_documents_leaves_the_index_as_it_was(
    env: Environment, place: str, tmp_path: Path
) -> None:
    source = write_lines(tmp_path / "lines.jsonl", ["one", "two"])
    env.run(ingest, IngestRequest(place, (source,)))
    Path(source.path).write_text("")

    with pytest.raises(OrchestrationFailed, match="lacks documents"):
        env.run(reindex, place)
    assert {"one", "two"} == indexed(place)
    assert 1 == len(list((Path(place) / "generations").iterdir()))


def test_a_persons_data_is_deleted_and_no_later_ingest_brings_it_back(
    env: Environment, place: str, tmp_path: Path
) -> None:
    sources = (
        write_lines(tmp_path / "ada.jsonl", ["zeppelin", "rocket"]),
        write_lines(tmp_path / "bob.jsonl", ["ship"], person="bob"),
    )
    env.run(ingest, IngestRequest(place, sources))

    forgotten = env.run(forget_everything, Person(place, "ada"))

    assert (2, 0) == (forgotten.passages_removed, forgotten.passages_left)
    assert {"ship"} == indexed(place)
    assert [] == [path for path in Path(place).rglob("*") if path.is_file() and b"zeppelin" in path.read_bytes()]
    env.run(ingest, IngestRequest(place, sources))
    env.run(reindex, place)
    assert {"ship"} == indexed(place)


@pytest.fixture
def server(env: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as server:
        monkeypatch.setenv("PERDURE_MODEL_URL", server.url)
        monkeypatch.setenv("PERDURE_MODEL_KEY", "secret")
        yield server


def test_vectors_come_from_the_endpoint_that_is_set_and_a_trouble_of_it_is_waited_out(
    env: Environment, place: str, tmp_path: Path, server: ModelServer
) -> None:
    server.troubles = [503, 429]
    source = write_lines(tmp_path / "lines.jsonl", ["one", "two"])

    counts = env.run(ingest, IngestRequest(place, (source,)))

    assert 2 == counts.documents
    assert ["/v1/embeddings"] * 3 == [path for path, _, _ in server.asked]
    assert ["Something about one.", "Something about two."] == server.asked[0][2]["input"]
    assert env.now > NOON, "it was waited, by durable timers"
    assert "ada/c/two" in found(place, "two")


def test_an_endpoint_that_refuses_is_not_asked_again(
    env: Environment, place: str, tmp_path: Path, server: ModelServer
) -> None:
    server.status = 401

    with pytest.raises(OrchestrationFailed, match="401 from the model"):
        env.run(ingest, IngestRequest(place, (write_lines(tmp_path / "lines.jsonl", ["one"]),)))
    assert 1 == len(server.asked)


def test_many_texts_go_in_several_requests(env: Environment, place: str, tmp_path: Path, server: ModelServer) -> None:
    words = [f"w{number}" for number in range(300)]
    env.run(ingest, IngestRequest(place, (write_lines(tmp_path / "lines.jsonl", words),), lines_each=300))

    assert [256, 44] == [len(request["input"]) for _, _, request in server.asked]
    assert set(words) == indexed(place)


def test_an_index_of_other_vectors_is_left_alone(
    env: Environment, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "lines.jsonl", ["one"])
    env.run(ingest, IngestRequest(place, (source,)))
    with model_server() as server:
        monkeypatch.setenv("PERDURE_MODEL_URL", server.url)
        monkeypatch.setenv("PERDURE_MODEL_KEY", "secret")
        with pytest.raises(OrchestrationFailed, match="re-index first"):
            env.run(ingest, IngestRequest(place, (source,)))
        assert 1 == env.run(reindex, place), "which a re-index mends"
        assert ["ada/c/one"] == found(place, "one")
