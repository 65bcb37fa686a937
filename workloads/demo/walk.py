"""An independent walk of the demo's input: which documents there must be, found without any code of the index.

The index parses modules and follows a tree of messages; this looks at tokens and at a flat list, so that a mistake would
have to be made twice, differently.
"""

import json
import pydoc_data.topics
import tokenize
from pathlib import Path

from .inputs import CONVERSATIONS, CONVERSATIONS_PERSON, PERSON, module_files

_SKIPPED = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE}


def expected_ids() -> frozenset[str]:
    """Return the id of every document that the index must hold, and no other."""
    topics = (f"{PERSON}/topics/{name}" for name in pydoc_data.topics.topics)
    modules = (f"{PERSON}/modules/{name}" for name, path in module_files() if _begins_with_a_text(path))
    return frozenset([*topics, *modules, *_spoken(CONVERSATIONS)])


def _begins_with_a_text(path: Path) -> bool:
    with path.open("rb") as file:
        first = next(token for token in tokenize.tokenize(file.readline) if token.type not in _SKIPPED)
    return first.type == tokenize.STRING and bool(first.string.strip("rRuU\"' \n"))


def _spoken(export: Path) -> list[str]:
    ids = []
    for conversation in json.loads(export.read_text("utf-8")):
        for node in conversation["mapping"].values():
            said = node["message"] and node["message"]["author"]["role"] in ("user", "assistant")
            if said and node["message"]["recipient"] == "all" and any(node["message"]["content"].get("parts", ())):
                ids.append(f"{CONVERSATIONS_PERSON}/{conversation['id']}/{node['message']['id']}")
    return ids
