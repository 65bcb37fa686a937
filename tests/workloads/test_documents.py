"""Conversations become documents, documents passages, and the same input always the same ids."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.memory_index.chunking import cut
from workloads.memory_index.documents import BadDocument, Document, decode_chatgpt, decode_line
from workloads.memory_index.feed import Freshness, find_new_lines, measure_freshness
from workloads.memory_index.sources import (
    BadSource,
    LineRange,
    Source,
    SourceKind,
    cut_into_ranges,
    read_documents,
    write_export_as_lines,
)

LINE = {
    "person": "ada",
    "conversation": "c1",
    "message": "m1",
    "text": "We chose Kafka.",
    "at": "2026-03-01T12:00:00+02:00",
}


def node(parent: str | None, role: str, text: str, **more: object) -> dict[str, object]:
    content = {"content_type": "text", "parts": [text]}
    message = {"author": {"role": role}, "create_time": 1_767_225_600.5, "content": content, **more}
    return {"parent": parent, "message": message, "children": []}


BRANCHED = {
    "conversation_id": "trip",
    "title": "A trip",
    "current_node": "answer-2",
    "mapping": {
        "root": {"parent": None, "message": None, "children": ["system"]},
        "system": node("root", "system", "You are helpful."),
        "question-1": node("system", "user", "Where is it warm in March?"),
        "answer-1": node("question-1", "assistant", "In Sevilla."),
        "question-2": node("system", "user", "Where is it warm in April?"),
        "answer-2": node("question-2", "assistant", "In Lisbon."),
        "tool": node("answer-2", "tool", "{}"),
        "call": node("answer-2", "assistant", "search()", recipient="browser"),
        "empty": node("answer-2", "assistant", "  "),
        "hidden": node("answer-2", "user", "x", metadata={"is_visually_hidden_from_conversation": True}),
    },
}


def write_lines(path: Path, *lines: object) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_line_is_a_document_with_its_time_in_utc() -> None:
    expected = Document("ada", "c1", "m1", "We chose Kafka.", at="2026-03-01T10:00:00.000Z")
    assert expected == decode_line(LINE)
    assert "ada/c1/m1" == expected.id


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ([], "expected an object, found list"),
        ({**LINE, "text": ""}, "'text' must be a text that is not empty"),
        ({**LINE, "person": 7}, "'person' must be a text"),
        ({**LINE, "person": "a/b"}, "must not contain '/'"),
        ({**LINE, "at": "yesterday"}, "must be a time in ISO 8601"),
    ],
)
def test_a_line_that_is_no_document_says_why(line: object, why: str) -> None:
    with pytest.raises(BadDocument, match=why):
        decode_line(line)


def test_every_branch_of_a_conversation_is_read_and_only_the_last_seen_one_is_current() -> None:
    documents = {d.message: d.current for d in decode_chatgpt(BRANCHED, "ada")}
    assert {"question-1": False, "answer-1": False, "question-2": True, "answer-2": True} == documents


def test_a_message_keeps_its_role_title_and_time() -> None:
    first = next(decode_chatgpt(BRANCHED, "ada"))
    assert ("user", "A trip", "2026-01-01T00:00:00.500Z") == (first.author, first.title, first.at)


def test_a_conversation_without_a_current_node_has_no_abandoned_branch() -> None:
    assert {True} == {d.current for d in decode_chatgpt({**BRANCHED, "current_node": None}, "ada")}


def test_parents_that_go_in_a_circle_do_not_hang() -> None:
    mapping = {"a": node("b", "user", "x"), "b": node("a", "user", "y")}
    documents = list(decode_chatgpt({"id": "c", "mapping": mapping, "current_node": "a"}, "ada"))
    assert ["ada/c/a", "ada/c/b"] == [d.id for d in documents]


def test_an_export_becomes_lines_that_read_back_as_its_documents(tmp_path: Path) -> None:
    export = tmp_path / "conversations.json"
    export.write_text(json.dumps([BRANCHED, {"no": "mapping"}]), "utf-8")
    path = write_export_as_lines(Source(str(export), SourceKind.CHATGPT, "ada"), tmp_path / "staging")
    documents, rejected = read_documents(LineRange(str(path), 0, path.stat().st_size))
    assert list(decode_chatgpt(BRANCHED, "ada")) == documents
    assert 1 == len(rejected)


@pytest.mark.parametrize(
    ("content", "person", "why"),
    [("{", "ada", "not JSON"), ("{}", "ada", "expected a list"), ("[]", "", "needs the person")],
)
def test_an_export_that_cannot_be_read_is_refused(tmp_path: Path, content: str, person: str, why: str) -> None:
    export = tmp_path / "conversations.json"
    export.write_text(content, "utf-8")
    with pytest.raises(BadSource, match=why):
        write_export_as_lines(Source(str(export), SourceKind.CHATGPT, person), tmp_path)


def test_ranges_cover_all_whole_lines_and_leave_one_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_lines(path, *({**LINE, "message": f"m{n}"} for n in range(7)))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"person": "ada", "conv')
    ranges = list(cut_into_ranges(LineRange(str(path), 0, -1), lines_each=3))
    read = [[d.message for d in read_documents(each)[0]] for each in ranges]
    assert [["m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6"]] == read


def test_a_bad_line_is_rejected_with_its_place_and_its_neighbours_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_lines(path, LINE, {"text": "whose?"}, {**LINE, "message": "m2"})
    documents, rejected = read_documents(LineRange(str(path), 0, path.stat().st_size))
    assert ["m1", "m2"] == [d.message for d in documents]
    assert [len(json.dumps(LINE)) + 1] == [r.byte for r in rejected]


@given(text=st.text(alphabet=st.sampled_from("abc .\n!?Z(é"), max_size=400), at_most=st.integers(10, 60))
def test_passages_hold_every_word_in_order_and_none_is_too_long(text: str, at_most: int) -> None:
    passages = cut(Document("p", "c", "m", text), at_most)
    assert "".join(text.split()) == "".join("".join(p.text.split()) for p in passages)
    assert all(0 < len(p.text) <= at_most for p in passages)
    assert [f"p/c/m#{n}" for n in range(len(passages))] == [p.id for p in passages]


def test_a_passage_does_not_break_a_paragraph_that_fits() -> None:
    text = "One short paragraph here.\n\nAnother one that fits.\n\nA third."
    assert ["One short paragraph here.", "Another one that fits.\n\nA third."] == [
        p.text for p in cut(Document("p", "c", "m", text), 40)
    ]


def test_a_feed_offers_only_what_is_new(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", LINE)
    first = find_new_lines(tmp_path, {})
    done = {Path(r.path).name: r.end for r in first}
    assert () == find_new_lines(tmp_path, done)
    write_lines(tmp_path / "a.jsonl", {**LINE, "message": "m2"})
    write_lines(tmp_path / "b.jsonl", {**LINE, "message": "m3"})
    new = [d.message for r in find_new_lines(tmp_path, done) for d in read_documents(r)[0]]
    assert ["m2", "m3"] == new


def test_freshness_is_the_age_of_what_waits(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, 10, 1, tzinfo=UTC)
    assert Freshness(0, None, None) == measure_freshness(tmp_path, {}, now)
    write_lines(tmp_path / "a.jsonl", LINE, {**LINE, "message": "m2", "at": "2026-03-01T10:00:45Z"})
    assert Freshness(2, 15.0, 60.0) == measure_freshness(tmp_path, {}, now)
