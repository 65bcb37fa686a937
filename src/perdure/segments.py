"""Names as segments of a URL's path: whatever they hold, they are one segment and mean no folder."""

from urllib.parse import quote, unquote


def to_segment(name: str) -> str:
    """Percent-encoded; dots too, where they would mean a folder."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")


def from_segment(segment: str) -> str:
    """The name. Raises ValueError for escapes that are no UTF-8, of which two would be one."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"the path is percent-encoded UTF-8; {segment!r:.60} is none") from error
