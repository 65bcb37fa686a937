"""A Hypothesis state machine over real owners on the adversarial log: whatever a rule does, at whatever moment, each owner's
confirmed state is the log's, and once nothing goes wrong any more everything ends and every checker is content (R2 to R8, R13 to R15).

The models beside it (`tests/models`) search small cases to the end; this one takes the engine itself, in cases that Hypothesis makes up and,
where one fails, makes small.
"""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perdure.partitions.memory import Fate, Faults, MemoryStores, Reporting
from perdure.partitions.memory.faults import HISTORY, INBOX, REPLIES, SNAPSHOTS
from perdure.partitions.owner import PartitionOwner
from perdure.partitions.owner import Phase as OwnerPhase
from perdure.partitions.ports import LogUnavailable
from perdure.partitions.reader import Accepted
from perdure.partitions.recovery import PartitionRefused
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.codec import decode_turn
from perdure.schemas.messages import ReplyCode
from perdure.schemas.records import RecordKind
from tests.checkers.evidence import Call, Evidence, Outcome, StoreImage
from tests.checkers.judge import judge
from tests.partitions.cluster import Cluster, Member
from tests.simulation.bugs.catalogue import BUGS
from tests.simulation.bugs.planting import Bug, planted

PARTITIONS = 2
MACHINES = ("m1", "m2", "m3")
EVENTS = 2
ENDS = ev.ExecutionCompleted | ev.ExecutionTerminated
LONG = b'"%s"' % (b"long" * 300)
ROUNDS_MAX = 1_500
QUIET_ROUNDS = 80
EXAMPLES = 60
SHRINKING = int(os.environ.get("SIMULATION_TRIES", "8")) > 100
"""`make bugs` looks for the shortest story of each bug; a test run is content with any."""

machines = st.sampled_from(MACHINES)
partitions = st.integers(0, PARTITIONS - 1)
fates = st.one_of(
    st.builds(Fate, st.sampled_from((0, 1, 5, 40))),
    st.sampled_from(
        [
            Fate(copies=0),
            Fate(copies=0, report=Reporting.NONE),
            Fate(copies=2),
            Fate(report=Reporting.ERROR),
            Fate(report=Reporting.NONE),
            Fate(report=Reporting.TWICE),
        ]
    ),
)


class Chosen(Faults):
    """What a rule has chosen for the next record of a topic; nothing else goes wrong."""

    def __init__(self) -> None:
        self.fates: defaultdict[str, deque[Fate]] = defaultdict(deque)
        self.refusals = 0
        self.gap = 0
        self.late: int | None = None

    def take_fate(self, topic: str, partition: int) -> Fate:
        return self.fates[topic].popleft() if self.fates[topic] else Fate()

    def take_refusal(self, topic: str, partition: int) -> bool:
        refused, self.refusals = self.refusals > 0, max(0, self.refusals - 1)
        return refused

    def take_gap(self, partition: int) -> int:
        gap, self.gap = self.gap, 0
        return gap

    def take_late_landing(self, topic: str, partition: int) -> int | None:
        return self.late


