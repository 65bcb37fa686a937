"""Cut documents into passages short enough to be one thought and long enough to be found."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workloads.extractive import split_sentences

from .documents import Document

PASSAGE_CHARACTERS = 900
_BLANK_LINES = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document. `id` is the document's id and the place in it, so the same text always has the same ids."""

    id: str
    document_id: str
    person: str
    title: str
    author: str
    at: str
    current: bool
    text: str


def cut(document: Document, at_most: int = PASSAGE_CHARACTERS) -> tuple[Passage, ...]:
    """Cut one document into passages of whole paragraphs where they fit, else whole sentences, else words."""
    return tuple(
        Passage(
            id=f"{document.id}#{number}",
            document_id=document.id,
            person=document.person,
            title=document.title,
            author=document.author,
            at=document.at,
            current=document.current,
            text=text,
        )
        for number, text in enumerate(_pack(_pieces(document.text, at_most), at_most))
    )


def _pack(pieces: Iterator[tuple[str, str]], at_most: int) -> Iterator[str]:
    """Join neighbouring pieces as long as they fit together."""
    passage = ""
    for joint, piece in pieces:
        if passage and len(passage) + len(joint) + len(piece) > at_most:
            yield passage
            passage = piece
        else:
            passage = f"{passage}{joint}{piece}" if passage else piece
    if passage:
        yield passage


def _pieces(text: str, at_most: int) -> Iterator[tuple[str, str]]:
    """Yield (what joins it to the piece before, piece); each piece is at most `at_most` characters long."""
    for paragraph in _BLANK_LINES.split(text):
        kept = paragraph.strip("\n").rstrip()
        if not kept.strip():
            continue
        if len(kept) <= at_most:
            yield "\n\n", kept
            continue
        for joint, sentence in zip(_joints(), split_sentences(kept), strict=False):
            yield from _windows(joint, sentence, at_most)


def _joints() -> Iterator[str]:
    yield "\n\n"
    while True:
        yield " "


def _windows(joint: str, sentence: str, at_most: int) -> Iterator[tuple[str, str]]:
    while len(sentence) > at_most:
        end = sentence.rfind(" ", 1, at_most + 1)
        end = end if end > 0 else at_most
        yield joint, sentence[:end]
        joint, sentence = " ", sentence[end:].lstrip()
    yield joint, sentence
