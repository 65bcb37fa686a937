"""A rolling restart of a group, by each kind of membership: for how long a partition is nobody's, and how often it moves.

`make bench-rolling`: members alone, without an engine, so that what differs is the membership. Three members share twelve
partitions; each in turn ends in order and is back after as long as a worker process takes to start.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from .bare_system import BrokerUnderTest
from .broker import warm_broker
from .machine import machine_description

MEMBERS = 3
PARTITIONS = 12
AWAY_SECONDS = 2.0
SETTLED_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
ROUNDS = 3
_CLASSIC = {"group.protocol": "classic", "session.timeout.ms": 45_000, "heartbeat.interval.ms": 75}
KINDS: Mapping[str, Mapping[str, object]] = {
    "cooperative-sticky": {**_CLASSIC, "partition.assignment.strategy": "cooperative-sticky"},
    "the same, static": {**_CLASSIC, "partition.assignment.strategy": "cooperative-sticky", "group.instance.id": "{}"},
    "eager (range)": {**_CLASSIC, "partition.assignment.strategy": "range"},
    "the new protocol": {"group.protocol": "consumer"},
    "the new protocol, static": {"group.protocol": "consumer", "group.instance.id": "{}"},
}


@dataclass(slots=True)
class Ledger:
    """Who has what, and for how long nobody had it."""

    owners: dict[int, int] = field(default_factory=dict)
    free_since: dict[int, float] = field(default_factory=dict)
    free_seconds: dict[int, float] = field(default_factory=dict)
    moves: int = 0
    changed_at: float = 0.0

    def take(self, member: int, partitions: Sequence[int]) -> None:
        now = self.changed_at = time.monotonic()
        for each in partitions:
            self.moves += 1
            self.owners[each] = member
            since = self.free_since.pop(each, now)
            self.free_seconds[each] = self.free_seconds.get(each, 0.0) + now - since

    def leave(self, member: int, partitions: Sequence[int]) -> None:
        now = self.changed_at = time.monotonic()
        for each in partitions:
            if self.owners.get(each) == member:
                del self.owners[each]
                self.free_since[each] = now


class Member:
    """One consumer, which does nothing with what it has."""

    def __init__(self, broker: BrokerUnderTest, group: str, kind: Mapping[str, object], number: int) -> None:
        self.number = number
        self._kind = kind
        settings = {key: str(value).format(number) for key, value in kind.items()}
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker.servers,
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
                **settings,
            }
        )

    def join(self, topic: str, ledger: Ledger) -> "Member":
        eager = self._kind.get("partition.assignment.strategy") == "range"

        def assigned(consumer: Consumer, given: list[TopicPartition]) -> None:
            (consumer.assign if eager else consumer.incremental_assign)(given)
            consumer.pause(given)
            ledger.take(self.number, [each.partition for each in given])

        def revoked(consumer: Consumer, taken: list[TopicPartition]) -> None:
            ledger.leave(self.number, [each.partition for each in taken])
            consumer.unassign() if eager else consumer.incremental_unassign(taken)

        self._consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked)
        return self

    def poll(self) -> None:
        self._consumer.poll(0.005)

    def close(self) -> None:
        self._consumer.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one rolling restart: for how long each partition was nobody's, how often partitions moved, and how long it all took."""

    free_seconds: Sequence[float]
    moves: int
    seconds: float


def roll(broker: BrokerUnderTest, kind: Mapping[str, object]) -> Outcome:
    """Restart all members in turn, each once the one before has settled."""
    group = f"rolling-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.servers, "log_level": 0})
    admin.create_topics([NewTopic(group, PARTITIONS, 1)])[group].result(20)
    ledger = Ledger()
    members = [Member(broker, group, kind, number).join(group, ledger) for number in range(MEMBERS)]
    _settle(members, ledger)
    ledger.free_seconds, ledger.moves = dict.fromkeys(range(PARTITIONS), 0.0), 0
    began = time.monotonic()
    for number in range(MEMBERS):
        leaving = members.pop(0)
        mine = [partition for partition, owner in ledger.owners.items() if owner == number]
        ledger.leave(number, mine)
        leaving.close()
        back = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < back:
            _poll(members)
        members.append(Member(broker, group, kind, number).join(group, ledger))
        _settle(members, ledger)
    seconds = time.monotonic() - began - MEMBERS * SETTLED_SECONDS
    for each in members:
        each.close()
    admin.delete_topics([group])[group].result(20)
    return Outcome(list(ledger.free_seconds.values()), ledger.moves, seconds)


def _poll(members: Sequence[Member]) -> None:
    for each in members:
        each.poll()


def _settle(members: Sequence[Member], ledger: Ledger) -> None:
    """Until everything is somebody's, everybody has something, and nothing has changed for a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(ledger.owners) < PARTITIONS or len({*ledger.owners.values()}) < MEMBERS or _moved(ledger):
        assert time.monotonic() < deadline, f"the group does not settle: {ledger.owners}"
        _poll(members)


def _moved(ledger: Ledger) -> bool:
    return time.monotonic() - ledger.changed_at < SETTLED_SECONDS


def main() -> None:
    with warm_broker() as broker:
        print(machine_description())
        print(
            f"| membership | nobody's, median | p95 | longest | moves a restart of {MEMBERS} | takes |\n|---|---|---|---|---|---|"
        )
        for name, kind in KINDS.items():
            outcomes = [roll(broker, kind) for _ in range(ROUNDS)]
            free = [seconds for outcome in outcomes for seconds in outcome.free_seconds]
            p95 = quantiles(free, n=20)[-1]
            moves, takes = median(each.moves for each in outcomes), median(each.seconds for each in outcomes)
            print(
                f"| {name} | {median(free):.2f} s | {p95:.2f} s | {max(free):.2f} s | {moves:g} | {takes:.1f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
