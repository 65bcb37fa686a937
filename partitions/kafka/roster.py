"""Who the members of the hub's group are and what each has, asked now and then: for standbys, which are advice only."""

import time
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException

from .answers import COORDINATOR_SECONDS
from .settings import KafkaSettings
from .stalls import close_admin

ASK_SECONDS = 2.0
# A question that was out when the coordinator went away may never be answered, also when it is back: then another client asks.
PATIENCE_SECONDS = 10.0


class KafkaRoster:
    """Asks without waiting: `look` is called again and again by one thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._group = settings.hub
        self._admin = settings.admin()
        self._ask_at = 0.0
        self._asked: Future[Any] | None = None

    def look(self) -> dict[str, tuple[int, ...]] | None:
        """The members and their partitions where an answer has come; None where there is nothing new."""
        if self._asked is None:
            if time.monotonic() >= self._ask_at:
                self._ask_at = time.monotonic() + ASK_SECONDS
                answers = self._admin.describe_consumer_groups([self._group], request_timeout=COORDINATOR_SECONDS)
                self._asked = answers[self._group]
            return None
        if not self._asked.done():
            if time.monotonic() > self._ask_at + PATIENCE_SECONDS:
                close_admin(self._admin)
                self._asked, self._admin = None, self._settings.admin()
            return None
        asked, self._asked = self._asked, None
        try:
            members = asked.result().members
        except KafkaException:
            return None  # it is asked again
        return {
            member.member_id: tuple(sorted(each.partition for each in member.assignment.topic_partitions))
            for member in members
        }
