"""Documents: one message of one conversation, from the two formats in which conversations come.

*JSONL*: one message a line, an object with "person", "conversation", "message", "text" and, if known, "title", "author" and
"at" (ISO 8601). Lines may be appended at any time.

*conversations.json*, as ChatGPT exports it: a list of conversations, each a tree of messages (`mapping`), because an
edited question or an answer asked for again begins a branch; `current_node` is the leaf that the person last saw. Every
branch becomes documents, since all of them were said and a deletion must reach them all; those off the way from the root
to `current_node` are marked `current=False`, and a search leaves them out unless asked. System messages, tool traffic,
hidden messages and empty ones are not memories and are left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_REQUIRED = ("person", "conversation", "message", "text")


@dataclass(frozen=True, slots=True)
class Document:
    """One message. Its `id` is the same whenever and from wherever it is read again, which makes writing it idempotent."""

    person: str
    conversation: str
    message: str
    text: str
    title: str = ""
    author: str = "user"
    at: str = ""
    current: bool = True

    @property
    def id(self) -> str:
        """The person comes first: no one's message can take the place of another's."""
        return f"{self.person}/{self.conversation}/{self.message}"


class BadDocument(ValueError):
    """Something in the input is not a document; the message says what was expected."""


def decode_line(fields: object) -> Document:
    """Read one line of JSONL, already parsed."""
    if not isinstance(fields, Mapping):
        raise BadDocument(f"expected an object, found {type(fields).__name__}")
    for name in _REQUIRED:
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadDocument(f"{name!r} must be a text that is not empty, found {value!r}")
    document = Document(
        **{name: fields[name] for name in _REQUIRED},
        title=str(fields.get("title") or ""),
        author=str(fields.get("author") or "user"),
        at=_normal_time(fields.get("at")),
        current=fields.get("current") is not False,
    )
    if "/" in document.person:
        raise BadDocument(f"'person' must not contain '/', found {document.person!r}")
    return document


def decode_chatgpt(conversation: Mapping[str, Any], person: str) -> Iterator[Document]:
    """Yield the documents of one exported conversation, all branches, in the order of the tree's mapping."""
    conversation_id = conversation.get("conversation_id") or conversation.get("id")
    mapping = conversation.get("mapping")
    if not isinstance(conversation_id, str) or not isinstance(mapping, Mapping):
        raise BadDocument("expected a conversation with 'conversation_id' (or 'id') and 'mapping'")
    seen = _way_to_root(mapping, conversation.get("current_node"))
    for node_id, node in mapping.items():
        message = node.get("message")
        text = _text_of(message)
        if not text:
            continue
        yield Document(
            person=person,
            conversation=conversation_id,
            message=node_id,
            text=text,
            title=str(conversation.get("title") or ""),
            author=message["author"]["role"],
            at=_normal_time(message.get("create_time") or conversation.get("create_time")),
            current=node_id in seen,
        )


def _way_to_root(mapping: Mapping[str, Any], leaf: object) -> frozenset[str]:
    """Return the nodes from `leaf` up to the root; all nodes where no leaf is named, for then there is one branch at most
    that anybody can call abandoned."""
    if not isinstance(leaf, str) or leaf not in mapping:
        return frozenset(mapping)
    way: set[str] = set()
    node: object = leaf
    while isinstance(node, str) and node in mapping and node not in way:
        way.add(node)
        node = mapping[node].get("parent")
    return frozenset(way)


def _text_of(message: object) -> str:
    """Return what a person or the assistant said in words, or nothing."""
    if not isinstance(message, Mapping):
        return ""
    author, content = message.get("author") or {}, message.get("content") or {}
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    if author.get("role") not in ("user", "assistant") or hidden:
        return ""
    if message.get("recipient", "all") != "all" or content.get("content_type") not in ("text", "multimodal_text"):
        return ""
    # A part that is not text is an image or a file: it has no words to index.
    return "\n".join(part for part in content.get("parts") or () if isinstance(part, str)).strip()


def _normal_time(value: object) -> str:
    """Return a time as ISO 8601 in UTC; nothing where none is known."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        moment = datetime.fromtimestamp(value, UTC)
    elif isinstance(value, str) and value:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise BadDocument(f"'at' must be a time in ISO 8601, found {value!r}") from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    else:
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
