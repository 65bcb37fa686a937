"""What only the log on Kafka has to show: foreign producers, brokers that go away, a full queue."""

import time
from itertools import count

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import NewPartitions, NewTopic

from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.partitions.kafka.history import TopicReads
from perdure.partitions.ports import BufferFull, HubMissing, HubRefused, LogRecord, LogTruncated, LogUnavailable, Report
from tests.broker import Broker
from tests.conformance.logs import until
from tests.e2e.workers import until as wait_until

pytestmark = pytest.mark.kafka
_numbers = count(1)
PATIENCE_SECONDS = 30.0


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_servers, f"log-{time.time_ns()}-{next(_numbers)}")
    create_hub(settings, 2, 1)
    return settings


def take(log: KafkaLog, number: int) -> list[LogRecord]:
    taken: list[LogRecord] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(taken) < number:
        assert time.monotonic() < deadline, taken
        log.wait(0.1)
        taken.extend(record for _, record in log.inbox.take(100))
    return taken


def reports(log: KafkaLog, writer: "object", number: int) -> list[Report]:
    found: list[Report] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < number:
        assert time.monotonic() < deadline, found
        log.wait(0.1)
        found.extend(writer.take_reports())  # type: ignore[attr-defined]
    return found


def test_the_inbox_shows_what_others_committed_and_has_gaps(settings: KafkaSettings) -> None:
    """R8, R9: others may use transactions; their markers take offsets, and what they abort is never seen."""
    producer = Producer({"bootstrap.servers": settings.servers, "transactional.id": settings.hub})
    producer.init_transactions(30)
    for number, commit in enumerate((True, False, True)):
        producer.begin_transaction()
        producer.produce(settings.topics.inbox, b"%d" % number, key=b"instance", partition=0)
        producer.flush(10)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)
    log = KafkaLog.open(settings)

    log.inbox.open(0, 0)

    assert [(0, b"0"), (4, b"2")] == [(record.offset, record.value) for record in take(log, 2)]
    log.close()


def test_an_open_transaction_holds_back_what_stands_behind_it(settings: KafkaSettings) -> None:
    producer = Producer({"bootstrap.servers": settings.servers, "transactional.id": settings.hub})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(settings.topics.inbox, b"open", partition=0)
    producer.flush(10)
    log = KafkaLog.open(settings)
    log.inbox.open(0, 0)
    log.publisher.publish_inbox(0, "instance", b"behind it")
    log.publisher.flush(10)
    log.wait(0.5)
    assert list(log.inbox.take(10)) == []

    producer.commit_transaction(10)

    assert [b"open", b"behind it"] == [record.value for record in take(log, 2)]
    log.close()


def test_a_foreign_record_comes_as_it_is(settings: KafkaSettings) -> None:
    producer = Producer({"bootstrap.servers": settings.servers})
    producer.produce(settings.topics.inbox, None, key=None, partition=0)
    producer.produce(settings.topics.inbox, b"{}", key=b"k", partition=0, headers=[("trace", b"1"), ("empty", None)])
    producer.flush(10)
    log = KafkaLog.open(settings)
    log.inbox.open(0, 0)

    bare, full = take(log, 2)

    assert (None, None, ()) == (bare.key, bare.value, bare.headers)
    assert (b"k", b"{}", (("trace", b"1"), ("empty", b""))) == (full.key, full.value, full.headers)
    log.close()


def test_an_inbox_position_beyond_the_end_is_no_silent_jump_and_stops_no_other(settings: KafkaSettings) -> None:
    log = KafkaLog.open(settings)
    log.inbox.open(0, 7)
    log.inbox.open(1, 0)
    log.publisher.publish_inbox(1, "key", b"of the other")
    faults: list[tuple[int, LogTruncated]] = []
    taken: list[bytes | None] = []

    def both_are_seen() -> bool:
        taken.extend(record.value for _, record in log.inbox.take(10))
        faults.extend(log.inbox.take_faults())
        return bool(faults and taken)

    until(log, both_are_seen)
    log.close()

    assert [b"of the other"] == taken
    assert [0] == [partition for partition, _ in faults]
    assert "offset 7 is beyond its end 0" in str(faults[0][1])


