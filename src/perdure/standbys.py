"""Standbys: the warm stores that one process keeps of others' partitions, and which of them it takes over when an owner is gone.

Rules of this file: the log fences, so a claim too many costs a change of epoch and nothing else; who stopped in order is left to the
group; of several standbys the first in rank claims first, and the others see its claim.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import structlog

from perdure.partitions.ports import (
    Clock,
    Log,
    LogRecord,
    LogTruncated,
    LogUnavailable,
    Membership,
    Peers,
    StoreCorrupt,
    Stores,
    StoreUnavailable,
)
from perdure.partitions.standby import Standby

_log = structlog.get_logger("perdure.standbys")
LOOK_SECONDS = 1.0
RANK_SECONDS = 0.25
PAUSE_SECONDS = 5.0
# A store that is opened or follows late learns only then that its owner is one that is gone. After this the group knows as well.
GONE_SECONDS = 10.0
RECORDS_PER_ROUND_MAX = 5_000


@dataclass(frozen=True, slots=True)
class StandbyParts:
    """What standbys are made of."""

    log: Log
    stores: Stores
    membership: Membership
    peers: Peers
    clock: Clock
    snapshot_ahead_records: int


@dataclass(slots=True)
class _Post:
    """One partition that is stood by for. `claim_at` is when it is to be taken over from `gone`."""

    standby: Standby
    rank: int
    gone: str = ""
    claim_at: float = field(default=float("inf"))


@dataclass(slots=True)
class _Gone:
    """An owner that is gone since some time, and the partitions that are taken over from it: each once, since it may live."""

    since: float
    planned: set[int] = field(default_factory=set[int])


class Standbys:
    """Driven by the worker's rounds, on its engine thread."""

    def __init__(self, parts: StandbyParts) -> None:
        self._parts = parts
        self._posts: dict[int, _Post] = {}
        self._paused_until: defaultdict[int, float] = defaultdict(float)
        self._gone: dict[str, _Gone] = {}
        self._look_at = 0.0

    @property
    def warm(self) -> Collection[int]:
        """Those whose log is followed, with a connection to their owner."""
        reached = self._parts.peers.reached
        owners = {partition: post.standby.owner for partition, post in self._posts.copy().items()}
        return [partition for partition, owner in owners.items() if owner is not None and owner.owner in reached]

    def step(self, owned: Collection[int]) -> bool:
        """Follow the logs; true if there was anything to follow."""
        now = self._parts.clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(owned, now)
        self._hear()
        worked = self._read()
        for partition in list(self._posts):
            worked |= self._advance(partition)
        return worked

    def take_due(self) -> list[int]:
        """Partitions whose owner is gone: their standbys are closed, and they are to be claimed now."""
        now = self._parts.clock.monotonic()
        due = [partition for partition, post in self._posts.items() if now >= post.claim_at]
        taken = [partition for partition in due if self._is_vacant(self._posts[partition])]
        for partition in due:
            if partition in taken:
                self.leave(partition)
            else:
                self._posts[partition].claim_at = float("inf")
        return taken

    def wait_seconds(self, limit_seconds: float) -> float:
        """How long the engine may wait until something is due here."""
        now = self._parts.clock.monotonic()
        soonest = min((post.claim_at for post in self._posts.values()), default=float("inf"))
        return max(0.0, min(limit_seconds, soonest - now))

    def leave(self, partition: int) -> None:
        """Stand by for it no longer; its store is free."""
        post = self._posts.pop(partition, None)
        if post is not None:
            post.standby.close()

    def close(self) -> None:
        for partition in list(self._posts):
            self.leave(partition)
        self._parts.peers.close()

    def _look(self, owned: Collection[int], now: float) -> None:
        """Who stands by for what may have changed, and who owns it too."""
        parts = self._parts
        wanted = {
            partition: rank for partition, rank in parts.membership.standing_by().items() if partition not in owned
        }
        for partition in [each for each in self._posts if each not in wanted]:
            self.leave(partition)
        for partition, rank in wanted.items():
            if partition in self._posts:
                self._posts[partition].rank = rank
            elif now >= self._paused_until[partition]:
                standby = Standby(partition, parts.log, parts.stores, parts.snapshot_ahead_records)
                self._posts[partition] = _Post(standby, rank)
                _log.info("standby.begun", partition=partition, rank=rank)

    def _hear(self) -> None:
        """Watch the owners of all that is stood by for; plan to take over from those that are gone."""
        peers, now = self._parts.peers, self._parts.clock.monotonic()
        seen = [post.standby.owner for post in self._posts.values()]
        peers.watch({each.owner: each.address for each in seen if each is not None and each.address})
        self._gone.update((owner, _Gone(now)) for owner in peers.take_gone())
        self._gone = {owner: gone for owner, gone in self._gone.items() if now < gone.since + GONE_SECONDS}
        for partition, post in self._posts.items() if self._gone else ():
            owner = post.standby.owner
            gone = self._gone.get(owner.owner) if owner is not None else None
            if owner is None or gone is None or partition in gone.planned:
                continue
            gone.planned.add(partition)
            post.gone, post.claim_at = owner.owner, now + post.rank * RANK_SECONDS
            _log.warning("standby.owner_gone", partition=partition, owner=owner.owner, rank=post.rank)

    def _is_vacant(self, post: _Post) -> bool:
        """The one that is gone is still the last who claimed, and did not hand over."""
        owner = post.standby.owner
        return owner is not None and owner.owner == post.gone and not post.standby.handed_over

    def _read(self) -> bool:
        tail = self._parts.log.tail
        if tail is None:
            return False
        records: defaultdict[int, list[LogRecord]] = defaultdict(list)
        for partition, record in tail.take(RECORDS_PER_ROUND_MAX):
            records[partition].append(record)
        for partition, received in records.items():
            if (post := self._posts.get(partition)) is not None:
                post.standby.receive(received)
        self._begin_anew(partition for partition, _ in tail.take_faults())
        return bool(records)

    def _advance(self, partition: int) -> bool:
        try:
            return self._posts[partition].standby.step()
        except LogUnavailable as error:
            self._pause(partition, error)
        except LogTruncated as error:
            # It was slower than its owner's retention, and begins anew at the base (R15).
            _log.warning("standby.behind", partition=partition, reason=str(error))
            self._pause(partition, error)
        except Exception as error:  # noqa: BLE001 - a fault of one standby closes that standby and nothing else
            _log.warning("standby.failed", partition=partition, exc_info=error)
            self._pause(partition, error)
        return False

    def _pause(self, partition: int, error: Exception) -> None:
        """Close it and try again later."""
        self._paused_until[partition] = self._parts.clock.monotonic() + PAUSE_SECONDS
        self.leave(partition)
        if isinstance(error, StoreCorrupt):
            try:
                self._parts.stores.discard(partition)
            except StoreUnavailable as trouble:  # it is found corrupt again, and tried again
                _log.warning("standby.not_discarded", partition=partition, reason=str(trouble))

    def _begin_anew(self, partitions: Iterable[int]) -> None:
        """The log ends before where they were: their stores are of something that was lost."""
        for partition in partitions:
            self.leave(partition)
