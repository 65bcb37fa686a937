"""Which partition an instance lives on: murmur2 of its UTF-8 id, as Kafka's Java producer does by default (R9)."""

from functools import lru_cache
from struct import unpack_from

HASH = "murmur2"
_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit murmur2 of `data`, unsigned."""
    length = len(data)
    words = length >> 2
    value = _SEED ^ length
    for word in unpack_from(f"<{words}I", data):
        mixed = (word * _MIX) & _MASK
        value = ((value * _MIX) ^ ((mixed ^ (mixed >> 24)) * _MIX)) & _MASK
    if tail := data[words << 2 :]:
        value = ((value ^ int.from_bytes(tail, "little")) * _MIX) & _MASK
    value = ((value ^ (value >> 13)) * _MIX) & _MASK
    return value ^ (value >> 15)


@lru_cache(maxsize=16_384)
def partition_of(instance_id: str, count: int) -> int:
    """Return the partition of `instance_id` in a hub of `count` partitions."""
    return (murmur2(instance_id.encode()) & 0x7FFFFFFF) % count
