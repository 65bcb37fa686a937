"""What this process writes for people: secrets are masked, and control characters are shown as escapes.

Rules of this file: whatever is written to a log or as an error passes `masked`; text that came from others passes `visible` too, so
that it can neither forge a line nor steer a terminal.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import quote

from perdure.schemas.events import NULL, Failure

MASK = "********"
# A shorter word would be masked wherever it means something else.
SECRET_CHARS_MIN = 8
# It looks back for the scheme, of which one character is enough: to look for a whole one takes the square of a long word's length.
_USERINFO = re.compile(r"(?<=[A-Za-z0-9+.-]://)[^/?#\s\"']*@")
_PEM_FRAME = re.compile(r"-----[^\n]*-----")
# Controls, formats (marks of direction among them), halves of characters, private and unassigned ones, ends of lines.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# The longest first: one secret may begin with another one.
_hidden: tuple[str, ...] = ()


def hide(secrets: Iterable[str]) -> None:
    """Mask these from now on, wherever they turn up and however they are written there."""
    global _hidden  # noqa: PLW0603 - what a process hides is the process's
    forms = {form for secret in secrets for form in _forms_of(secret)}
    _hidden = tuple(sorted({*_hidden, *forms}, key=lambda form: (-len(form), form)))


def masked(text: str) -> str:
    """The text without the secrets that are known here, and without what stands before the @ of an address."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, MASK)
    return _USERINFO.sub(f"{MASK}@", text) if "://" in text else text


def _forms_of(secret: str) -> set[str]:
    """A secret as a line may hold it: whole, or one line of it (of a key in PEM), and each as JSON, Python or an address write it."""
    lines = [line.strip() for line in secret.splitlines()]
    forms = {part for part in (secret, *lines) if len(part) >= SECRET_CHARS_MIN and not _PEM_FRAME.fullmatch(part)}
    for _ in range(2):  # a log in JSON of what Python wrote
        forms |= {write(form) for form in forms for write in _WRITINGS}
    return forms


def masked_failure(failure: Failure) -> Failure:
    """The same without them: what an activity says of its failure is kept for good, and read by whoever may ask."""
    cause = failure.cause and masked_failure(failure.cause)
    message, stack, details = masked(failure.message), masked(failure.stack), masked_json(failure.details)
    return replace(failure, message=message, stack=stack, cause=cause, details=details)


def masked_json(data: bytes) -> bytes:
    """JSON without them; null where a secret was part of its form."""
    text = masked(data.decode())
    try:
        json.loads(text)
    except ValueError:
        return NULL
    return text.encode()


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


def _as_python(text: str) -> str:
    """As it stands in the repr of a text that has both kinds of quotes."""
    return repr(text + "\"'")[1 : -len("\"\\''")]


_WRITINGS: tuple[Callable[[str], str], ...] = (
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    _as_python,
    visible,
    lambda text: quote(text, safe=""),
)
