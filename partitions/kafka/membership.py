"""Membership in the hub's consumer group (`partitions.ports.Membership`): who tries which partition (R6).

A consumer on a thread of its own, subscribed to the inbox, that fetches nothing. The group moves a partition only when its
consumer answers, so the thread waits, within the group's rebalance, until the engine has handed the partition over.

A consumer may never come back into its group and say nothing of it (stalls.py says why). So one that has been out for longer than any
rebalance takes makes room for another; that costs the group a rebalance and nobody a partition.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Thread

import orjson
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ..membership import rank_standbys
from ..ports import Assigned, LogRefused, LogUnavailable, Lost, MembershipChange, Revoked
from .records import error_of
from .refusals import describe_refusal, is_refusal
from .roster import KafkaRoster
from .settings import KafkaSettings
from .stalls import close_consumer

_log = structlog.get_logger("perdure.kafka")
# Who leaves is heard of after at most so long.
POLL_SECONDS = 0.01
CLOSE_SECONDS = 10.0
# A rebalance waits for those who hand over: a worker gives its activities 5 s, and its last records 10.
OUT_SECONDS = 30.0
OUT_SECONDS_MAX = 300.0


class KafkaMembership:
    """`changed` is called, on the thread, when `poll` has something to tell: `Log.wake`. `standbys` is how many processes keep a warm
    store of each partition beside its owner."""

    def __init__(self, settings: KafkaSettings, changed: Callable[[], None], *, standbys: int = 0) -> None:
        self._settings = settings
        self._changed = changed
        self._standbys = standbys
        self._roster = KafkaRoster(settings) if standbys else None
        self._standing_by: Mapping[int, int] = {}
        self._condition = Condition()
        self._changes: list[MembershipChange] = []
        self._handing_over: set[int] = set()
        self._closing = False
        self._joined = False
        self._out_since: float | None = time.monotonic()
        self._patience = OUT_SECONDS
        self._failure: LogUnavailable | None = None
        self._lives = 0
        self._consumer = self._make_member()
        self._thread = Thread(target=self._run, name="perdure-membership", daemon=True)
        self._thread.start()

    def poll(self) -> Sequence[MembershipChange]:
        if self._failure is not None:
            raise self._failure
        if not self._changes:
            return ()
        with self._condition:
            changes, self._changes = self._changes, []
        return changes

    def acknowledge(self, partitions: Sequence[int]) -> None:
        with self._condition:
            self._handing_over.difference_update(partitions)
            self._condition.notify_all()

    def standing_by(self) -> Mapping[int, int]:
        return self._standing_by

    def leave(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def close(self) -> None:
        self.leave()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            self._join()
            while not self._closing:
                message = self._consumer.poll(POLL_SECONDS)
                # The client's own thread answers this at once, and looks then whether a heartbeat is due; else something else has to wake it.
                me = self._consumer.memberid()
                self._read_roster(me)
                self._join_anew()
                if message is None or (error := message.error()) is None:
                    continue
                _log.warning("membership trouble", hub=self._settings.hub, error=error.str())
                if error.fatal() or (is_refusal(error) and not self._joined):
                    self._failure = self._ended_by(error)
                    break
        except KafkaException as error:
            self._failure = self._ended_by(error_of(error))
        except Exception as error:  # noqa: BLE001 - a bug of ours; without this thread the engine would never hear of the group again
            _log.error("membership ended", hub=self._settings.hub, exc_info=error)
            self._failure = LogUnavailable(f"membership of hub {self._settings.hub!r} has ended: {error!r}")
        finally:
            self._closing = True
            self._consumer.close()
            self._changed()

    def _join(self) -> None:
        topic = self._settings.topics.inbox
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _join_anew(self) -> None:
        """Have another consumer join where this one got no answer for too long, and each next one later: a group may be slow."""
        if self._out_since is None or time.monotonic() - self._out_since < self._patience:
            return
        _log.warning("membership stalled; it is asked for anew", hub=self._settings.hub, seconds=self._patience)
        old, self._consumer = self._consumer, self._make_member()
        self._out_since, self._patience = time.monotonic(), min(2 * self._patience, OUT_SECONDS_MAX)
        if had := _numbers(old.assignment()):
            self._tell(Lost(had))
        close_consumer(old)
        self._join()

    def _make_member(self) -> Consumer:
        self._lives += 1
        life = self._lives
        return self._settings.member(lambda statistics: self._hear(life, statistics))

    def _hear(self, life: int, statistics: str) -> None:
        """Who has no partition, or falls out while it joins, is called by nobody."""
        if life != self._lives:
            return  # it was given up
        group = orjson.loads(statistics).get("cgrp", {})
        if (group.get("state"), group.get("join_state")) == ("up", "steady"):
            self._out_since = None
        elif self._out_since is None:
            self._out_since = time.monotonic()

    def _read_roster(self, me: str | None) -> None:
        members = self._roster.look() if self._roster is not None else None
        if members is not None and me is not None:
            self._standing_by = rank_standbys(members, me, self._standbys)

    def _ended_by(self, error: KafkaError) -> LogUnavailable:
        """Who was a member once may be one again when the brokers change their mind; who never was is told at once."""
        head = f"membership of hub {self._settings.hub!r} at {self._settings.servers} has ended"
        if is_refusal(error):
            return LogRefused(f"{head}: {describe_refusal(error, self._settings.servers)}")
        return LogUnavailable(f"{head}: {error.str()}")

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        consumer.incremental_assign(assigned)
        if assigned:
            consumer.pause(assigned)
        if consumer is not self._consumer:
            return  # it was given up, and leaves the group
        self._joined, self._out_since, self._patience = True, None, OUT_SECONDS
        self._tell(Assigned(_numbers(assigned)))  # none is an answer too: a worker without a share is ready

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        if revoked and not self._closing and consumer is self._consumer:
            numbers = _numbers(revoked)
            with self._condition:
                self._handing_over.update(numbers)
            self._tell(Revoked(numbers))
            with self._condition:
                self._condition.wait_for(lambda: self._closing or not self._handing_over)
        consumer.incremental_unassign(revoked)

    def _on_lost(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._out_since = time.monotonic()
            if lost and not self._closing:
                self._tell(Lost(_numbers(lost)))
        consumer.incremental_unassign(lost)

    def _tell(self, change: MembershipChange) -> None:
        with self._condition:
            self._changes.append(change)
        self._changed()


def _numbers(partitions: Sequence[TopicPartition]) -> tuple[int, ...]:
    return tuple(sorted(each.partition for each in partitions))
