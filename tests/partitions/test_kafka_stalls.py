"""A consumer that librdkafka does not serve any more: it is noticed, and another one goes on where it stood."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar, cast
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.partitions.kafka import stalls as stalls_module
from perdure.partitions.kafka.stalls import ASK_SECONDS_MAX, LOOK_SECONDS, STALL_SECONDS, StallWatch
from perdure.partitions.ports import LogUnavailable, Report

PLENTY_SECONDS = 30.0
T = TypeVar("T")


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_servers, f"stall-{uuid4().hex[:8]}")
    create_hub(settings, 3, 1)
    return settings


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    log = KafkaLog.open(settings)
    yield log
    log.close()


def stall(consumer: Consumer | None, topic: str, *partitions: int) -> None:
    """Behind the reader's back: the client asks for these no more and says nothing, as when it stalls by itself."""
    assert consumer is not None
    consumer.pause([TopicPartition(topic, partition) for partition in partitions])


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PLENTY_SECONDS
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


@pytest.mark.kafka
def test_what_a_stalled_reader_does_not_bring_another_one_does(log: KafkaLog, settings: KafkaSettings) -> None:
    inbox, topic = log.inbox, settings.topics.inbox
    for partition in range(3):
        inbox.open(partition, 0)
    taken: dict[int, list[bytes | None]] = {0: [], 1: [], 2: []}

    def take() -> None:
        for partition, record in inbox.take(100):
            taken[partition].append(record.value)

    def send(text: bytes) -> None:
        for partition in range(3):
            log.publisher.publish_inbox(partition, "key", text)
        log.publisher.flush(10)

    def come(*texts: bytes) -> bool:
        take()
        return taken[0] == taken[1] == list(texts)

    send(b"before")
    until(lambda: come(b"before"))
    until(lambda: take() is None and taken[2] == [b"before"])
    # One is paused by whoever reads, and stays so through the change.
    inbox.pause(2)
    stall(inbox._consumer, topic, 0, 1)
    send(b"after")
    until(lambda: come(b"before", b"after"))
    assert [b"before"] == taken[2]
    inbox.resume(2)
    until(lambda: take() is None and taken[2] == [b"before", b"after"])


@pytest.mark.kafka
def test_a_client_hears_its_answers_though_its_reader_stalls(log: KafkaLog, settings: KafkaSettings) -> None:
    replies = log.open_replies("client")
    stall(replies._consumer, settings.topics.replies, replies.partition)
    log.publisher.publish_reply(replies.partition, "client", b"answer")
    heard: list[bytes | None] = []
    until(lambda: heard.extend(record.value for record in replies.take(0.1)) is None and bool(heard))
    replies.close()
    assert [b"answer"] == heard


@pytest.mark.kafka
def test_what_nobody_can_read_is_no_reason_to_change_for_ever(log: KafkaLog, settings: KafkaSettings) -> None:
    """The inbox ends with what somebody took back: the end is ahead, and nothing comes."""
    producer = Producer({"bootstrap.servers": settings.servers, "transactional.id": uuid4().hex})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(settings.topics.inbox, b"taken back", b"key", 0)
    producer.flush(10)
    log.inbox.open(0, 0)
    assert () == tuple(log.inbox.take(100))
    first, deadline = log.inbox._consumer, time.monotonic() + STALL_SECONDS + 3 * LOOK_SECONDS
    while time.monotonic() < deadline:  # while the transaction is open nothing is there for who reads what is committed
        assert () == tuple(log.inbox.take(100))
        time.sleep(0.02)
    assert first is log.inbox._consumer
    producer.abort_transaction(10)
    until(lambda: () == tuple(log.inbox.take(100)) and log.inbox._consumer is not first)
    second, deadline = log.inbox._consumer, time.monotonic() + 1.5 * STALL_SECONDS
    while time.monotonic() < deadline:
        assert () == tuple(log.inbox.take(100))
        time.sleep(0.02)
    assert second is log.inbox._consumer
    log.publisher.publish_inbox(0, "key", b"to be read")
    log.publisher.flush(10)
    taken: list[bytes | None] = []
    until(lambda: taken.extend(record.value for _, record in log.inbox.take(100)) is None and bool(taken))
    assert [b"to be read"] == taken


