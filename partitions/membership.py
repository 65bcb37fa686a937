"""Membership where there is nobody to share with: the embedded log and the one in memory."""

from collections.abc import Sequence

from .ports import Assigned, MembershipChange


class SoleMembership:
    """All partitions are ours from the first `poll` on (`partitions.ports.Membership`)."""

    def __init__(self, partition_count: int) -> None:
        self._changes: list[MembershipChange] = [Assigned(tuple(range(partition_count)))]

    def poll(self) -> Sequence[MembershipChange]:
        changes, self._changes = self._changes, []
        return changes

    def acknowledge(self, partitions: Sequence[int]) -> None:
        """Nothing is ever revoked."""

    def close(self) -> None:
        """Nobody waits for what we leave."""
