"""The floor: the least work that has the effects of an orchestration engine on Kafka.

One process reads an inbox partition, runs generator orchestrations, appends each turn as an Avro record to a history partition, and
runs the next activity or replies only when the append is acknowledged. No store, no timers, no recovery, no checks: what an engine
costs beyond it is the price of being one. `python -m bench.bare_loop SERVERS HUB` is the process; it ends with its standard input.
"""

import collections
import io
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import fastavro
import orjson
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

TURN = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Turn",
        "fields": [
            {"name": "epoch", "type": "long"},
            {"name": "offset", "type": "long"},
            {"name": "instance_id", "type": "string"},
            {"name": "time_ms", "type": "long"},
            {"name": "consumed", "type": {"type": "array", "items": "long"}},
            {"name": "events", "type": "bytes"},
        ],
    }
)

Activity = Callable[[str], str]
Orchestration = Generator[tuple[Activity, str], str, list[str]]


def kafka_producer(servers: str) -> Producer:
    """Return a producer with the settings that answer soonest on one machine; the engine's own are as quick."""
    return Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "socket.nagle.disable": True,
            "queue.buffering.max.messages": 500_000,
        }
    )


def kafka_reader(servers: str, *partitions: TopicPartition) -> Consumer:
    """Return a consumer of exactly these partitions that waits for nothing that is there."""
    reader = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
            "socket.nagle.disable": True,
        }
    )
    reader.assign(list(partitions))
    return reader


def hello(name: str) -> str:
    return f"hello {name}"


def sequence(length: int) -> Orchestration:
    results = []
    for i in range(length):
        results.append((yield hello, f"w{i}"))  # noqa: PERF401 - a comprehension cannot yield
    return results


@dataclass(slots=True)
class Live:
    """One running orchestration and how many of its activities were scheduled."""

    code: Orchestration
    scheduled: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """What follows a turn once it is durable: the next activity, or the reply."""

    instance_id: str
    call: tuple[Activity, str] | None
    result: list[str] | None = None


class BareLoop:
    """One partition's loop. `step` sends all that is ready before it waits."""

    def __init__(self, servers: str, hub: str) -> None:
        self._hub = hub
        self._history, self._replies = kafka_producer(servers), kafka_producer(servers)
        self._inbox = kafka_reader(servers, TopicPartition(f"{hub}.inbox", 0, 0))
        self._live: dict[str, Live] = {}
        self._effects: collections.deque[Effect] = collections.deque()
        self._confirmed: list[KafkaError | None] = []
        self._ready: collections.deque[Effect] = collections.deque()
        self._offset = 0

    def step(self) -> None:
        for message in self._take():
            if message.error() is None:
                start = orjson.loads(message.value() or b"")
                self._live[start["id"]] = Live(sequence(start["length"]))
                self._turn(start["id"], None, [message.offset() or 0])
        self._history.poll(0)
        self._act_on_confirmed()
        self._replies.poll(0)
        for _ in range(len(self._ready)):
            effect = self._ready.popleft()
            assert effect.call is not None
            activity, argument = effect.call
            self._turn(effect.instance_id, activity(argument), [])

    def _take(self) -> list[Message]:
        if self._ready or self._effects:
            messages = self._inbox.consume(500, 0)
            if not messages and not self._ready:
                self._history.poll(0.0005)
            return messages
        first = self._inbox.poll(0.02)
        return [] if first is None else [first, *self._inbox.consume(499, 0)]

    def _turn(self, instance_id: str, result: str | None, consumed: list[int]) -> None:
        live = self._live[instance_id]
        events: list[dict[str, Any]] = (
            [{"event": "TaskCompleted", "id": live.scheduled, "result": result}] if live.scheduled else []
        )
        try:
            call = live.code.send(result) if result is not None else next(live.code)
        except StopIteration as end:
            del self._live[instance_id]
            events.append({"event": "ExecutionCompleted", "result": end.value})
            self._append(events, consumed, Effect(instance_id, None, end.value))
            return
        live.scheduled += 1
        events.append({"event": "TaskScheduled", "id": live.scheduled, "name": "hello", "input": call[1]})
        self._append(events, consumed, Effect(instance_id, call))

    def _append(self, events: list[dict[str, Any]], consumed: list[int], effect: Effect) -> None:
        record = {
            "epoch": 0,
            "offset": self._offset,
            "instance_id": effect.instance_id,
            "time_ms": time.time_ns() // 1_000_000,
            "consumed": consumed,
            "events": orjson.dumps(events),
        }
        out = io.BytesIO()
        fastavro.schemaless_writer(out, TURN, record)
        self._offset += 1
        self._history.produce(
            f"{self._hub}.history",
            out.getvalue(),
            key=effect.instance_id,
            partition=0,
            on_delivery=lambda error, _: self._confirmed.append(error),
        )
        self._effects.append(effect)

    def _act_on_confirmed(self) -> None:
        for error in self._confirmed:
            if error is not None:
                raise SystemExit(f"append failed: {error}")
            effect = self._effects.popleft()
            if effect.call is not None:
                self._ready.append(effect)
            else:
                reply = orjson.dumps({"id": effect.instance_id, "result": effect.result})
                self._replies.produce(f"{self._hub}.replies", reply, partition=0)
        self._confirmed.clear()


def main() -> None:
    servers, hub = sys.argv[1:]
    loop = BareLoop(servers, hub)
    ended = threading.Event()

    def follow_stdin() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=follow_stdin, daemon=True).start()
    while not ended.is_set():
        loop.step()


if __name__ == "__main__":
    main()
