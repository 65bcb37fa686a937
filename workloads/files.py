"""Small files that are replaced in one step."""

import hashlib
import os
import time
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, synced: a reader or a crash sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with passing.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    passing.replace(path)


def digest_of(text: str) -> str:
    """Return a short name for `text` that is safe in a path and does not give it away."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
