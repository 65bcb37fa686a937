"""Clients that serve nobody any more: a broker that stops or starts tells for a moment that there are topics and no brokers, and who asks
just then forgets them all and never looks for others (librdkafka's issues 5301 and 5153).

Such a reader reports nothing, and assigning its partitions anew changes nothing; another consumer does.

Rules of this file: the brokers are asked in the background, since the engine waits for nobody here; what was there and did not come
is reason for another consumer, and ever more patience where that changes nothing: what is there may be nothing that can be read.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from typing import cast

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from .answers import AWAY
from .settings import KafkaSettings

LOOK_SECONDS = 2.0
STALL_SECONDS = 3.0
STALL_SECONDS_MAX = 600.0
ASK_SECONDS_MAX = 10.0

_Answer = Future[ListOffsetsResultInfo]


class StallWatch:
    """Watches one consumer: it has stalled where it has brought nothing at all for `STALL_SECONDS` and longer since a record was seen that
    is there for it. One that is slow, or that serves one partition after the other, has not."""

    def __init__(self, settings: KafkaSettings, topic: str, *, committed: bool) -> None:
        self._settings = settings
        # Of its own, and made when there is something to ask: it may stall as well, and only its one user can tell when to end it.
        self._admin: AdminClient | None = None
        self._topic = topic
        self._level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        self._look_at = 0.0
        self._seen: Mapping[int, int] = {}
        self._behind_since: float | None = None
        self._asked: dict[int, _Answer] = {}
        self._asked_at = 0.0
        self._patience = STALL_SECONDS

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._look_at

    def is_stalled(self, positions: Mapping[int, int]) -> bool:
        """Whether another consumer is to read what this one does; `positions` are those that are read, paused ones left out. Blocks never."""
        now = time.monotonic()
        self._look_at = now + LOOK_SECONDS
        moved = any(at > self._seen.get(partition, at) for partition, at in positions.items())
        self._seen = dict(positions)
        if moved:
            self._behind_since, self._patience = None, STALL_SECONDS
        self._hear(positions, now)
        if not moved:
            self._ask(positions, now)
        if self._behind_since is None or now - self._behind_since < self._patience:
            return False
        self._behind_since, self._patience = now, min(2 * self._patience, STALL_SECONDS_MAX)
        return True

    def close(self) -> None:
        """Ask nobody any more, until the next look."""
        self._asked = {}
        if self._admin is not None:
            close_admin(self._admin)
            self._admin = None

    def _hear(self, positions: Mapping[int, int], now: float) -> None:
        """Take the answers when all of them are there."""
        if self._admin is None or not self._asked:
            return
        self._admin.poll(0)  # lets it write its log
        if not all(answer.done() for answer in self._asked.values()):
            # A question that was out when the brokers went away may never be answered, whatever its time-out says.
            if now > self._asked_at + ASK_SECONDS_MAX + LOOK_SECONDS:
                self.close()
            return
        asked, self._asked = self._asked, {}
        ends = [(partition, self._end_of(answer)) for partition, answer in asked.items()]
        behind = any(end > positions.get(partition, end) for partition, end in ends)
        self._behind_since = (self._behind_since or now) if behind else None

    def _end_of(self, answer: _Answer) -> int:
        try:
            return answer.result().offset
        except KafkaException as error:
            # Who cannot be asked serves nobody, and no other consumer would do better; but whom we ask may have stalled itself.
            if error.args[0].code() in AWAY:
                self.close()
            return -1

    def _ask(self, positions: Mapping[int, int], now: float) -> None:
        if self._asked or not positions:
            return
        if self._admin is None:
            self._admin = self._settings.admin()
        latest = cast(OffsetSpec, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(self._topic, partition): latest for partition in positions}
        asked = self._admin.list_offsets(wanted, isolation_level=self._level, request_timeout=ASK_SECONDS_MAX)
        self._asked, self._asked_at = {where.partition: answer for where, answer in asked.items()}, now


def end_apart(end: Callable[..., object], *arguments: object) -> None:
    """End a client on a thread of its own: joining its connections may take a while, and one that stalls as long as it likes."""
    Thread(target=end, args=arguments, name="perdure-kafka-close", daemon=True).start()


def close_consumer(consumer: Consumer) -> None:
    end_apart(consumer.close)


def close_admin(admin: AdminClient) -> None:
    end_apart(admin.__exit__, None, None, None)
