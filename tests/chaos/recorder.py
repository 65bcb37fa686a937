"""The recorder: everything that a hub's topics ever held, kept as they grow, so that what owners trim can still be judged.

Rules of this file: it reads as anybody can, and says up to where it has come; wrapped workers trim no further (`wrapping`).
"""

import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Protocol

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.partitions.embedded import EmbeddedLog
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.partitions.kafka.records import record_of
from perdure.partitions.ports import HubIdentity, LogCorrupt, LogRecord, LogTruncated

HISTORY, INBOX, REPLIES, DEAD_LETTER = "history", "inbox", "replies", "dead-letter"
PAUSE_SECONDS = 0.1
PLENTY_SECONDS = 60.0
Records = defaultdict[tuple[str, int], list[LogRecord]]


class Recorder(Protocol):
    """What there is of each (topic, partition). `trouble`: why nothing more is recorded, if so."""

    identity: HubIdentity
    records: Records
    trouble: str

    def catch_up(self) -> None:
        """Block until everything that stands in the topics now is recorded. Raises AssertionError where that does not happen."""

    def close(self) -> None: ...


def _say(path: Path, records: Records, partition_count: int) -> None:
    """State up to where inbox and history are recorded, whole or not at all."""
    partitions = range(partition_count)
    ends = {
        topic: [records[topic, each][-1].offset + 1 if records[topic, each] else 0 for each in partitions]
        for topic in (INBOX, HISTORY)
    }
    draft = path.with_suffix(".draft")
    draft.write_bytes(orjson.dumps(ends))
    draft.replace(path)


class KafkaRecorder:
    """Follows a hub on Kafka from its beginning, on a thread of its own."""

    def __init__(self, settings: KafkaSettings, recorded: Path) -> None:
        log = KafkaLog.open_reader(settings)
        self.identity = log.identity
        log.close()
        self.records: Records = defaultdict(list)
        self.trouble = ""
        self._recorded = recorded
        topics, count = settings.topics, self.identity.partition_count
        self._names = {
            topics.history: HISTORY,
            topics.inbox: INBOX,
            topics.replies: REPLIES,
            topics.dead_letter: DEAD_LETTER,
        }
        partitions = [
            (name, partition)
            for name, kind in self._names.items()
            for partition in range(1 if kind == DEAD_LETTER else count)
        ]
        # Read committed, as owners read the inbox; there are no transactions in the others.
        self._consumer = settings.reader(committed=True)
        self._consumer.assign([TopicPartition(name, partition, 0) for name, partition in partitions])
        self._positions = dict.fromkeys(partitions, 0)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-recorder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            said_at = 0.0
            while not self._closing.is_set():
                for message in self._consumer.consume(500, 0.05):
                    self._take(message)
                if time.monotonic() - said_at > PAUSE_SECONDS:
                    _say(self._recorded, self.records, self.identity.partition_count)
                    said_at = time.monotonic()
        except Exception as error:  # noqa: BLE001 - whoever asks hears of it
            self.trouble = f"the recorder ended: {error!r}"
        finally:
            self._consumer.close()

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is None:
            place = (message.topic(), message.partition())
            record = record_of(message)
            self._positions[place] = record.offset + 1
            # An empty reply is nobody's: with it the log's clock is read.
            if record.value or self._names[place[0]] != REPLIES:
                self.records[self._names[place[0]], place[1]].append(record)
        elif error.code() == KafkaError._PARTITION_EOF:
            place = (message.topic(), message.partition())
            self._positions[place] = max(self._positions[place], message.offset())
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise AssertionError(f"{message.topic()} {message.partition()}: trimmed before it was recorded")

    def catch_up(self) -> None:
        deadline = time.monotonic() + PLENTY_SECONDS
        settled = 0
        while settled < 2:  # what came between two looks is seen by the second
            behind = self._behind()
            assert not self.trouble, self.trouble
            assert time.monotonic() < deadline, f"not recorded: {behind}"
            settled = 0 if behind else settled + 1
            time.sleep(PAUSE_SECONDS)

    def _behind(self) -> list[str]:
        found = []
        for (topic, partition), position in self._positions.items():
            try:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            except KafkaException as error:  # a leader may just be changing
                found.append(f"{topic} {partition}: {error}")
            else:
                if position < end:
                    found.append(f"{topic} {partition} at {position} of {end}")
        return found

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


class EmbeddedRecorder:
    """Looks into an embedded hub's directory again and again, on a thread of its own. Replies are kept nowhere there."""

    def __init__(self, directory: Path, recorded: Path) -> None:
        self._directory = directory
        self._recorded = recorded
        self.records: Records = defaultdict(list)
        self.trouble = ""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-recorder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(PAUSE_SECONDS):
            if not (self._directory / "hub.json").exists():
                continue
            try:
                self.catch_up()
            except (FileNotFoundError, LogTruncated, LogCorrupt):
                continue  # it was written to at that moment; the last look is when nobody writes
            except Exception as error:  # noqa: BLE001 - whoever asks hears of it
                self.trouble = f"the recorder ended: {error!r}"
                return

    def catch_up(self) -> None:
        with self._lock:
            reader = EmbeddedLog.open_reader(self._directory)
            self.identity = reader.identity
            for partition in range(self.identity.partition_count):
                self._read(HISTORY, partition, reader.span_history(partition), reader.read_history)
                self._read(INBOX, partition, reader.span_inbox(partition), reader.read_inbox)
            self.records[DEAD_LETTER, 0] = list(reader.read_dead_letters())
            _say(self._recorded, self.records, self.identity.partition_count)

    def _read(self, topic: str, partition: int, span: Any, read: Any) -> None:
        known = self.records[topic, partition]
        begin = known[-1].offset + 1 if known else 0
        assert span.start <= begin, f"{topic} {partition}: trimmed to {span.start}, recorded to {begin}"
        known.extend(read(partition, begin, span.end))

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
