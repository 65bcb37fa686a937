"""An engine whose brokers are away does not stand still for each of its partitions in turn."""

import pytest
from confluent_kafka import KafkaError, Message

from perdure.partitions.kafka import KafkaSettings, history, patience
from perdure.partitions.kafka.patience import SHORT_SECONDS, Patience
from perdure.partitions.kafka.topic_reader import KafkaTopicReader
from perdure.partitions.ports import LogRefused, LogSpan, LogUnavailable

SETTINGS = KafkaSettings("127.0.0.1:1", "hub")


def ask(asked: Patience, fault: Exception | None = None) -> float:
    with asked.asking() as settings:
        if fault is not None:
            raise fault
        return settings.request_seconds_max


def test_the_first_question_has_its_whole_time_and_the_next_ones_have_little_until_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    asked = Patience(SETTINGS)
    assert SETTINGS.request_seconds_max == ask(asked)
    with pytest.raises(LogUnavailable):
        ask(asked, LogUnavailable("away"))

    assert SHORT_SECONDS == ask(asked)
    assert SETTINGS.request_seconds_max == ask(asked)


def test_for_a_moment_nobody_asks_again() -> None:
    asked = Patience(SETTINGS)
    with pytest.raises(LogRefused):
        ask(asked, LogRefused("wrong password"))

    with pytest.raises(LogRefused, match="wrong password"):
        ask(asked)


def test_other_errors_are_answers() -> None:
    asked = Patience(SETTINGS)
    with pytest.raises(ZeroDivisionError):
        ask(asked, ZeroDivisionError())

    assert SETTINGS.request_seconds_max == ask(asked)


def test_many_partitions_ask_a_dead_broker_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def span_of(consumer: object, settings: KafkaSettings, topic: str, partition: int) -> LogSpan:
        asked.append(partition)
        raise LogUnavailable("away")

    monkeypatch.setattr(history, "span_of", span_of)
    reads = history.TopicReads(SETTINGS)
    for partition in range(20):
        with pytest.raises(LogUnavailable):
            reads.span("hub.history", partition)
    reads.close()

    assert [0] == asked


def test_a_trouble_that_is_told_where_nothing_is_read_keeps_no_engine_awake() -> None:
    """A worker without a partition of its own hears of its brokers too; what nobody takes would end every wait at once."""
    reader = KafkaTopicReader(SETTINGS, "hub.inbox", committed=True)
    reader.open(0, 0)
    reader.close(0)
    reader._held.append(Message(error=KafkaError(KafkaError._ALL_BROKERS_DOWN, "all brokers are down")))
    assert reader.has_records

    assert () == tuple(reader.take(10))
    assert not reader.has_records
    reader.leave()
