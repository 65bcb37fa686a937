"""Membership in a real consumer group: who tries which partition (R6)."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import orjson
import pytest

from perdure.partitions.kafka import KafkaMembership, KafkaSettings, create_hub
from perdure.partitions.kafka import membership as membership_module
from perdure.partitions.membership import SoleMembership
from perdure.partitions.ports import Assigned, LogUnavailable, Lost, Membership, MembershipChange, Revoked

_numbers = count(1)
PATIENCE_SECONDS = 30.0
PARTITIONS = 4


class Member:
    """A process of the group: what it has, and the changes that it saw."""

    def __init__(self, settings: KafkaSettings, *, hands_over: bool = True) -> None:
        self._membership: Membership = KafkaMembership(settings, lambda: None)
        self._hands_over = hands_over
        self.partitions: set[int] = set()
        self.changes: list[MembershipChange] = []

    def poll(self) -> None:
        for change in self._membership.poll():
            self.changes.append(change)
            if isinstance(change, Assigned):
                self.partitions.update(change.partitions)
            elif isinstance(change, Lost) or self._hands_over:
                self.partitions.difference_update(change.partitions)
                self._membership.acknowledge(change.partitions)

    def hand_over(self) -> None:
        for change in self.changes:
            if isinstance(change, Revoked):
                self.partitions.difference_update(change.partitions)
                self._membership.acknowledge(change.partitions)

    def close(self) -> None:
        self._membership.close()


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_servers, f"group-{time.time_ns()}-{next(_numbers)}")
    create_hub(settings, PARTITIONS, 1)
    return settings


@pytest.fixture
def join(settings: KafkaSettings) -> Iterator[Callable[..., Member]]:
    members: list[Member] = []

    def joined(**options: bool) -> Member:
        members.append(Member(settings, **options))
        return members[-1]

    yield joined
    for member in members:
        member.close()


def until(condition: Callable[[], bool], *members: Member) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, [member.changes for member in members]
        for member in members:
            member.poll()
        time.sleep(0.01)


@pytest.mark.kafka
def test_heartbeats_go_out_when_they_are_due(
    settings: KafkaSettings, join: Callable[..., Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves is heard of with the next one, so hand-over waits for them."""
    sent: list[int] = []

    def hear(_: KafkaMembership, _life: int, statistics: str) -> None:
        brokers = orjson.loads(statistics)["brokers"].values()
        sent.append(sum(broker["req"].get("Heartbeat", 0) for broker in brokers))

    monkeypatch.setattr(KafkaMembership, "_hear", hear)
    member = join()

    # One each 75 ms for what is told each second, by the same thread; it would be two where something else has to wake it.
    until(lambda: any(later - sooner >= 4 * 4 for sooner, later in zip(sent, sent[4:], strict=False)), member)


def test_alone_one_has_all_partitions_at_once() -> None:
    membership = SoleMembership(3)

    assert [Assigned((0, 1, 2))] == list(membership.poll())
    assert list(membership.poll()) == []


