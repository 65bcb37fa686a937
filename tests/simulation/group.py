"""The consumer group of a run: who tries which partition. Advice only, and sometimes late or wrong (R6).

Rules of this file: what is handed over in order is nobody's until it is acknowledged or its time is over; a member that is not heard
of for a session loses all it has, and learns of it when it asks.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from perdure.partitions.ports import Assigned, Lost, MembershipChange, Revoked

from .clock import WorldClock

SESSION_MS = 2_000
HAND_OVER_MS = 6_000
STANDBYS = 2
_AFTER_MS = 20

After = Callable[[int, Callable[[], None]], None]
"""Call something so many milliseconds from now."""


class Group:
    """Members by name, and what each is to be told. `wake` is called with the name of a member that has news."""

    def __init__(self, partition_count: int, clock: WorldClock, after: After, wake: Callable[[str], None]) -> None:
        self._clock = clock
        self._after = after
        self._wake = wake
        self._members: list[str] = []
        self._holders: dict[int, str | None] = dict.fromkeys(range(partition_count))
        self._revoking: dict[int, tuple[str, int]] = {}
        self._news: defaultdict[str, list[MembershipChange]] = defaultdict(list)
        self._deaf_until: dict[str, int] = {}
        self._turn = 0

    # For members.

    def poll(self, name: str) -> Sequence[MembershipChange]:
        if self._deaf_until.get(name, 0) > self._clock.now or name not in self._news:
            return ()
        return self._news.pop(name)

    def acknowledge(self, name: str, partitions: Sequence[int]) -> None:
        for partition in partitions:
            if self._revoking.get(partition, ("", 0))[0] == name:
                self._free(partition)
        self._balance()

    def leave(self, name: str) -> None:
        """A process stops, or its session is over."""
        if name not in self._members:
            return
        self._members.remove(name)
        for partition, holder in self._holders.items():
            if holder == name:
                self._free(partition)
        self._balance()

    def standing_by(self, name: str) -> dict[int, int]:
        """The partitions of others that a member keeps warm stores of, with its rank."""
        wanted: dict[int, int] = {}
        for partition, holder in self._holders.items():
            others = [member for member in self._members if member != holder]
            if holder is not None and name in others[:STANDBYS]:
                wanted[partition] = others.index(name)
        return wanted

    # For the world.

    def join(self, name: str) -> None:
        self._members.append(name)
        self._balance()

    def expire(self, name: str) -> None:
        """It was not heard of for a session. If it is still there it learns so, and joins again."""
        held = tuple(partition for partition, holder in self._holders.items() if holder == name)
        was_member = name in self._members
        self.leave(name)
        if was_member and held:
            self._tell(name, Lost(held))

    @property
    def members(self) -> list[str]:
        return list(self._members)

    def is_member(self, name: str) -> bool:
        return name in self._members

    def move(self) -> None:
        """Give everything to somebody else, in order."""
        self._turn += 1
        self._balance()

    def steal(self, partition: int, deaf_ms: int) -> bool:
        """Give a partition to another member at once; who had it learns so after a while. False: there is nobody else."""
        holder = self._holders[partition]
        others = [member for member in self._members if member != holder]
        if holder is None or not others:
            return False
        self._deaf_until[holder] = self._clock.now + deaf_ms
        self._tell(holder, Lost((partition,)))
        self._after(deaf_ms + 1, lambda: self._wake(holder))
        self._free(partition)
        self._give(partition, others[self._turn % len(others)])
        return True

    def _free(self, partition: int) -> None:
        self._holders[partition] = None
        self._revoking.pop(partition, None)

    def _give(self, partition: int, name: str) -> None:
        self._holders[partition] = name
        self._tell(name, Assigned((partition,)))

    def _tell(self, name: str, change: MembershipChange) -> None:
        self._news[name].append(change)
        self._after(_AFTER_MS, lambda: self._wake(name))

    def _balance(self) -> None:
        """Bring everything to whom it should belong."""
        if not self._members:
            return
        for partition, holder in self._holders.items():
            target = self._members[(partition + self._turn) % len(self._members)]
            if holder == target or partition in self._revoking:
                continue
            if holder is None:
                self._give(partition, target)
            else:
                self._revoking[partition] = (holder, self._turn)
                self._tell(holder, Revoked((partition,)))
                self._after(HAND_OVER_MS, self._give_up(partition, holder))

    def _give_up(self, partition: int, holder: str) -> Callable[[], None]:
        """After too long a hand-over the partition is taken away."""
        stamp = self._revoking[partition]

        def give_up() -> None:
            if self._revoking.get(partition) is stamp:
                self._tell(holder, Lost((partition,)))
                self._free(partition)
                self._balance()

        return give_up


class Member:
    """One process's membership (`partitions.ports.Membership`)."""

    def __init__(self, group: Group, name: str, strike: Callable[[], None]) -> None:
        self._group = group
        self._name = name
        self._strike = strike
        self._left = False

    def poll(self) -> Sequence[MembershipChange]:
        self._strike()
        if self._left:
            return ()
        if not self._group.is_member(self._name):
            self._group.join(self._name)  # its session was over while it stood still
        return self._group.poll(self._name)

    def standing_by(self) -> Mapping[int, int]:
        return self._group.standing_by(self._name)

    def acknowledge(self, partitions: Sequence[int]) -> None:
        self._strike()
        self._group.acknowledge(self._name, partitions)

    def leave(self) -> None:
        if not self._left:
            self._strike()
            self._left = True
            self._group.leave(self._name)

    def close(self) -> None:
        self.leave()