@pytest.fixture
def hasty(settings: KafkaSettings) -> Iterator[KafkaLog]:
    """One that asks briefly."""
    brief = replace(settings, request_seconds_max=1.0, delivery_seconds_max=4.0)
    log = ask_patiently(lambda: KafkaLog.open(brief))
    yield log
    log.close()


@pytest.fixture
def nowhere(settings: KafkaSettings) -> KafkaSettings:
    """A client of these knows of no broker that it could ask, as one that has stalled."""
    return KafkaSettings("127.0.0.1:1", settings.hub, request_seconds_max=1.0, delivery_seconds_max=4.0)


def read_all(settings: KafkaSettings, topic: str, partition: int) -> list[bytes | None]:
    consumer = settings.reader(committed=False)
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[bytes | None] = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        found.append(message.value())
    consumer.close()
    return found


@pytest.mark.kafka
def test_what_a_stalled_producer_cannot_send_is_reported_and_the_next_record_goes_by_another_one(
    hasty: KafkaLog, settings: KafkaSettings, nowhere: KafkaSettings
) -> None:
    hasty.publisher._producer = nowhere.producer()
    outcomes: list[str | None] = []
    hasty.publisher.publish_inbox(0, "key", b"lost", outcomes.append)
    until(lambda: hasty.wait(0.05) is None and bool(outcomes))
    hasty.publisher.publish_inbox(0, "key", b"sent again", outcomes.append)
    until(lambda: hasty.wait(0.05) is None and len(outcomes) == 2)
    assert outcomes[0] is not None
    assert outcomes[1] is None
    assert [b"sent again"] == read_all(settings, settings.topics.inbox, 0)


@pytest.mark.kafka
def test_replies_and_the_brokers_clock_outlive_a_stalled_producer(
    hasty: KafkaLog, settings: KafkaSettings, nowhere: KafkaSettings
) -> None:
    replies = hasty.publisher._replies
    replies._producer = nowhere.producer(idempotent=False)
    replies.publish(0, "client", b"lost")
    until(lambda: replies.poll() is None and replies._silence.is_stalled)
    replies.publish(0, "client", b"answered anew")
    replies.flush(10)
    assert [b"answered anew"] == read_all(settings, settings.topics.replies, 0)

    replies.close()
    replies._producer = nowhere.producer(idempotent=False)
    with pytest.raises(LogUnavailable):
        hasty.read_clock_ms()
    assert abs(ask_patiently(hasty.read_clock_ms) - 1000 * time.time()) < 60_000


@pytest.mark.kafka
def test_a_stalled_admin_client_is_asked_once(hasty: KafkaLog, nowhere: KafkaSettings) -> None:
    hasty._admin = nowhere.admin()
    with pytest.raises(LogUnavailable):
        hasty.check_identity()
    ask_patiently(hasty.check_identity)


def ask_patiently(ask: Callable[[], T]) -> T:
    """After an answer that did not come the log asks nobody for a while."""
    deadline = time.monotonic() + PLENTY_SECONDS
    while True:
        try:
            return ask()
        except LogUnavailable:
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.05)


@pytest.mark.kafka
def test_an_append_that_ran_out_of_time_makes_spare_producers_suspect(hasty: KafkaLog, nowhere: KafkaSettings) -> None:
    until(lambda: len(hasty._spares._ready) == 3)
    spares = list(hasty._spares._ready)
    hasty._spares._ready[0] = nowhere.producer()
    writer = hasty.open_history(0)
    writer.append("key", b"lost")
    reports: list[Report] = []
    until(lambda: reports.extend(writer.take_reports()) is None and bool(reports))
    assert reports[0].offset is None
    writer.close()
    again = hasty.open_history(0)
    assert again._producer not in spares
    again.append("key", b"there")
    reports.clear()
    until(lambda: reports.extend(again.take_reports()) is None and bool(reports))
    assert 0 == reports[0].offset


