"""What a worker raises the alarm for: an open transaction that hides messages, a message that never comes, a send that
never arrives, a late checkpoint."""

from typing import Any
from uuid import uuid4

import pytest
import structlog
from confluent_kafka import Producer

from perdure.lookout import ALARM_SECONDS, LOOK_EVERY_SECONDS, Lookout
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.partitions.memory import Faults
from perdure.schemas.codec import encode_inbound
from perdure.schemas.messages import Inbound, Origin, RaiseEvent, Start
from tests.conformance.logs import until
from tests.partitions.cluster import Cluster, Member
from tests.partitions.test_back_pressure import PartitionAway


class Watched:
    """An owner, and somebody who looks at it."""

    def __init__(self, faults: Faults | None = None, **settings: Any) -> None:
        self.cluster = Cluster(2, faults=faults)
        self.member: Member = self.cluster.join(**settings)
        self.cluster.until(lambda: self.member.owns(0) and self.member.owns(1))
        self.lookout = Lookout(self.member.log, self.member.clock)
        self.alarms: list[dict[str, Any]] = []

    def wait(self, seconds: float) -> "Watched":
        """Let time pass, looking around all the while."""
        with structlog.testing.capture_logs() as logs:
            for _ in range(int(seconds)):
                self.cluster.step(3)
                self.cluster.clock.now_ms += 1_000
                self.lookout.look(self.member.owners)
        self.alarms = [entry for entry in logs if entry["log_level"] == "error"]
        return self

    def start(self, partition: int, number: int = 0) -> str:
        names = [name for name in (f"order-{at}" for at in range(99)) if self.cluster.home_of(name) == partition]
        self.cluster.send(names[number], Start("order", b"1"))
        self.cluster.step(3)
        return names[number]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_an_open_transaction_that_hides_messages_is_an_alarm_that_names_the_remedy(watched: Watched) -> None:
    journal = watched.cluster.hub.journal("inbox", 1)
    watched.start(1)
    journal.transaction_at = journal.end
    hidden = [watched.start(1, number) for number in (1, 2, 3)]
    assert [] == watched.wait(ALARM_SECONDS - LOOK_EVERY_SECONDS).alarms
    alarm, *others = watched.wait(3 * LOOK_EVERY_SECONDS).alarms

    assert ("inbox.stuck", 1, 1, 3) == (alarm["event"], alarm["partition"], alarm["offset"], alarm["records_hidden"])
    assert "abort --topic memory.inbox --partition 1 --start-offset 1" in alarm["remedy"]
    assert {1} == {other["partition"] for other in others}
    assert watched.lookout.inbox_stuck_seconds[1] >= ALARM_SECONDS
    assert 0 == watched.lookout.inbox_stuck_seconds[0]
    assert 3 == watched.lookout.inbox_lag[1]

    journal.transaction_at = None
    assert [] == watched.wait(2 * LOOK_EVERY_SECONDS).alarms
    assert 0 == watched.lookout.inbox_stuck_seconds[1]
    assert set(hidden) <= set(watched.cluster.ended())


def test_transactions_that_come_and_go_are_no_alarm(watched: Watched) -> None:
    journal = watched.cluster.hub.journal("inbox", 0)
    for number in range(20):
        journal.transaction_at = journal.end
        watched.start(0, number)
        assert [] == watched.wait(LOOK_EVERY_SECONDS).alarms


def test_a_busy_inbox_is_lag_and_no_alarm() -> None:
    """Nothing is hidden: its owner only has more to do than it can."""
    watched = Watched(append_seconds_max=10_000.0)
    watched.member.log.stalled = True
    for number in range(5):
        watched.start(0, number)

    assert [] == [alarm for alarm in watched.wait(2 * ALARM_SECONDS).alarms if alarm["event"] == "inbox.stuck"]
    assert 5 == watched.lookout.inbox_lag[0]