def test_a_full_queue_is_back_pressure_and_nothing_was_sent(settings: KafkaSettings) -> None:
    small = KafkaSettings(settings.servers, settings.hub, {"queue.buffering.max.messages": 10, "linger.ms": 200})
    log = KafkaLog.open(small)
    writer = log.open_history(0)
    sent = 0

    def append_until_it_is_full() -> None:
        nonlocal sent
        for _ in range(100):
            writer.append("instance", b"record")
            sent += 1

    with pytest.raises(BufferFull):
        append_until_it_is_full()

    assert [Report(offset) for offset in range(sent)] == reports(log, writer, sent)
    writer.append("instance", b"there is room again")
    assert [Report(sent)] == reports(log, writer, 1)
    log.close()


def test_what_waits_for_company_leaves_as_soon_as_the_engine_has_nothing_else_to_do(settings: KafkaSettings) -> None:
    """A burst is one request; a record that is alone must not pay for it."""
    properties = {"linger.ms": 2_000 * PATIENCE_SECONDS}
    log = KafkaLog.open(KafkaSettings(settings.servers, settings.hub, properties, delivery_seconds_max=300))
    writer = log.open_history(0)
    deadline = time.monotonic() + PATIENCE_SECONDS
    found: list[Report] = []
    while not found:  # once more until the producer is ready
        assert time.monotonic() < deadline
        writer.append("instance", b"record")
        log.wait(0.1)
        found += writer.take_reports()

    assert Report(0) == found[0]
    log.close()


