"""Clients that serve nobody any more: a broker that stops or starts tells for a moment that there are topics and no brokers, and who asks
just then forgets them all and never looks for others (librdkafka's issues 5301 and 5153).

Such a reader reports nothing, and assigning its partitions anew changes nothing; another consumer does.

Rules of this file: the brokers are asked in the background, since the engine waits for nobody here; what was there and did not come
is reason for another consumer, and ever more patience where that changes nothing: what is there may be nothing that can be read.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Thread
from typing import cast

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from .settings import KafkaSettings

LOOK_SECONDS = 1.0
STALL_SECONDS = 3.0
STALL_SECONDS_MAX = 600.0
ASK_SECONDS_MAX = 10.0

_Answer = Future[ListOffsetsResultInfo]


class StallWatch:
    """Watches one consumer. A record has been there for `STALL_SECONDS` to `STALL_SECONDS` + 3 times `LOOK_SECONDS` when it is found."""

    def __init__(self, settings: KafkaSettings, topic: str, *, committed: bool) -> None:
        self._settings = settings
        # Of its own, and made when there is something to ask: it may stall as well, and only its one user can tell when to end it.
        self._admin: AdminClient | None = None
        self._topic = topic
        self._level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        self._look_at = 0.0
        self._seen: Mapping[int, int] = {}
        # What waits to be read: at which position, and since when.
        self._behind: dict[int, tuple[int, float]] = {}
        self._asked: dict[int, _Answer] = {}
        self._asked_at = 0.0
        self._patience = STALL_SECONDS

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._look_at

    def find_stalled(self, positions: Mapping[int, int]) -> list[int]:
        """Partitions that are not served, of those that are read. Whoever is told has another consumer read all of them. Blocks never."""
        now = time.monotonic()
        self._look_at = now + LOOK_SECONDS
        self._forget_moved(positions)
        if all(answer.done() for answer in self._asked.values()):
            asked, self._asked = self._asked, {}
            answered = [self._compare(partition, positions, answer) for partition, answer in asked.items()]
            if not all(answered):
                self.close()  # it may have stalled itself
            self._asked_at = now
            self._ask([each for each, position in positions.items() if self._seen.get(each) == position])
        elif now > self._asked_at + ASK_SECONDS_MAX + LOOK_SECONDS:
            # A question that was out when the brokers went away may never be answered, whatever its time-out says.
            self.close()
        self._seen = dict(positions)
        stalled = [partition for partition, (_, since) in self._behind.items() if now - since >= self._patience]
        if stalled:
            self._patience = min(2 * self._patience, STALL_SECONDS_MAX)
            self._behind = {partition: (position, now) for partition, (position, _) in self._behind.items()}
        return stalled

    def close(self) -> None:
        """Ask nobody any more, until the next look."""
        self._asked = {}
        if self._admin is not None:
            close_admin(self._admin)
            self._admin = None

    def _forget_moved(self, positions: Mapping[int, int]) -> None:
        for partition, (position, _) in list(self._behind.items()):
            if positions.get(partition) != position:
                del self._behind[partition]
                self._patience = STALL_SECONDS

    def _compare(self, partition: int, positions: Mapping[int, int], answer: _Answer) -> bool:
        """False if there was no answer: who cannot be asked serves nobody, and no other consumer would do better."""
        try:
            end = answer.result().offset
        except KafkaException:
            return False
        if partition in positions and end > positions[partition]:
            self._behind.setdefault(partition, (positions[partition], self._asked_at))
        return True

    def _ask(self, silent: list[int]) -> None:
        if self._admin is not None:
            self._admin.poll(0)  # lets it write its log
        if silent:
            if self._admin is None:
                self._admin = self._settings.admin()
            latest = cast(OffsetSpec, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            wanted = {TopicPartition(self._topic, partition): latest for partition in silent}
            asked = self._admin.list_offsets(wanted, isolation_level=self._level, request_timeout=ASK_SECONDS_MAX)
            self._asked = {where.partition: answer for where, answer in asked.items()}


def close_consumer(consumer: Consumer) -> None:
    """End a consumer on a thread of its own: one that stalls may take its time."""
    Thread(target=consumer.close, name="perdure-kafka-close", daemon=True).start()


def close_admin(admin: AdminClient) -> None:
    """The same for an admin client."""
    Thread(target=admin.__exit__, args=(None, None, None), name="perdure-kafka-close", daemon=True).start()
