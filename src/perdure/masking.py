"""What this process writes for people: secrets are masked, and control characters are shown as escapes.

Rules of this file: whatever is written to a log or as an error passes `masked`; text that came from others passes `visible` too, so
that it can neither forge a line nor steer a terminal.
"""

import json
import re
import unicodedata
from collections.abc import Iterable

MASK = "********"
# A shorter word would be masked wherever it means something else.
SECRET_CHARS_MIN = 8
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s\"'@]*@")
# Controls, formats (marks of direction among them), halves of characters, private and unassigned ones, ends of lines.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_hidden: set[str] = set()


def hide(secrets: Iterable[str]) -> None:
    """Mask these from now on, wherever they turn up."""
    _hidden.update(secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN)


def masked(text: str) -> str:
    """The text without the secrets that are known here, and without what stands before the @ of an address."""
    for secret in _hidden:
        text = text.replace(secret, MASK)
    return _USERINFO.sub(rf"\1{MASK}@", text) if "://" in text else text


def visible(text: str, keep: str = "") -> str:
    """The text with an escape for every character that is not seen as itself, but those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in _INVISIBLE else _escape(character)
        for character in text
    )


def visible_json(text: str) -> str:
    """JSON in which such characters stand as escapes: the same value. Only its strings can hold them; the ends of its lines are kept."""
    if text.isprintable():
        return text
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and unicodedata.category(character) in _INVISIBLE
        else character
        for character in text
    )


def _escape(character: str) -> str:
    number = ord(character)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
    )
