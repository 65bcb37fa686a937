"""Two workers on a log that loses, delays, doubles and misreports, killed again and again: every order is shipped once, and
the audit finds nothing."""

from collections import Counter
from random import Random

import pytest

from perdure.audit import AuditReport, audit_records, read_log
from perdure.partitions.holdings import OwnerParts, OwnerSettings
from perdure.partitions.index import ListQuery, list_instances
from perdure.partitions.instances import unwatched
from perdure.partitions.memory import MemoryHub, MemoryLog, MemoryStores, RandomFaults
from perdure.partitions.owner import PartitionOwner
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull
from perdure.partitions.reader import Accepted, RunState, read_record
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.codec import decode_turn, encode_inbound
from tests.audit.simulated import CODE, PARTITIONS, Worker, perform
from tests.partitions.cluster import Clock, HandPool

ORDERS = 25
SEEDS = range(12)


class MortalWorker(Worker):
    """A process that dies without a word; its stores keep what a crash leaves."""

    def __init__(self, hub: MemoryHub, clock: Clock, name: str, stores: MemoryStores, seed: int) -> None:
        self.log = MemoryLog(hub)
        self._stores = stores
        pool = HandPool(self.log, automatic=True, perform=perform)
        parts = OwnerParts(self.log, stores, pool, CODE, clock, Random(seed), unwatched)
        settings = OwnerSettings(name, checkpoint_turns_max=7, append_seconds_max=3.0, session_seconds=2.0, slots_max=3)
        self.owners = [PartitionOwner(partition, parts, settings) for partition in range(PARTITIONS)]

    def die(self, dice: Random) -> None:
        self.log.close()
        for partition in range(PARTITIONS):
            self._stores.crash(partition, dice.randint(0, 5))


class Simulation:
    """One run, decided by its seed."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.clock = Clock()
        self.faults = RandomFaults(Random(seed + 1))
        self.hub = MemoryHub(PARTITIONS, self.clock, faults=self.faults)
        self.client = MemoryLog(self.hub)
        self.stores = [MemoryStores(), MemoryStores()]
        self.born = 0
        self.workers = [self.bear(0), self.bear(1)]

    def bear(self, slot: int) -> MortalWorker:
        self.born += 1
        return MortalWorker(self.hub, self.clock, f"worker-{slot}-{self.born}", self.stores[slot], self.born)

    def start(self, name: str, orchestration: str) -> None:
        """Ask for an instance; like any client, ask again later if this may not have come through."""
        message = ms.Inbound(name, ms.Start(orchestration, b'"%s"' % name.encode()), request_id=f"start-{name}")
        try:
            self.client.publisher.publish_inbox(partition_of(name, PARTITIONS), name, encode_inbound(message))
        except BufferFull:
            return

    def begin(self) -> None:
        """Let the ledger be there before anything goes wrong."""
        self.faults.calm = True
        self.start("ledger", "ledger")
        self.recover(20)
        self.faults.calm = False

    def suffer(self, rounds: int) -> None:
        """Run under faults."""
        started = 0
        for _ in range(rounds):
            for worker in self.workers:
                if self.dice.random() < 0.8:
                    worker.step()
            if self.dice.random() < 0.1 and started < ORDERS:
                self.start(f"order-{started}", "ship")
                started += 1
            self.client.wait(0)
            self.clock.now_ms += self.dice.choice([0, 1, 10, 100, 700])
            if self.dice.random() < 0.02:
                slot = self.dice.randrange(2)
                self.workers[slot].die(self.dice)
                self.workers[slot] = self.bear(slot)

    def recover(self, rounds: int) -> None:
        """Run without faults, and with one worker."""
        self.faults.calm = True
        for _ in range(rounds):
            self.workers[0].step()
            self.client.wait(0)
            self.clock.now_ms += 100

    def finish(self) -> None:
        """Ask once more for every order, then run until all is done."""
        self.faults.calm = True
        self.workers[1].die(self.dice)
        for number in range(ORDERS):
            self.start(f"order-{number}", "ship")
        self.recover(600)
        self.resume_held()
        self.recover(200)

    def resume_held(self) -> None:
        """An order that was being tried whenever its worker was killed looks like poison (R13); somebody looks at it, and resumes it."""
        for owner in self.workers[0].owners:
            assert owner.holdings is not None
            for header in list_instances(owner.holdings.store, ListQuery(held=True))[0]:
                message = ms.Inbound(header.instance_id, ms.Resume())
                self.client.publisher.publish_inbox(owner.partition, header.instance_id, encode_inbound(message))

    def audit(self) -> AuditReport:
        return audit_records(read_log(self.client), CODE)

    def told(self) -> Counter[bytes]:
        """How often the ledger was told of each order."""
        state, told = RunState(), Counter[bytes]()
        for record in read_log(self.client)[partition_of("ledger", PARTITIONS)]:
            state, verdict = read_record(state, record.offset, record.value)
            if isinstance(verdict, Accepted) and verdict.instance_id == "ledger":
                events = decode_turn(verdict.body, verdict.format).events
                told.update(event.input for event in events if isinstance(event, ev.EventRaised))
        return told


@pytest.mark.parametrize("seed", SEEDS)
def test_every_order_is_shipped_once_and_the_audit_finds_nothing(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.begin()
    simulation.suffer(600)
    simulation.finish()

    report = simulation.audit()

    assert () == report.findings
    assert {"COMPLETED": 2 * ORDERS} == report.counts.finished
    assert 1 == report.counts.unfinished
    assert {b'"order-%d"' % number: 1 for number in range(ORDERS)} == simulation.told()
    assert report.counts.void > 0
    assert report.counts.spanning_instances > 0