class Hub(RuleBasedStateMachine):
    """Up to three machines that all try all partitions, one client, and everything that may go wrong between them."""

    @initialize(retention=st.sampled_from((None, None, 1.0)), small=st.booleans())
    def create(self, retention: float | None, small: bool) -> None:
        self.faults = Chosen()
        self.cluster = Cluster(PARTITIONS, faults=self.faults)
        self.cluster.hub.record_bytes_max = 1_500 if small else 1_000_000
        self.disks = {name: MemoryStores() for name in MACHINES}
        self.retention = retention
        self.calls: dict[str, tuple[Call, ms.Body]] = {}
        self.open: Counter[str] = Counter()
        self.read_to = [0] * PARTITIONS
        self.lives = 0
        self.join("m1")

    # Machines.

    def alive(self, machine: str) -> Member | None:
        return next((each for each in self.cluster.members if each.name.startswith(machine)), None)

    def owners(self) -> Iterator[PartitionOwner]:
        for member in self.cluster.members:
            yield from member.owners.values()

    @rule(machine=machines)
    def join(self, machine: str) -> None:
        if self.alive(machine) is None:
            self.lives += 1
            self.cluster.join(
                f"{machine}.{self.lives}",
                stores=self.disks[machine],
                append_seconds_max=2.0,
                session_seconds=2.0,
                checkpoint_turns_max=5,
                snapshot_records_min=10,
                retention_seconds=self.retention,
            )

    @rule(machine=machines, writes_kept=st.integers(0, 3))
    def kill(self, machine: str, writes_kept: int) -> None:
        if (member := self.alive(machine)) is not None:
            self.cluster.kill(member, writes_kept)

    @rule(machine=machines, rounds=st.integers(0, 10))
    def stop(self, machine: str, rounds: int) -> None:
        """In order, if so many rounds are enough for it."""
        if (member := self.alive(machine)) is not None:
            member.release()
            self.cluster.step(rounds)
            self.cluster.kill(member)

    @rule(machine=machines)
    def lose_disk(self, machine: str) -> None:
        if self.alive(machine) is None:
            self.disks[machine] = MemoryStores()

    @rule(machine=machines)
    def hang(self, machine: str) -> None:
        """What it sends does not get through; or does again."""
        if (member := self.alive(machine)) is not None:
            member.log.stalled = not member.log.stalled

    # The log.

    @rule(
        topic=st.sampled_from((HISTORY, HISTORY, HISTORY, INBOX, REPLIES, SNAPSHOTS)),
        chosen=st.lists(fates, min_size=1, max_size=6),
    )
    def fate(self, topic: str, chosen: list[Fate]) -> None:
        self.faults.fates[topic].extend(chosen)

    @rule(refusals=st.integers(1, 3), gap=st.integers(0, 2), late=st.sampled_from((None, 0, 3, 30)))
    def trouble(self, refusals: int, gap: int, late: int | None) -> None:
        self.faults.refusals, self.faults.gap, self.faults.late = refusals, gap, late

    @rule()
    def outage(self) -> None:
        """Nobody reaches the hub; or everybody does again."""
        self.cluster.hub.unavailable = not self.cluster.hub.unavailable

    @rule(partition=partitions, share=st.floats(0, 1))
    def forget_trim(self, partition: int, share: float) -> None:
        journal = self.cluster.hub.journal(HISTORY, partition)
        journal.move_start_back(int(share * journal.start))

    @rule(partition=partitions)
    def compact(self, partition: int) -> None:
        self.cluster.hub.journal(SNAPSHOTS, partition).compact()

    # Time.

    @rule(rounds=st.integers(1, 6))
    def step(self, rounds: int) -> None:
        self.cluster.step(rounds)

    @rule(machine=machines, rounds=st.integers(1, 6))
    def step_one(self, machine: str, rounds: int) -> None:
        """All others stand still."""
        for _ in range(rounds if (member := self.alive(machine)) is not None else 0):
            member.step()

    @rule()
    def look(self) -> None:
        """Whether another stands in, as each worker does every ten seconds."""
        for owner in self.owners():
            with suppress(LogUnavailable):
                owner.notice_others()

    @rule(milliseconds=st.sampled_from((1, 60, 700, 2_500)))
    def pass_time(self, milliseconds: int) -> None:
        self.cluster.clock.now_ms += milliseconds

    # The client.

    def ask(self, name: str, body: ms.Body) -> None:
        request = self.cluster.send(name, body)
        call = Call(f"client-{request}", type(body).__name__, name, request, self.cluster.clock.now_ms, sent=1)
        self.calls[request] = call, body

    @rule(kind=st.sampled_from(("order", "listen", "sleep", "family")), number=st.integers(0, 3), long=st.booleans())
    def start(self, kind: str, number: int, long: bool) -> None:
        name = f"{kind}-{number}"
        given = {
            "order": LONG if long else b'"%d"' % number,
            "listen": b"%d" % EVENTS,
            "sleep": b"300",
            "family": b'["child-%d", "child-%d"]' % (2 * number, 2 * number + 1),
        }[kind]
        self.ask(name, ms.Start(kind, given))

    @rule(number=st.integers(0, 3))
    def raise_event(self, number: int) -> None:
        self.ask(f"listen-{number}", ms.RaiseEvent("go", b"1"))

    @rule(kind=st.sampled_from(("order", "listen", "family")), number=st.integers(0, 3))
    def terminate(self, kind: str, number: int) -> None:
        self.ask(f"{kind}-{number}", ms.Terminate(b'"enough"'))

    @precondition(lambda self: self.calls)
    @rule(share=st.floats(0, 1, exclude_max=True))
    def ask_again(self, share: float) -> None:
        """A client that has heard nothing sends the same once more."""
        call, body = list(self.calls.values())[int(share * len(self.calls))]
        call.sent += 1
        self.cluster.send(call.instance_id, body, request_id=call.request_id)

    # What holds at every moment.

    @invariant()
    def what_is_confirmed_counts(self) -> None:
        """C7: a reader of the log has accepted what an owner takes for confirmed, and all before it (R3, R4)."""
        accepted = [
            {verdict.offset: verdict.digest for _, verdict in history.read() if isinstance(verdict, Accepted)}
            for history in self.cluster.histories
        ]
        for member in self.cluster.members:
            for partition, owner in member.owners.items():
                anchor = owner.holdings.fold.anchor if owner.holdings is not None else None
                found = anchor and accepted[partition].get(anchor.offset)
                assert anchor is None or anchor.digest == found, (
                    f"C7 {member.name} has confirmed {partition}:{anchor.offset}, and readers have not"
                )

    def teardown(self) -> None:
        """Heal, demand that everything ends, and judge."""
        if not hasattr(self, "cluster"):
            return
        self.heal()
        quiet = 0
        for round_ in range(ROUNDS_MAX):
            self.cluster.step()
            self.cluster.clock.now_ms += 100
            quiet = quiet + 1 if self.is_done() else 0
            if quiet == QUIET_ROUNDS:
                break
            if round_ % 50 == 49:
                self.look()
                self.help_on(resume=round_ > ROUNDS_MAX // 3)
        self.cluster.until(lambda: all(owner.tenure is None or owner.tenure.quiet for owner in self.owners()))
        self.what_is_confirmed_counts()
        self.cluster.check()
        found = [str(each) for each in judge(self.evidence()).violations]
        assert not found, "\n".join(found)

    def heal(self) -> None:
        self.faults.__init__()  # type: ignore[misc]
        self.cluster.hub.unavailable = False
        for member in self.cluster.members:
            member.log.stalled = False
        for machine in MACHINES[:2]:
            self.join(machine)

    def unfinished(self) -> Iterator[str]:
        """What the log says of instances that have not ended. It is read on from where it was read to, also where it is trimmed."""
        for number, history in enumerate(self.cluster.histories):
            verdicts = history.read()
            for _, each in verdicts[self.read_to[number] :]:
                if isinstance(each, Accepted) and each.kind == RecordKind.TURN:
                    for event in decode_turn(each.body, each.format).events:
                        self.open[each.instance_id] += isinstance(event, ev.ExecutionStarted) - isinstance(event, ENDS)
            self.read_to[number] = len(verdicts)
        return (+self.open).elements()

    def is_done(self) -> bool:
        """All that began has ended, each partition has an owner, and nothing is on its way."""
        unfinished = any(self.unfinished())
        owning = [
            owner.holdings for owner in self.owners() if owner.phase == OwnerPhase.OWNING and owner.holdings is not None
        ]
        one_each = sorted(holdings.partition for holdings in owning) == list(range(PARTITIONS))
        return one_each and not unfinished and not any(holdings.outbox.depth for holdings in owning)

    def help_on(self, *, resume: bool) -> None:
        """Who listens gets events; who was near to many deaths is let go on, as an operator would (R13)."""
        for name in self.unfinished():
            if name.startswith("listen"):
                self.ask(name, ms.RaiseEvent("go", b"1"))
            if resume:
                self.ask(name, ms.Resume("go on"))

    def evidence(self) -> Evidence:
        hub = self.cluster.hub
        for call, _ in self.calls.values():
            for reply in self.cluster.replies(call.request_id)[:1]:
                done = reply.code in (ReplyCode.OK, ReplyCode.HELD, ReplyCode.ENDED)
                call.outcome, call.code = Outcome.OK if done else Outcome.FAIL, reply.code
                call.completed_ms = self.cluster.clock.now_ms

        def all_of(topic: str, partition: int) -> list[object]:
            journal = hub.journal(topic, partition)
            journal.move_start_back(0)
            return list(journal.read(0, journal.end))

        numbers = range(PARTITIONS)
        return Evidence(
            PARTITIONS,
            hub.identity.history_topic_id,
            {number: all_of(HISTORY, number) for number in numbers},  # type: ignore[misc]
            {number: all_of(INBOX, number) for number in numbers},  # type: ignore[misc]
            all_of("dead-letter", 0),  # type: ignore[arg-type]
            all_of(REPLIES, 0),  # type: ignore[arg-type]
            [call for call, _ in self.calls.values()],
            stores=list(self.images()),
        )

    def images(self) -> Iterator[StoreImage]:
        for member in self.cluster.members:
            for partition, owner in member.owners.items():
                if owner.phase == OwnerPhase.OWNING and owner.holdings is not None:
                    content = dict(owner.holdings.store.scan(b"", b"\xff"))
                    yield StoreImage(member.name, partition, content, live=True)


def running(examples: int, steps: int, *phases: Phase) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


def test_whatever_happens_in_whatever_order_every_checker_is_content() -> None:
    """C1 to C24, on the engine itself."""
    run_state_machine_as_test(
        Hub, settings=running(EXAMPLES, 50, Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    )


MUTATIONS = {
    "a record that landed elsewhere is confirmed": r"C\d+ ",
    "activities begin before their turn is confirmed": "was dispatched, and no record that counts says so",
    "clients are answered before their turn is confirmed": "C8 .* is answered as of .*, where no record counts",
}


@pytest.mark.parametrize(
    "bug", [bug for bug in BUGS if bug.name in MUTATIONS], ids=lambda bug: bug.name.replace(" ", "-")
)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    phases = (Phase.generate, Phase.shrink) if SHRINKING else (Phase.generate,)
    with planted(bug), pytest.raises((AssertionError, PartitionRefused), match=MUTATIONS[bug.name]) as caught:
        run_state_machine_as_test(Hub, settings=settings(running(200, 50, *phases), derandomize=True))
    print(f"\n{bug.name}: {caught.value}", *getattr(caught.value, "__notes__", ()), sep="\n")