@pytest.mark.kafka
def test_the_first_member_gets_all_partitions_and_the_second_half_of_them(join: Callable[..., Member]) -> None:
    first = join()
    until(lambda: len(first.partitions) == PARTITIONS, first)

    second = join()
    until(lambda: len(second.partitions) == PARTITIONS // 2, first, second)

    assert len(first.partitions) == PARTITIONS // 2
    assert set(range(PARTITIONS)) == first.partitions | second.partitions
    assert not any(isinstance(change, Lost) for change in first.changes)


@pytest.mark.kafka
def test_a_partition_moves_only_when_it_was_handed_over(join: Callable[..., Member]) -> None:
    first = join(hands_over=False)
    until(lambda: len(first.partitions) == PARTITIONS, first)
    second = join()
    until(lambda: any(isinstance(change, Revoked) for change in first.changes), first, second)

    waited = time.monotonic() + 1.5
    until(lambda: time.monotonic() > waited, first, second)
    assert second.partitions == set()

    first.hand_over()
    until(lambda: len(second.partitions) == PARTITIONS // 2, first, second)


@pytest.mark.kafka
def test_who_leaves_in_order_is_followed_at_once(settings: KafkaSettings) -> None:
    """And not once its session is over, for which nobody here would wait."""
    patient = replace(settings, properties={"session.timeout.ms": int(4_000 * PATIENCE_SECONDS)})
    first, second = Member(patient), Member(patient)
    try:
        until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2, first, second)
        second.close()
        until(lambda: len(first.partitions) == PARTITIONS, first)
    finally:
        first.close()
        second.close()


MEMBER = """
import sys, time
from perdure.partitions.kafka import KafkaMembership, KafkaSettings
from perdure.partitions.ports import Assigned

servers, hub, session = sys.argv[1:]
membership = KafkaMembership(KafkaSettings(servers, hub, {"session.timeout.ms": int(1000 * float(session))}), lambda: None)
while True:
    for change in membership.poll():
        print(type(change).__name__, *change.partitions, flush=True)
        if not isinstance(change, Assigned):
            membership.acknowledge(change.partitions)
    time.sleep(0.01)
"""


def member_process(settings: KafkaSettings) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MEMBER, settings.servers, settings.hub, "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.kafka
def test_who_is_killed_is_followed_after_its_session(settings: KafkaSettings, join: Callable[..., Member]) -> None:
    victim = member_process(settings)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "Assigned 0 1 2 3\n"

    victim.kill()
    victim.wait()
    heir = join()

    until(lambda: len(heir.partitions) == PARTITIONS, heir)


@pytest.mark.kafka
def test_who_comes_back_from_a_long_pause_is_told_what_it_lost(
    settings: KafkaSettings, join: Callable[..., Member]
) -> None:
    import os
    import signal

    sleeper = member_process(settings)
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "Assigned 0 1 2 3\n"

    os.kill(sleeper.pid, signal.SIGSTOP)
    heir = join()
    until(lambda: len(heir.partitions) == PARTITIONS, heir)
    os.kill(sleeper.pid, signal.SIGCONT)

    assert sleeper.stdout.readline() == "Lost 0 1 2 3\n"
    sleeper.kill()
    sleeper.wait()


@pytest.mark.kafka
def test_a_fault_on_its_thread_is_not_the_silent_end_of_a_membership(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine hears of the group from that thread alone."""

    def fail(_membership: KafkaMembership, _me: str | None) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(KafkaMembership, "_read_roster", fail)
    membership = KafkaMembership(settings, lambda: None)
    membership._thread.join(PATIENCE_SECONDS)
    with pytest.raises(LogUnavailable, match=f"membership of hub '{settings.hub}' has ended: .*a bug"):
        membership.poll()
    membership.close()


@pytest.mark.kafka
def test_who_is_out_of_the_group_and_gets_no_answer_from_it_joins_by_another_consumer(
    settings: KafkaSettings, join: Callable[..., Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_module, "OUT_SECONDS", 3.0)
    # The first one knows of no broker that it could ask, as a client that librdkafka leaves without one.
    nowhere = KafkaSettings("127.0.0.1:1", settings.hub).member(lambda _: None)
    consumers = iter([nowhere])
    make = KafkaSettings.member
    monkeypatch.setattr(KafkaSettings, "member", lambda this, hear: next(consumers, None) or make(this, hear))
    first, second = join(), join()

    until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2, first, second)

    assert set(range(PARTITIONS)) == first.partitions | second.partitions
    quiet = [len(first.changes), len(second.changes)]
    waited = time.monotonic() + 5.0  # who is in the group stays
    until(lambda: time.monotonic() > waited, first, second)
    assert quiet == [len(first.changes), len(second.changes)]


@pytest.mark.kafka
def test_who_fell_out_without_being_told_lets_go_of_what_it_had_and_joins_by_another_consumer(
    join: Callable[..., Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client tells of its state in its statistics alone; patience grows until the group has had its time."""
    monkeypatch.setattr(membership_module, "OUT_SECONDS", 0.05)
    monkeypatch.setattr(membership_module, "OUT_SECONDS_MAX", 5.0)
    alone = join()
    until(lambda: len(alone.partitions) == PARTITIONS, alone)
    assert isinstance(alone._membership, KafkaMembership)
    membership, before = alone._membership, alone._membership._consumer
    alone.changes.clear()

    membership._hear(membership._lives - 1, '{"cgrp": {"state": "up", "join_state": "wait-join"}}')
    assert membership._out_since is None  # what one that was given up tells says nothing of this one
    membership._hear(membership._lives, '{"cgrp": {"state": "up", "join_state": "wait-join"}}')
    until(lambda: membership._consumer is not before and bool(alone.changes), alone)
    until(lambda: len(alone.partitions) == PARTITIONS, alone)

    assert Lost(tuple(range(PARTITIONS))) == alone.changes[0]
    assert membership._patience <= 5.0