class Ended:
    """A producer that has ended for good, as an idempotent one does that cannot vouch for its order any more."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def produce(self, *_arguments: object, **_options: object) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "it cannot vouch for its order", fatal=True))

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)


def test_a_producer_that_has_ended_is_made_again_and_what_it_had_is_told_first(settings: KafkaSettings) -> None:
    """That of the history ends its epoch (R4), and the next one has another; that of everything else is replaced at once (R7)."""
    log = KafkaLog.open(settings)
    log.inbox.open(0, 0)
    writer = log.open_history(0)
    writer.append("instance", b"before")
    assert [Report(0)] == reports(log, writer, 1)
    writer._producer = Ended(writer._producer)  # type: ignore[assignment,arg-type]
    writer.append("instance", b"never sent")
    (report,) = reports(log, writer, 1)
    assert (None, "_FATAL: it cannot vouch for its order") == (report.offset, report.error)
    writer.close()
    again = log.open_history(0)
    again.append("instance", b"after")
    assert [Report(1)] == reports(log, again, 1)

    told: list[tuple[str, str | None]] = []
    publisher = log.publisher
    # On its way while the producer ends: whatever became of it is told before anything that comes after it.
    publisher.publish_inbox(0, "instance", b"first", lambda error: told.append(("first", error)))
    publisher._producer = Ended(publisher._producer)  # type: ignore[assignment]
    publisher.publish_inbox(0, "instance", b"second", lambda error: told.append(("second", error)))
    publisher.flush(PATIENCE_SECONDS)
    assert ["first", "second"] == [name for name, _ in told]
    assert told[1] == ("second", None)
    publisher.publish_inbox(0, "instance", b"third")
    taken: list[bytes | None] = []
    while b"third" not in taken:
        taken.extend(record.value for record in take(log, 1))
    assert [b"second", b"third"] == taken[-2:]
    log.close()


def test_topics_that_were_deleted_and_created_again_are_not_the_hub_that_was_opened(settings: KafkaSettings) -> None:
    """An owner asks before each claim: positions and sequences of the old history mean nothing in the new one (R14)."""
    log = KafkaLog.open(settings)
    log.check_identity()
    admin = settings.admin()
    for future in admin.delete_topics([settings.topics.history]).values():
        future.result()
    topic = NewTopic(settings.topics.history, 2, 1, config={"cleanup.policy": "delete", "retention.ms": "-1"})

    def is_there_again() -> bool:
        try:
            admin.create_topics([topic])[topic.topic].result()
        except KafkaException:
            return False  # it is still being deleted
        return True

    wait_until(is_there_again, lambda: "the topic cannot be created again")
    said: list[str] = []

    def is_refused() -> bool:
        try:
            log.check_identity()
        except (HubMissing, HubRefused) as error:
            said.append(str(error))
        return bool(said) and "created again" in said[-1]

    wait_until(is_refused, lambda: "the new topic is taken for the old one")
    assert f"topic {topic.topic} of hub '{settings.hub}' was deleted and created again" in said[-1]
    assert {f"topic {topic.topic} at {settings.servers} was deleted"} >= set(said[:-1])
    log.close()


def test_appends_go_on_when_a_killed_broker_comes_back(mortal_broker: Broker) -> None:
    settings = KafkaSettings(mortal_broker.servers, "mortal", request_seconds_max=20)
    create_hub(settings, 1, 1)
    log = KafkaLog.open(settings)
    log.inbox.open(0, 0)
    writer = log.open_history(0)
    writer.append("instance", b"before")
    assert [Report(0)] == reports(log, writer, 1)

    mortal_broker.kill()
    for number in range(50):
        writer.append("instance", b"%d" % number)
    log.wait(0.5)
    mortal_broker.start()

    assert [Report(offset) for offset in range(1, 51)] == reports(log, writer, 50)
    assert [b"before", *(b"%d" % number for number in range(50))] == [
        record.value for record in log.read_history(0, 0, 51)
    ]
    log.publisher.publish_inbox(0, "instance", b"hello again")
    assert [b"hello again"] == [record.value for record in take(log, 1)]
    log.close()


def test_a_broker_that_stays_away_is_reported_in_time(mortal_broker: Broker) -> None:
    settings = KafkaSettings(mortal_broker.servers, "mortal", request_seconds_max=3.0, delivery_seconds_max=8.0)
    create_hub(KafkaSettings(mortal_broker.servers, "mortal"), 1, 1)
    log = KafkaLog.open(settings)
    writer = log.open_history(0)
    writer.append("instance", b"before")
    assert [Report(0)] == reports(log, writer, 1)
    outcomes: list[str | None] = []

    mortal_broker.kill()
    writer.append("instance", b"lost")
    log.publisher.publish_inbox(0, "instance", b"lost", outcomes.append)
    (report,) = reports(log, writer, 1)
    log.publisher.flush(PATIENCE_SECONDS)

    assert report.offset is None
    assert "TIMED_OUT" in str(report.error)
    assert len(outcomes) == 1
    assert outcomes[0] is not None
    with pytest.raises(LogUnavailable, match=mortal_broker.servers):
        log.span_history(0)
    with pytest.raises(LogUnavailable, match=mortal_broker.servers):
        list(log.read_history(0, 0, 1))
    writer.close()
    begin = time.monotonic()
    log.close()
    assert time.monotonic() - begin < 5


def test_a_partition_that_the_client_does_not_remember_is_asked_for(settings: KafkaSettings) -> None:
    reads = TopicReads(settings)
    topic = settings.topics.replies

    def is_there() -> bool:
        try:
            return reads.span(topic, 7).end == 0
        except LogUnavailable:
            return False

    assert 0 == reads.span(topic, 0).end
    with pytest.raises(LogUnavailable, match="with a partition 7"):
        reads.span(topic, 7)
    admin = settings.admin()
    admin.create_partitions([NewPartitions(topic, 8)])[topic].result(10)

    wait_until(is_there)
    reads.close()


def test_a_read_uses_a_consumer_that_another_one_left_and_sees_nothing_of_that(settings: KafkaSettings) -> None:
    """Also of one that was given up half way, and of one that is under way at the same time."""
    log = KafkaLog.open(settings)
    for partition in (0, 1):
        writer = log.open_history(partition)
        for number in range(2_000):
            writer.append("instance", b"%d of %d" % (number, partition))
        assert [Report(offset) for offset in range(2_000)] == reports(log, writer, 2_000)
    reads, topic = TopicReads(settings), settings.topics.history
    under_way = reads.read(topic, 0, 0, 2_000)
    assert b"0 of 0" == next(under_way).value
    for round_ in range(20):
        start, partition = (1_000 - 50 * round_, round_ % 2)
        assert b"1900 of 1" == next(iter(reads.read(topic, 1, 1_900, 2_000))).value  # and given up
        found = [record.value for record in reads.read(topic, partition, start, start + 50)]
        assert [b"%d of %d" % (number, partition) for number in range(start, start + 50)] == found

    assert [b"%d of 0" % number for number in range(1, 2_000)] == [record.value for record in under_way]
    assert len(reads._idle) <= 2
    reads.close()
    log.close()