class Brokers:
    """An admin client whose answers are what the test says, at once, later or never."""

    def __init__(self) -> None:
        self.end = 0
        self.asked: list[Future[Any]] = []
        self.answers = True
        self.clients = 0

    def __exit__(self, *_: object) -> None:
        """It is given up."""

    def list_offsets(self, wanted: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        given: dict[TopicPartition, Future[Any]] = {}
        for where in wanted:
            given[where] = Future()
            self.asked.append(given[where])
            if self.answers:
                given[where].set_result(type("Info", (), {"offset": self.end})())
        return given

    def poll(self, timeout: float) -> int:
        return 0

    def admin(self) -> "Brokers":
        """Another client of these brokers is answered."""
        self.clients += 1
        self.answers |= self.clients > 1
        return self


def watch_of(brokers: Brokers) -> StallWatch:
    return StallWatch(cast(KafkaSettings, brokers), "inbox", committed=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(stalls_module.time, "monotonic", lambda: now[0])
    return now


def look_on(watch: StallWatch, clock: list[float], at: int, seconds: float) -> list[float]:
    """Look for so long; when it was stalled, in seconds from the beginning."""
    begun, found = clock[0], list[float]()
    while clock[0] - begun < seconds:
        clock[0] += 0.1
        if watch.is_due and watch.is_stalled({0: at}):
            found.append(round(clock[0] - begun, 1))
    return found


def test_each_change_that_brings_nothing_makes_it_more_patient_and_a_record_makes_it_as_before(
    clock: list[float],
) -> None:
    brokers = Brokers()
    watch = watch_of(brokers)
    assert [] == look_on(watch, clock, 7, 60)  # nothing is there
    brokers.end = 8
    first, second, third = look_on(watch, clock, 7, 30)
    assert STALL_SECONDS <= first <= STALL_SECONDS + 4 * LOOK_SECONDS
    assert second - first >= 2 * STALL_SECONDS
    assert third - second >= 4 * STALL_SECONDS
    brokers.end = 9
    again = look_on(watch, clock, 8, 15)
    assert STALL_SECONDS <= again[0] <= STALL_SECONDS + 4 * LOOK_SECONDS


def test_brokers_that_do_not_answer_are_asked_one_question_and_nothing_is_changed(clock: list[float]) -> None:
    brokers = Brokers()
    brokers.answers, brokers.end = False, 8
    watch = watch_of(brokers)
    assert [] == look_on(watch, clock, 7, ASK_SECONDS_MAX)
    (asked,) = brokers.asked
    asked.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    brokers.answers = True
    assert look_on(watch, clock, 7, STALL_SECONDS + 4 * LOOK_SECONDS)


def test_a_question_that_is_never_answered_is_asked_by_another_client(clock: list[float]) -> None:
    brokers = Brokers()
    brokers.answers, brokers.end = False, 8
    watch = watch_of(brokers)
    assert look_on(watch, clock, 7, ASK_SECONDS_MAX + STALL_SECONDS + 6 * LOOK_SECONDS)


def test_a_reader_that_goes_on_is_never_changed_however_far_behind_it_is(clock: list[float]) -> None:
    brokers = Brokers()
    brokers.end = 1_000_000
    watch = watch_of(brokers)
    for position in range(100):
        assert [] == look_on(watch, clock, position, 3.0)


def test_one_that_serves_one_partition_after_the_other_has_not_stalled(clock: list[float]) -> None:
    brokers = Brokers()
    brokers.end = 1_000_000
    watch = watch_of(brokers)
    for position in range(1_000):
        clock[0] += 0.1
        assert not (watch.is_due and watch.is_stalled({0: position, 1: 0, 2: 0}))


def test_what_came_while_the_question_was_out_is_not_late(clock: list[float]) -> None:
    brokers = Brokers()
    brokers.answers = False
    watch = watch_of(brokers)
    assert [] == look_on(watch, clock, 7, 8.0)
    brokers.asked[0].set_result(type("Info", (), {"offset": 8})())
    assert [] == look_on(watch, clock, 7, STALL_SECONDS - 0.5)


def test_a_pause_changes_nothing_of_how_patient_it_is(clock: list[float]) -> None:
    brokers = Brokers()
    brokers.end = 8
    watch, stalled = watch_of(brokers), 0
    for tick in range(6_000):
        clock[0] += 0.1
        read = {0: 7} if tick % 100 < 50 else {0: 7, 1: 7}
        stalled += watch.is_due and watch.is_stalled(read)
    assert stalled <= 8  # 3, 6, 12, 24 … seconds
