"""Membership where there is nobody to share with, and who stands by for whom where there is."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b

from .ports import Assigned, MembershipChange


def rank_standbys(members: Mapping[str, Collection[int]], me: str, count: int) -> dict[int, int]:
    """The partitions of others that `me` stands by for, and its rank there, if each partition has `count` standbys.

    Every member comes to the same answer by itself, and one that comes or goes moves few standbys (rendezvous hashing).
    """
    ranks: dict[int, int] = {}
    for owner, partitions in members.items():
        others = [member for member in members if member != owner]
        for partition in partitions:
            first = sorted(others, key=lambda member: blake2b(f"{member}/{partition}".encode()).digest())[:count]
            if me in first:
                ranks[partition] = first.index(me)
    return ranks


class SoleMembership:
    """All partitions are ours from the first `poll` on (`partitions.ports.Membership`)."""

    def __init__(self, partition_count: int) -> None:
        self._changes: list[MembershipChange] = [Assigned(tuple(range(partition_count)))]

    def poll(self) -> Sequence[MembershipChange]:
        changes, self._changes = self._changes, []
        return changes

    def acknowledge(self, partitions: Sequence[int]) -> None:
        """Nothing is ever revoked."""

    def standing_by(self) -> Mapping[int, int]:
        return {}

    def leave(self) -> None:
        """Nobody waits for what we leave."""

    def close(self) -> None:
        """Nobody waits for what we leave."""
