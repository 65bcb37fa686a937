"""Holdings: everything of a partition that its owner works with while it owns it, made from what recovery restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from perdure.actors.executor import Executor
from perdure.actors.limits import Limits
from perdure.schemas.codec import WireError, decode_inbound
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.messages import Inbound, TaskLost
from perdure.schemas.records import DEAD_LETTER

from .activities import ActivityPool
from .archive import Archive
from .catch_up import PartitionRefused
from .durations import Durations
from .fold import Fold
from .instances import Instances, SlotBounds, Watch
from .intake import Intake
from .keys import ACTIVITY, LOCAL, OUTBOX, end_of, parse_activity_key, parse_outbox_key
from .ledger import decode_due_activity
from .notices import Notices
from .outbox import Outbox, decode_dead_letter
from .ports import Clock, Log, Store, Stores
from .queries import Queries, Replies
from .recovery import Recovered
from .skew import Admission, lead_ms
from .suspects import Lost, Solitude
from .timers import TimerQueue

CLOCK_SKEW_MS_MAX = 60_000


class Code(Protocol):
    """Where live code comes from: `actors.app.App`."""

    def executor(self, instance_id: str, started: ExecutionStarted) -> Executor: ...


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """Limits and intervals of an owner; the defaults are DESIGN.md's. `retention_seconds` is how long ended instances are kept, and
    what was purged stays in the log; None keeps every history for ever (R15). `alone`: no other process can own the partition, so its
    format level is raised without being asked (R12)."""

    owner: str
    address: str = ""
    inbox_topic: str = "inbox"
    limits: Limits = field(default_factory=Limits)
    appends_in_flight_max: int = 5_000
    appends_bytes_max: int = 64_000_000
    undispatched_max: int = 2_000
    round_messages_max: int = 500
    inbox_depth_max: int = 5_000
    inbox_bytes_max: int = 64_000_000
    outbox_depth_max: int = 10_000
    outbox_bytes_max: int = 64_000_000
    slots_max: int = 10_000
    slots_bytes_max: int = 64_000_000
    checkpoint_turns_max: int = 5_000
    checkpoint_bytes_max: int = 20_000_000
    checkpoint_seconds_max: float = 60.0
    append_seconds_max: float = 30.0
    session_seconds: float = 6.0
    pause_seconds_max: float = 0.5
    clock_skew_ms_max: int = CLOCK_SKEW_MS_MAX
    snapshot_records_min: int = 2_000
    retention_seconds: float | None = None
    replay_always: bool = False
    alone: bool = False

    @property
    def snapshot_ahead_records(self) -> int:
        """How many records a snapshot must spare to be worth its download."""
        return self.snapshot_records_min // 2


@dataclass(frozen=True, slots=True)
class OwnerParts:
    """What an owner is given, the same for all partitions of a process. `watch_turn` runs every turn of author's code, so that one
    without end is interrupted."""

    log: Log
    stores: Stores
    pool: ActivityPool
    code: Code
    clock: Clock
    random: Random
    watch_turn: Watch
    solitude: Solitude = field(default_factory=Solitude)
    admission: Admission = field(default_factory=Admission)

    def give_up(self, partition: int) -> None:
        """Cancel everything that runs of `partition`: another process owns it now."""
        self.pool.cancel_partition(partition)
        self.solitude.leave(partition)


@dataclass(slots=True)
class Counts:
    """Plain counters of one partition; the metrics collector reads them."""

    turns: int = 0
    records: int = 0
    confirmed: int = 0
    append_times: Durations = field(default_factory=Durations)
    turn_times: Durations = field(default_factory=Durations)
    timers_fired: int = 0
    timer_lateness: Durations = field(default_factory=Durations)
    duplicates: int = 0
    out_of_order: int = 0
    results_dropped: int = 0
    forwarded: int = 0
    dead_letters: int = 0
    epochs_lost: int = 0
    activities_dispatched: int = 0
    activities_failed: int = 0
    activities_retried: int = 0
    instances_started: int = 0
    instances_ended: int = 0
    checkpoints: int = 0
    snapshots: int = 0
    expired: int = 0
    carried: int = 0
    bases: int = 0
    recovered_records: int = 0


class PartitionTime:
    """R11: the greater of the wall clock and the last known time plus the monotonic time since, so that it neither runs backwards
    nor stands still, whatever is done to the wall clock.

    What it shows it shows for ever, since time is in the records. So a wall clock that has leapt ahead by more than `leap_ms_max` is
    not believed: it may have been set wrong, or the machine was suspended. Whoever claims anew asks the log which it is.
    """

    def __init__(self, clock: Clock, last_ms: int, leap_ms_max: int = CLOCK_SKEW_MS_MAX) -> None:
        self._clock = clock
        self._leap_ms_max = leap_ms_max
        self._since = clock.monotonic()
        self._lead_ms = lead_ms(clock)
        self._base_ms = max(last_ms, clock.wall_ms())
        self.leap_ms = 0
        """By how much the wall clock has leapt ahead, where that is too much; the time of the log does not follow it."""

    def now_ms(self) -> int:
        monotonic, wall_ms = self._clock.monotonic(), self._clock.wall_ms()
        now_ms = self._base_ms + round((monotonic - self._since) * 1000)
        leap_ms = wall_ms - round(monotonic * 1000) - self._lead_ms
        self.leap_ms = leap_ms if leap_ms > self._leap_ms_max else 0
        if wall_ms <= now_ms or self.leap_ms:
            return now_ms
        # From here on this is the last known time: a clock that is set back does not take it back.
        self._base_ms, self._since = wall_ms, monotonic
        return wall_ms


class Holdings:
    """One partition in its owner's hands. Dropped whole when the epoch ends."""

    def __init__(
        self, partition: int, recovered: Recovered, parts: OwnerParts, settings: OwnerSettings, counts: Counts
    ) -> None:
        self.partition, self.parts, self.settings, self.counts = partition, parts, settings, counts
        self.store: Store = recovered.store
        self.identity = parts.log.identity
        self.fold = Fold(recovered.store, self.identity, partition, recovered.anchor, recovered.state)
        self.time = PartitionTime(parts.clock, recovered.state.time_ms, settings.clock_skew_ms_max)
        self.instances = Instances(
            recovered.store, SlotBounds(settings.slots_max, settings.slots_bytes_max), parts.watch_turn
        )
        self.timers = TimerQueue(recovered.store, self.time.now_ms())
        self.notices = Notices(parts.clock, partition=partition)
        self.replies = Replies(parts.log.publisher, partition)
        self.queries = Queries(recovered.store, partition, self.replies, parts.clock)
        self.outbox = Outbox(parts.log.publisher)
        self.archive = Archive(
            parts.log.snapshots, partition, recovered.store, settings.snapshot_records_min, self._count_snapshot
        )
        self.intake = Intake(settings.inbox_topic, partition, self.identity, recovered.state, settings.limits)
        self.intake.bytes_max = max(self.intake.bytes_max, parts.log.record_bytes_max)
        self._restore_outbox()

    def _count_snapshot(self) -> None:
        self.counts.snapshots += 1

    @property
    def outbox_is_full(self) -> bool:
        """True while no message should be taken that could make for more sends (R10)."""
        settings = self.settings
        return self.outbox.depth >= settings.outbox_depth_max or self.outbox.bytes >= settings.outbox_bytes_max

    def _restore_outbox(self) -> None:
        for key, message in self.store.scan(OUTBOX, end_of(OUTBOX)):
            target, sequence = parse_outbox_key(key)
            with self._of_the_history(sequence):
                self.outbox.offer(target, sequence, _receiver_of(target, message), message)

    def read_locals(self) -> list[tuple[int, Inbound]]:
        """Sends to ourselves that no turn has taken."""
        locals_: list[tuple[int, Inbound]] = []
        for key, message in self.store.scan(LOCAL, end_of(LOCAL)):
            sequence = int.from_bytes(key[1:], "big")
            with self._of_the_history(sequence):
                locals_.append((sequence, decode_inbound(message)))
        return locals_

    @contextmanager
    def _of_the_history(self, sequence: int) -> Iterator[None]:
        """What is sent was decided by whoever may write the history, which is checked as everything is that is read there."""
        try:
            yield
        except (WireError, ValueError, AssertionError, AttributeError) as error:
            raise PartitionRefused(
                f"the history of partition {self.partition} says to send what no owner would, as number {sequence}: {error}"
            ) from error

    def read_lost(self) -> Lost:
        """Activities that were dispatched before and are not running here."""
        running = self.parts.pool.running(self.partition)
        wanted: set[tuple[str, str, int]] = set()
        lost = Lost()
        for key, value in self.store.scan(ACTIVITY, end_of(ACTIVITY)):
            instance_id, execution_id, task_id = parse_activity_key(key)
            due = decode_due_activity(value)
            if (instance_id, execution_id, task_id, due.attempt) in running:
                wanted.add((instance_id, execution_id, task_id))
                continue
            released = due.offset >= self.fold.state.alive_since
            lost.add(instance_id, TaskLost(execution_id, task_id, due.attempt, released), due.lost)
        for instance_id, execution_id, task_id, _ in running:
            # Another owner, in between, has dispatched it again or seen it end.
            if (instance_id, execution_id, task_id) not in wanted:
                self.parts.pool.cancel(self.partition, instance_id, execution_id, task_id)
        return lost

    def keep_tried(self) -> None:
        """Those suspects that run on keep their places when the epoch ends."""
        running = self.parts.pool.running(self.partition)

        def runs(lost: Inbound) -> bool:
            assert isinstance(lost.body, TaskLost)
            return (lost.instance_id, lost.body.execution_id, lost.body.task_id, lost.body.attempt + 1) in running

        self.parts.solitude.keep(self.partition, runs)

    def close(self) -> None:
        """Whatever the author's code does as it is closed, the store is free for the next try."""
        try:
            self.outbox.close()
            self.instances.close()
        finally:
            self.store.close()


def _receiver_of(target: int, message: bytes) -> str:
    """The instance that a send is for. Raises WireError, ValueError."""
    if target == DEAD_LETTER:
        return dict(decode_dead_letter(message)[0]).get("perdure-instance", b"").decode()
    return decode_inbound(message).instance_id
