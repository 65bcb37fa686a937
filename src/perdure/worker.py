"""Worker: one process's share of a hub. It follows the group's assignment, drives partition owners and activities on one engine
thread, and hands over when it is told to stop.

Rules of this file: the loop waits in one place; a fault of one partition closes that partition, loudly, and no other; nothing here
decides who owns a partition, the log does (R6).
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random
from threading import get_ident
from typing import Protocol, TypeVar

import structlog

from perdure.partitions.catch_up import PartitionRefused
from perdure.partitions.holdings import Code, OwnerParts, OwnerSettings
from perdure.partitions.local_activities import Activities, find_local
from perdure.partitions.owner import PartitionOwner, Phase
from perdure.partitions.place import PLACE
from perdure.partitions.pool import LocalPool, PoolSettings
from perdure.partitions.ports import (
    Assigned,
    HubMissing,
    HubRefused,
    Log,
    LogRecord,
    LogTruncated,
    LogUnavailable,
    Lost,
    Membership,
    Peers,
    Revoked,
    StoreCorrupt,
    StoreLocked,
    Stores,
    StoreUnavailable,
)
from perdure.partitions.watchdog import TurnWatchdog
from perdure.schemas.codec import UnknownFormat

from .clock import SystemClock
from .lookout import Lookout
from .standbys import StandbyParts, Standbys

T = TypeVar("T")

_log = structlog.get_logger("perdure.worker")
_CRASH_PAUSE_SECONDS = 0.5
_LOOK_SECONDS = 10.0
_LOOK_SECONDS_STANDING_IN = 1.0
_STEADY_SECONDS = 60.0
# Faults whose message says all that there is to say; of any other the stack is told.
_SAID = (
    PartitionRefused,
    UnknownFormat,
    HubRefused,
    HubMissing,
    LogTruncated,
    LogUnavailable,
    StoreCorrupt,
    StoreLocked,
    StoreUnavailable,
)
# Something is due and yet nothing can be done about it (an append is out): do not spin.
_BLOCKED_SECONDS = 0.001
_OVER = (Phase.RELEASED, Phase.CLOSED)


class RunnableApp(Code, Activities, Protocol):
    """What a worker runs: `actors.app.App`."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Limits and times of one worker process.

    `drain_seconds` is what activities get to end when the worker stops, `revoke_seconds` when only their partition moves; then
    `release_seconds_max` for the last records to be confirmed. `idle_seconds_max` bounds every wait. `dump_stacks` has the stacks
    of all threads on stderr where code keeps the whole interpreter; there is one such timer in a process.
    """

    owner: OwnerSettings
    pool: PoolSettings = field(default_factory=PoolSettings)
    drain_seconds: float = 30.0
    revoke_seconds: float = 5.0
    release_seconds_max: float = 10.0
    crash_pause_seconds_max: float = 60.0
    idle_seconds_max: float = 0.2
    records_per_round_max: int = 2_000
    dump_stacks: bool = False


@dataclass(slots=True)
class _HandOver:
    """A partition on its way out: by `deadline` its activities have ended or, once `releasing`, its last records are confirmed."""

    deadline: float
    revoked: bool
    releasing: bool = False
    assigned_again: bool = False


@dataclass(slots=True)
class Crashes:
    """How often a fault closed a partition here, and when it is tried again."""

    total: int = 0
    in_a_row: int = 0
    owned_at: float = float("inf")
    retry_at: float = float("inf")


class Worker:
    """Runs `app` on its share of the hub. `run` makes its thread the engine; `stop` may be called from any other. Log and
    stores are the caller's to close."""

    def __init__(
        self, app: RunnableApp, log: Log, membership: Membership, stores: Stores, settings: WorkerSettings
    ) -> None:
        self.log = log
        self.settings = settings
        self._watchdog: TurnWatchdog | None = None
        self._parts = self._make_parts(app, stores)
        self.clock, self.pool = self._parts.clock, self._parts.pool
        self.owners: dict[int, PartitionOwner] = {}
        self.crashes: defaultdict[int, Crashes] = defaultdict(Crashes)
        self.lookout = Lookout(log, self.clock)
        self.joined = False
        self.round_at = self.clock.monotonic()
        self._membership = membership
        self._stores = stores
        self._phases: dict[int, Phase] = {}
        self._hand_overs: dict[int, _HandOver] = {}
        self._standbys: Standbys | None = None
        self._standing_in: set[int] = set()
        self._orphaned: set[int] = set()
        self._look_at = 0.0
        self._stop_asked = False
        self._draining = False
        self._leaving = False

    def _make_parts(self, app: RunnableApp, stores: Stores) -> OwnerParts:
        """What the owners are given: real time and real activities. A simulation has its own."""
        clock = SystemClock()
        pool = LocalPool(find_local(app, clock), clock, self.log.wake, self.settings.pool)
        return OwnerParts(self.log, stores, pool, app, clock, Random(), self._watch_turn)  # noqa: S311

    def stand_by(self, peers: Peers) -> None:
        """Keep stores of others' partitions warm, and take over from owners that are gone. Call it before `run`."""
        ahead = self.settings.owner.snapshot_ahead_records
        parts = StandbyParts(self.log, self._stores, self._membership, peers, self.clock, ahead)
        self._standbys = Standbys(parts)

    @property
    def standing_by(self) -> Collection[int]:
        """The partitions of others whose stores are kept warm here, with a connection to their owners."""
        return self._standbys.warm if self._standbys is not None else ()

    def stop(self) -> None:
        """Take no new turns, let activities end, hand over, and return from `run`. Any thread may call it."""
        self.ask_to_stop()
        self.log.wake()

    def ask_to_stop(self) -> None:
        """`stop` for a signal handler, which may interrupt anything: it wakes nobody, and is seen within `idle_seconds_max`."""
        self._stop_asked = True

    def run(self) -> None:
        """Own and work until `stop`. Raises LogUnavailable if membership ends for good."""
        PLACE.engine, PLACE.hub = get_ident(), self.log.identity.hub
        seconds_max, dump_stacks = self.settings.owner.limits.turn_seconds_max, self.settings.dump_stacks
        self._watchdog = TurnWatchdog(seconds_max, dump_stacks=dump_stacks)
        try:
            while not (self._draining and not self.owners):
                if not self._round() and not self.pool.linger():
                    self.log.wait(self._wait_seconds())
        finally:
            self._leave()

    def _round(self) -> bool:
        """One round; False if there was nothing to do."""
        self.round_at = self.clock.monotonic()
        # 1. Who tries what, and whether we go on.
        self._follow_membership()
        if self._stop_asked and not self._draining:
            self._drain()
        # 2. Mail, to its owners.
        self._take_inbox()
        # 3. A round of each owner; it never blocks.
        worked = False
        for owner in self._owners_to_step():
            worked |= self._step(owner)
        # 4. Activities.
        worked |= self.pool.step()
        # 5. Stores that are kept warm, and owners that are gone.
        worked |= self._step_standbys()
        # 6. What is on its way out, and what is to be tried again.
        worked |= self._step_hand_overs()
        self._retry_crashed()
        self.lookout.look(self.owners)
        self._look_who_owns()
        return worked

    def _owners_to_step(self) -> list[PartitionOwner]:
        """All of them, and of those that recover the one that will be done first: the others wait no longer than they would together,
        and most of them less."""
        owners = list(self.owners.values())
        if self._draining and not self._leaving and all(each.releasing for each in self._hand_overs.values()):
            # We are about to leave, and nobody claims before; to close a store takes long.
            owners = [owner for owner in owners if owner.phase != Phase.RELEASED]
        recovering = [owner for owner in owners if owner.phase == Phase.RECOVERING]
        if len(recovering) < 2:
            return owners
        first = min(recovering, key=lambda owner: owner.left_to_recover)
        return [owner for owner in owners if owner is first or owner.phase != Phase.RECOVERING]

    def _watch_turn(self, act: Callable[[], T], /) -> T:
        assert self._watchdog is not None
        return self._watchdog.watch(act)

    def _wait_seconds(self) -> float:
        """Until the next thing that is due without any message."""
        limit = self.settings.idle_seconds_max
        for owner in self.owners.values():
            due_ms = owner.next_due_ms()
            if due_ms is not None:
                limit = min(limit, max(due_ms / 1000, _BLOCKED_SECONDS))
        if self._standbys is not None:
            limit = self._standbys.wait_seconds(limit)
        return self.pool.wait_seconds(limit)

    def _leave(self) -> None:
        """Let go of everything; at the end of an orderly stop there is nothing left to let go of."""
        for partition in list(self.owners):
            self._close(partition)
        # Standbys of others learn now that we are gone; what we had was handed over, or is theirs to claim.
        if self._standbys is not None:
            self._standbys.close()
        self._membership.close()
        self.pool.close(0)
        if self._watchdog is not None:
            self._watchdog.close()
        PLACE.leave()

    # Membership.

    def _follow_membership(self) -> None:
        for change in self._membership.poll():
            match change:
                case Assigned(partitions):
                    for partition in partitions:
                        self._assign(partition)
                    self._cancel_orphans()
                    self.joined = True  # last: who asks meanwhile must not find us ready without our share
                case Revoked(partitions):
                    until = self.clock.monotonic() + self.settings.revoke_seconds
                    for partition in partitions:
                        self._hand_over(partition, until, revoked=True)
                case Lost(partitions):
                    self.joined = False  # until the group has an answer for us again
                    for partition in partitions:
                        self._lose(partition)

    def _assign(self, partition: int) -> None:
        leaving = self._hand_overs.get(partition)
        if leaving is not None:
            leaving.assigned_again = True  # it is ours again once it is handed over
        stood_in = partition in self._standing_in
        self._standing_in.discard(partition)
        if self._draining or (partition in self.owners and not (stood_in and leaving is None)):
            return
        _log.info("partition.assigned", partition=partition)
        if partition in self.owners:
            self._mean_it(self.owners[partition])
        else:
            self._try(partition)

    def _mean_it(self, owner: PartitionOwner) -> None:
        """Where we stood in, another may have come and gone since, and nobody told us."""
        try:
            owner.assign_again()
        except LogUnavailable:
            self._let_go(owner, owner.abandon)
            self._try(owner.partition)

    def _lose(self, partition: int) -> None:
        """Let go at once, but of its activities: where only the brokers were away nobody else has it, and it comes back."""
        owner = self.owners.get(partition)
        if owner is not None:
            _log.warning("partition.lost", partition=partition, activities_running=self.pool.running_count(partition))
            self._let_go(owner, owner.abandon)
            self._orphaned.add(partition)
        self._remove(partition)

    def _cancel_orphans(self) -> None:
        """The group has spoken again: what it did not give back has another owner, who runs it."""
        for partition in self._orphaned.difference(self.owners):
            self._parts.give_up(partition)
        self._orphaned.clear()

    def _try(self, partition: int) -> None:
        if self._standbys is not None:
            self._standbys.leave(partition)
        self.owners[partition] = PartitionOwner(partition, self._parts, self.settings.owner)

    def _step_standbys(self) -> bool:
        """Follow others' partitions; stand in for owners that are gone until the group has noticed (R6)."""
        standbys = self._standbys
        if standbys is None:
            return False
        for partition in [each for each in self._standing_in if self._is_deposed(each)]:
            # Somebody else claimed it, who is more likely to be meant: the group gave it to us never.
            self._close(partition)
            self._forget(partition)
        worked = standbys.step(self.owners)
        for partition in () if self._draining else standbys.take_due():
            _log.warning("partition.standing_in", partition=partition)
            self._standing_in.add(partition)
            self._try(partition)
        return worked

    def _look_who_owns(self) -> None:
        """Where we stand in, the group may have given the partition to another; where we own, another may stand in. Nobody tells us,
        and the timers and activities of who stood in and then died would be nobody's (R6). May take a moment."""
        now = self.clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + (_LOOK_SECONDS_STANDING_IN if self._standing_in else _LOOK_SECONDS)
        try:
            for owner in self.owners.values():
                owner.notice_others()
        except LogUnavailable:
            self._look_at = now + _LOOK_SECONDS

    def _is_deposed(self, partition: int) -> bool:
        owner = self.owners.get(partition)
        return owner is None or owner.phase == Phase.STANDBY

    def _drain(self) -> None:
        """Stop: every partition is handed over, and what is queued runs elsewhere."""
        self._draining = True
        self.pool.drain()
        until = self.clock.monotonic() + self.settings.drain_seconds
        _log.info("worker.draining", partitions=sorted(self.owners), seconds_max=self.settings.drain_seconds)
        for partition in list(self.owners):
            self._hand_over(partition, until, revoked=False)

    def _hand_over(self, partition: int, until: float, *, revoked: bool) -> None:
        owner = self.owners.get(partition)
        known = self._hand_overs.get(partition)
        if known is not None:
            known.revoked |= revoked
            known.deadline = known.deadline if known.releasing else min(known.deadline, until)
        elif owner is not None:
            self._hand_overs[partition] = _HandOver(until, revoked)
            owner.drain()
        else:  # closed by a fault, and not ours to try again
            self._forget(partition)
            self._membership.acknowledge([partition])

    def _step_hand_overs(self) -> bool:
        """Others may claim what is released (R5): they are told before the stores are closed."""
        worked = False
        for partition, leaving in list(self._hand_overs.items()):
            owner, now = self.owners[partition], self.clock.monotonic()
            if leaving.revoked and owner.phase in _OVER:
                leaving.revoked = False
                self._parts.give_up(partition)
                self._membership.acknowledge([partition])
            if owner.phase == Phase.CLOSED:
                self._forget(partition)
                if leaving.assigned_again:
                    self._assign(partition)
                worked = True
            elif leaving.releasing:
                if now >= leaving.deadline and owner.phase != Phase.RELEASED:
                    _log.warning("partition.release_not_confirmed", partition=partition)
                    self._close(partition)
            elif now >= leaving.deadline or not self.pool.running_count(partition):
                leaving.releasing, leaving.deadline = True, now + self.settings.release_seconds_max
                self._guard(owner, owner.release)
                worked = True
        if self._draining and not self._leaving and all(owner.phase in _OVER for owner in self.owners.values()):
            self._leaving = True
            for partition in self.owners:
                self._parts.give_up(partition)
            self._membership.leave()
            worked = True
        return worked

    def _forget(self, partition: int) -> None:
        """Not ours any more, nor is what still runs of it."""
        self._parts.give_up(partition)
        self._remove(partition)

    def _remove(self, partition: int) -> None:
        self.owners.pop(partition, None)
        self._hand_overs.pop(partition, None)
        self._standing_in.discard(partition)
        self._phases.pop(partition, None)
        self.lookout.forget(partition)
        self.crashes[partition].retry_at = float("inf")

    # Owners.

    def _take_inbox(self) -> None:
        mail: defaultdict[int, list[LogRecord]] = defaultdict(list)
        for partition, record in self.log.inbox.take(self.settings.records_per_round_max):
            mail[partition].append(record)
        for partition, records in mail.items():
            if (owner := self.owners.get(partition)) is not None:
                owner.receive(records)
        for partition, fault in self.log.inbox.take_faults():
            if (owner := self.owners.get(partition)) is not None:
                self._crash(owner, fault)

    def _step(self, owner: PartitionOwner) -> bool:
        PLACE.enter(owner.partition)
        worked = self._guard(owner, owner.step)
        if self._phases.get(owner.partition) is not owner.phase:
            self._note_phase(owner)
        PLACE.leave()
        return bool(worked)

    def _note_phase(self, owner: PartitionOwner) -> None:
        before, now = self._phases.get(owner.partition), owner.phase
        self._phases[owner.partition] = now
        if now == Phase.OWNING:
            self.crashes[owner.partition].owned_at = self.clock.monotonic()
            _log.info("partition.owned", partition=owner.partition, records_recovered=owner.counts.recovered_records)
        elif before == Phase.OWNING and now == Phase.FENCED:
            _log.warning("partition.epoch_lost", partition=owner.partition, reason=owner.epoch_ended_by)
        elif now == Phase.STANDBY:
            _log.warning("partition.standby", partition=owner.partition, reason=owner.epoch_ended_by)
        else:
            _log.debug("partition.phase", partition=owner.partition, phase=now.name.lower())

    def _guard(self, owner: PartitionOwner, act: Callable[[], bool | None]) -> bool:
        """Do something of one partition; whatever it raises closes that partition and no other."""
        try:
            return bool(act())
        except Exception as error:  # noqa: BLE001 - a bug of ours too: it must not take the other partitions with it
            self._crash(owner, error)
            return True

    def _crash(self, owner: PartitionOwner, error: Exception) -> None:
        partition, now = owner.partition, self.clock.monotonic()
        crashes = self.crashes[partition]
        steady = now - crashes.owned_at > _STEADY_SECONDS
        crashes.total += 1
        crashes.in_a_row = 1 if steady else crashes.in_a_row + 1
        crashes.owned_at = float("inf")
        pause = min(_CRASH_PAUSE_SECONDS * 2 ** (crashes.in_a_row - 1), self.settings.crash_pause_seconds_max)
        if isinstance(error, _SAID):
            kind, reason = type(error).__name__, str(error)
            _log.error("partition.closed", partition=partition, again_in_seconds=pause, kind=kind, reason=reason)
        else:
            _log.error("partition.crashed", partition=partition, again_in_seconds=pause, exc_info=error)
        self._let_go(owner, owner.abandon)
        leaving = self._hand_overs.get(partition)
        if leaving is not None:
            return  # closed now, so the next step of the hand-over ends it
        del self.owners[partition]
        self._phases.pop(partition, None)
        crashes.retry_at = now + pause
        if isinstance(error, StoreCorrupt):
            self._discard(partition)

    def _close(self, partition: int) -> None:
        """Let go at once, of activities too."""
        owner = self.owners.get(partition)
        if owner is not None:
            self._let_go(owner, owner.close)

    def _let_go(self, owner: PartitionOwner, close: Callable[[], None]) -> None:
        try:
            close()
        except Exception as error:  # noqa: BLE001 - what cannot be closed is lost anyway; the others go on
            _log.error("partition.close_failed", partition=owner.partition, exc_info=error)
            owner.phase = Phase.CLOSED

    def _discard(self, partition: int) -> None:
        try:
            self._stores.discard(partition)
        except Exception as error:  # noqa: BLE001 - it is found corrupt again, and tried again
            _log.error("store.discard_failed", partition=partition, exc_info=error)

    def _retry_crashed(self) -> None:
        now = self.clock.monotonic()
        for partition, crashes in self.crashes.items():
            if now >= crashes.retry_at:
                crashes.retry_at = float("inf")
                self._assign(partition)
