"""A look at a store's manifest before RocksDB reads it: at one kind of damage RocksDB does not say that it is corrupt, but spins for
ever, and keeps the interpreter meanwhile.

A manifest is a log of blocks; a record begins with its checksum, its length and its type, and fits its block. One flipped bit makes
of the type of a whole record that of a recycled one, which our stores never write; RocksDB finds that record to be of another log,
skips nothing, and looks again. What else is wrong the checksums tell, and RocksDB tells us.
"""

import re
import struct
from pathlib import Path

_BLOCK_BYTES = 32 << 10
_NAME = re.compile(rb"MANIFEST-[0-9]{1,20}")
_HEADER = struct.Struct("<IHB")
_ZEROES = 0
_TYPES = (1, 2, 3, 4)
"""A record that is whole, or the first, a middle or the last part of one."""


def find_damage(store: Path) -> str:
    """What is wrong with the headers of the manifest that is in use; empty if nothing is."""
    current = store / "CURRENT"
    name = current.read_bytes().strip() if current.exists() else b""
    manifest = store / name.decode() if _NAME.fullmatch(name) else None
    if manifest is None or not manifest.exists():
        return ""  # a new store, or RocksDB says what is missing
    data, at = manifest.read_bytes(), 0
    while at + _HEADER.size <= len(data):
        room = _BLOCK_BYTES - at % _BLOCK_BYTES
        if room < _HEADER.size:
            at += room
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        if kind == _ZEROES:
            return ""  # the end, after a crash
        if kind not in _TYPES or _HEADER.size + length > room:
            return f"{manifest.name}: a record of type {kind} and {length} bytes at {at}, and {room} bytes are left of its block"
        at += _HEADER.size + length
    return ""
