"""Lookout: what a worker looks at now and then, and what it raises the alarm for: an error line and a metric.

Rules of this file: nothing here changes anything; each alarm says what is wrong, since when, and what to do about it.
"""

from collections.abc import Mapping

import structlog

from perdure.partitions.owner import PartitionOwner
from perdure.partitions.ports import Clock, Log, LogUnavailable
from perdure.partitions.topics import HubTopics
from perdure.schemas.records import DEAD_LETTER

LOOK_EVERY_SECONDS = 10.0
# Longer than a transaction lasts that nobody has forgotten (60 s by Kafka's default), and than a sender takes to go back.
ALARM_SECONDS = 90.0

_log = structlog.get_logger("perdure.worker")
_Gap = tuple[int, str, int, int]
_Way = tuple[int, int]


class Lookout:
    """`inbox_lag`: records that no confirmed turn has consumed; `inbox_stuck_seconds`: for how long an open transaction has hidden
    some of them; `gaps`: sources whose next message has been missing for long; `undelivered`: targets to which nothing could be
    delivered for long. All by partition."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._look_at = 0.0
        self.inbox_lag: dict[int, int] = {}
        self.inbox_stuck_seconds: dict[int, float] = {}
        self.gaps: dict[int, int] = {}
        self.undelivered: dict[int, int] = {}
        self._stable: dict[int, tuple[int, float]] = {}
        self._missing: dict[_Gap, float] = {}
        self._failing: dict[_Way, float] = {}

    def look(self, owners: Mapping[int, PartitionOwner]) -> None:
        """Look around, if it is time to. May take a moment: the log is asked."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_SECONDS
        self._check_gaps(owners, now)
        self._check_sends(owners, now)
        for owner in owners.values():
            self._check_checkpoint(owner)
        try:
            for owner in owners.values():
                self._look_at_inbox(owner, now)
        except LogUnavailable:
            # To ask may block until its time-out; a figure is not worth that again and again.
            self._look_at = now + 10 * LOOK_EVERY_SECONDS

    def forget(self, partition: int) -> None:
        """Another process has it now."""
        self.inbox_lag.pop(partition, None)
        self.inbox_stuck_seconds.pop(partition, None)
        self.gaps.pop(partition, None)
        self.undelivered.pop(partition, None)
        self._stable.pop(partition, None)

    def _check_checkpoint(self, owner: PartitionOwner) -> None:
        """A recovery would read more than it ever should (R14)."""
        if owner.tenure is not None and owner.tenure.checkpoint_late:
            age = round(owner.tenure.checkpoint_age_seconds, 1)
            _log.error("partition.checkpoint_late", partition=owner.partition, seconds=age)

    def _look_at_inbox(self, owner: PartitionOwner, now: float) -> None:
        if owner.holdings is None:
            return
        partition, mark = owner.partition, owner.holdings.fold.state.inbox_mark
        end = self._log.span_inbox(partition).end
        self.inbox_lag[partition] = max(0, end - mark)
        # Only where something waits can anything be hidden.
        stable = self._log.stable_inbox_end(partition) if end > mark else end
        seen, since = self._stable.get(partition, (-1, now))
        if stable >= end or stable != seen:
            since = now
        self._stable[partition] = (stable, since)
        self.inbox_stuck_seconds[partition] = now - since
        if now - since >= ALARM_SECONDS:
            self._report_stuck(partition, stable, end, now - since)

    def _report_stuck(self, partition: int, stable: int, end: int, seconds: float) -> None:
        """A transaction that somebody left open hides all that came after it (R9)."""
        topic = HubTopics(self._log.identity.hub).inbox
        _log.error(
            "inbox.stuck",
            partition=partition,
            offset=stable,
            records_hidden=end - stable,
            seconds=round(seconds, 1),
            reason="a producer has left a transaction open: nothing behind its first record can be read before it ends",
            remedy=f"end that producer, or: kafka-transactions.sh --bootstrap-server HOST:PORT abort --topic {topic} "
            f"--partition {partition} --start-offset {stable}",
        )

    def _check_gaps(self, owners: Mapping[int, PartitionOwner], now: float) -> None:
        """A message that its sender holds for delivered never came: all behind it are dropped (R7)."""
        missing: dict[_Gap, float] = {}
        for partition, owner in owners.items():
            gaps = owner.holdings.intake.gaps if owner.holdings is not None else {}
            for (topic_id, source), sequence in gaps.items():
                gap = (partition, topic_id, source, sequence)
                missing[gap] = self._missing.get(gap, now)
        self._missing = missing
        late = {gap: now - since for gap, since in missing.items() if now - since >= ALARM_SECONDS}
        self.gaps = {partition: sum(gap[0] == partition for gap in late) for partition in owners}
        for (partition, _, source, sequence), seconds in late.items():
            _log.error(
                "messages.missing",
                partition=partition,
                source=source,
                sequence=sequence,
                seconds=round(seconds, 1),
                reason=f"partition {source} holds this message for delivered, and it is not in the inbox; those behind it are dropped",
                remedy="acknowledged records were lost: check min.insync.replicas and unclean elections, and run `perdure audit`",
            )

    def _check_sends(self, owners: Mapping[int, PartitionOwner], now: float) -> None:
        """What is sent again and again and never arrives holds up all behind it, and at a limit the inbox too (R7, R10)."""
        failing: dict[_Way, float] = {}
        for partition, owner in owners.items():
            errors = owner.holdings.outbox.failing if owner.holdings is not None else {}
            self.undelivered[partition] = 0
            for target, error in errors.items():
                since = failing[partition, target] = self._failing.get((partition, target), now)
                if now - since >= ALARM_SECONDS:
                    self.undelivered[partition] += 1
                    self._report_undelivered(partition, target, now - since, error)
        self._failing = failing

    def _report_undelivered(self, partition: int, target: int, seconds: float, error: str) -> None:
        topics = HubTopics(self._log.identity.hub)
        _log.error(
            "outbox.stuck",
            partition=partition,
            topic=topics.dead_letter if target == DEAD_LETTER else topics.inbox,
            target=0 if target == DEAD_LETTER else target,
            seconds=round(seconds, 1),
            reason=f"what is sent there is refused or not acknowledged: {error}",
            remedy="check that this partition has a leader and enough replicas, and the topic's max.message.bytes and ACLs",
        )