def test_a_message_that_never_comes_is_an_alarm_that_names_its_source_and_sequence(watched: Watched) -> None:
    """Partition 1 holds 1 for delivered, and the log lost it: 2 and all after it are dropped (R7)."""
    topic = watched.cluster.hub.identity.history_topic_id
    name = watched.start(0)
    for sequence in (2, 3):
        message = Inbound(name, RaiseEvent("go"), origin=Origin(topic, 1, sequence))
        watched.cluster.put(encode_inbound(message), 0)
    assert [] == watched.wait(ALARM_SECONDS - LOOK_EVERY_SECONDS).alarms
    alarm = watched.wait(2 * LOOK_EVERY_SECONDS).alarms[-1]

    assert ("messages.missing", 0, 1, 1) == tuple(alarm[name] for name in ("event", "partition", "source", "sequence"))
    assert {0: 1, 1: 0} == watched.lookout.gaps
    message = Inbound(name, RaiseEvent("go"), origin=Origin(topic, 1, 1))
    watched.cluster.put(encode_inbound(message), 0)
    assert [] == watched.wait(2 * LOOK_EVERY_SECONDS).alarms
    assert {0: 0, 1: 0} == watched.lookout.gaps


def test_what_is_sent_again_and_again_and_never_arrives_is_an_alarm_that_says_why() -> None:
    faults = PartitionAway(1)
    watched = Watched(faults)
    names = [name for name in (f"order-{at}" for at in range(99)) if watched.cluster.home_of(name) == 1]
    parent = next(name for name in (f"parent-{at}" for at in range(99)) if watched.cluster.home_of(name) == 0)
    watched.cluster.send(parent, Start("family", b'["%s"]' % names[0].encode()))
    assert [] == watched.wait(ALARM_SECONDS - LOOK_EVERY_SECONDS).alarms
    alarm = watched.wait(3 * LOOK_EVERY_SECONDS).alarms[-1]
    assert ("outbox.stuck", 0, "memory.inbox", 1) == tuple(
        alarm[key] for key in ("event", "partition", "topic", "target")
    )
    assert alarm["seconds"] >= ALARM_SECONDS
    assert "refused or not acknowledged: " in alarm["reason"]
    assert {0: 1, 1: 0} == watched.lookout.undelivered

    faults.away = False
    watched.cluster.until(lambda: parent in watched.cluster.ended(), milliseconds=100)
    assert [] == watched.wait(2 * LOOK_EVERY_SECONDS).alarms
    assert {0: 0, 1: 0} == watched.lookout.undelivered


def test_a_checkpoint_that_is_late_is_an_alarm() -> None:
    watched = Watched(append_seconds_max=10_000.0, checkpoint_seconds_max=10.0)
    watched.start(0)
    watched.wait(1)
    watched.member.log.stalled = True
    alarms = watched.wait(3 * LOOK_EVERY_SECONDS).alarms

    assert ("partition.checkpoint_late", 0) == (alarms[-1]["event"], alarms[-1]["partition"])


def test_a_log_that_is_away_is_not_asked_again_and_again(watched: Watched) -> None:
    watched.start(0)
    watched.cluster.hub.unavailable = True
    watched.lookout.look(watched.member.owners)

    assert 10 * LOOK_EVERY_SECONDS == watched.lookout._look_at


@pytest.mark.kafka
def test_on_a_broker_an_open_transaction_holds_the_stable_end_of_the_inbox(kafka_servers: str) -> None:
    """The alarm rests on it: what the brokers call the end depends on who asks."""
    settings = KafkaSettings(kafka_servers, f"lookout-{uuid4().hex[:8]}")
    create_hub(settings, 1, 1)
    foreign = Producer({"bootstrap.servers": kafka_servers, "transactional.id": settings.hub})
    foreign.init_transactions(30)
    foreign.begin_transaction()
    foreign.produce(settings.topics.inbox, b"of a transaction", partition=0)
    foreign.flush(30)
    log = KafkaLog.open(settings)
    try:
        for _ in range(3):
            log.publisher.publish_inbox(0, "order", encode_inbound(Inbound("order", Start("order"))))
        log.publisher.flush(30)

        assert (0, 4) == (log.stable_inbox_end(0), log.span_inbox(0).end)
        foreign.abort_transaction(30)
        # The marker of its end is a record as well, written a moment later.
        until(log, lambda: (log.stable_inbox_end(0), log.span_inbox(0).end) == (5, 5))
    finally:
        log.close()
