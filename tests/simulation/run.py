"""One run: prepare, suffer, heal, demand that everything ends, and look at what is there.

Rules of this file: the faults of a scenario happen between preparation and healing, and after that none.
"""

import gc
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

from perdure.partitions.header import InstanceHeader
from perdure.partitions.index import ListQuery, list_instances
from perdure.partitions.memory.faults import DEAD_LETTER, HISTORY, INBOX, REPLIES, SNAPSHOTS
from perdure.partitions.owner import Phase
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import LogUnavailable, StoreCorrupt, StoreUnavailable
from perdure.partitions.recovery import PartitionRefused
from perdure.schemas.events import Status
from perdure.schemas.messages import Resume, Terminate
from tests.checkers.evidence import Evidence, StoreImage
from tests.checkers.reading import read
from tests.checkers.requests import facts_of

from .clients import (
    Ask,
    Client,
    Operator,
    Session,
    Sleep,
    carry_out,
    insist,
    litter,
    look_at_all,
    look_on,
    send_events,
    shout,
    start_of,
)
from .faults import Fault, Turmoil
from .generate import Scenario
from .interpreter import CODE
from .logs import listening
from .plans import ENDLESS, KILLER, Plan, Trouble, job_of
from .world import World

PREPARE_MS_MAX = 5_000
PATIENCE_MS = 60_000
QUIET_MS = 9_000
NOT_READY = "the run does not get ready"
_LIVE = (Status.PENDING, Status.RUNNING, Status.SUSPENDED)


class Run:
    """One scenario on its way."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(scenario)
        self._operator = self.world.clients["operator"] = Operator(self.world)
        self._numbers = 0

    def go(self) -> Evidence:
        world = self.world
        self._prepare()
        for machine in world.machines:
            machine.arm()
        began = world.clock.now
        for plan in self.scenario.plans:
            if not plan.is_landmark:
                self._carry_out(plan)
        for event in self.scenario.turmoil:
            self._schedule(event)
        world.run_until(began + self.scenario.window_ms)
        self._heal()
        self.healed_at = world.clock.now
        while world.clock.now < self.healed_at + self.scenario.patience_ms and not self._is_done():
            self._resume_held()
            if world.clock.now > self.healed_at + PATIENCE_MS:
                self._end_repeated()
            world.run_until(world.clock.now + 1_000)
        self._look_at_all()
        self.healed_in_ms = world.clock.now - self.healed_at
        world.run_until(world.clock.now + QUIET_MS)
        # What landed late may have ended an epoch just now, and only an owner knows what its instances wait for.
        while not self._all_owned() and world.clock.now < self.healed_at + 2 * PATIENCE_MS:
            world.run_until(world.clock.now + 1_000)
        return self._evidence()

    # Before.

    def _prepare(self) -> None:
        """Every partition has an owner and every landmark is there."""
        world = self.world
        world.network.calm = True
        for machine in world.machines:
            machine.boot()
        for plan in self.scenario.plans:
            if plan.is_landmark:
                self._client(f"starter-{plan.instance_id}", carry_out(plan))
        while not (self._clients_done() and self._all_owned()):
            assert world.clock.now < PREPARE_MS_MAX, NOT_READY
            world.run_until(world.clock.now + 100)
        world.network.calm = False

    def _client(self, name: str, session: Session) -> Client:
        client = self.world.clients[name] = Client(name, self.world)
        client.run(session)
        return client

    def _clients_done(self) -> bool:
        return all(client.done for client in self.world.clients.values())

    def _all_owned(self) -> bool:
        return all(self.world.holder(partition) is not None for partition in range(self.scenario.partitions))

    def _carry_out(self, plan: Plan) -> None:
        name = plan.instance_id
        if plan.trouble is Trouble.STRANGER:
            number = sum(name.encode()) % self.scenario.partitions
            self._client(f"stranger-{name}", shout(plan, self.world.put, number))
        else:
            self._client(f"owner-{name}", carry_out(plan))
        if plan.raised:
            self._client(f"sender-{name}", send_events(plan))
        if plan.watched:
            self._client(f"watcher-{name}", look_on(plan))

    # Faults at a time.

    def _schedule(self, event: Turmoil) -> None:
        act = _TURMOIL.get(event.kind)
        assert act is not None, event.kind
        self.world.after(event.at_ms, lambda: act(self, event))
        if event.kind is Fault.DISK_STALE:
            self.world.after(event.at_ms // 2, self.world.machines[event.machine].disk.remember)

    def _done(self, event: Turmoil) -> None:
        """It has happened."""
        self.world.counts[event.kind] += 1
        self.world.note(f"m{event.machine}", event.kind.value, event.amount)

    def _kill(self, event: Turmoil) -> bool:
        process = self.world.machines[event.machine].process
        if process is None:
            return False
        process.die(event.at_ms % 4, "is killed")
        self._done(event)
        return True

    def _stop(self, event: Turmoil) -> None:
        process = self.world.machines[event.machine].process
        if process is None:
            return
        if event.kind is Fault.DEPLOY:
            self.world.build = 3 - self.world.build if self.scenario.builds > 1 else 1
        process.ask_to_stop()
        self.world.wake(process, self.world.clock.now)
        self._done(event)

    def _jump(self, event: Turmoil) -> None:
        amount = -event.amount if event.kind is Fault.CLOCK_BACKWARD else event.amount
        self.world.expect(PartitionRefused, "clock")
        self.world.machines[event.machine].jump(amount)
        self._done(event)

    def _move(self, event: Turmoil) -> None:
        if len(self.world.machines) > 1:
            self._done(event)
            for number in range(max(1, event.amount // 250)):
                self.world.after(250 * number, self.world.group.move)

    def _steal(self, event: Turmoil) -> None:
        if self.world.group.steal(event.at_ms % self.scenario.partitions, event.amount):
            self._done(event)

    def _cut(self, event: Turmoil) -> None:
        """Everybody's connection to one process is closed."""
        process = self.world.machines[event.machine].process
        if process is None:
            return
        others = [each.process for each in self.world.machines if each.process is not None]
        cut = [other for other in others if other.peers.lose(process.life.name)]
        for other in cut:
            self.world.wake(other, self.world.clock.now)
        if cut:
            self._done(event)

    def _outage(self, event: Turmoil) -> None:
        self.world.expect(LogUnavailable)
        self.world.hub.unavailable = True
        self._done(event)

        def end() -> None:
            self.world.hub.unavailable = False

        self.world.after(event.amount, end)

    def _spoil(self, event: Turmoil) -> None:
        """Do something to a disk between two lives."""
        disk = self.world.machines[event.machine].disk
        if not disk.partitions or not self._kill(event):
            return
        self.world.counts[Fault.KILL] += 1
        {
            Fault.DISK_LOST: disk.lose,
            Fault.DISK_STALE: disk.put_back,
            Fault.DISK_SWAPPED: disk.swap,
            Fault.DISK_CORRUPT: disk.damage,
        }[event.kind]()
        self.world.expect(StoreCorrupt)

    def _fill(self, event: Turmoil) -> None:
        disk = self.world.machines[event.machine].disk
        self.world.expect(StoreUnavailable)
        disk.full = True
        self._done(event)

        def end() -> None:
            disk.full = False

        self.world.after(event.amount, end)

    def _slow(self, event: Turmoil) -> None:
        self.world.outside.slow_ms = event.amount
        self._done(event)

    def _saturate(self, event: Turmoil) -> None:
        process = self.world.machines[event.machine].process
        if process is None:
            return
        process.pool.saturated = True
        self._done(event)

        def end() -> None:
            process.pool.saturated = False

        self.world.after(event.amount, end)

    def _break_snapshot(self, event: Turmoil) -> None:
        """Change a byte in one of the pieces of one partition, or leave some out."""
        journal = self.world.hub.journal(SNAPSHOTS, event.at_ms % self.scenario.partitions)
        if journal.damage(event.at_ms, lose=event.kind is Fault.SNAPSHOT_LOST):
            self._done(event)

    def _compact(self, event: Turmoil) -> None:
        for partition in range(self.scenario.partitions):
            self.world.hub.journal(SNAPSHOTS, partition).compact()
        self._done(event)

    def _forget_trim(self, event: Turmoil) -> None:
        journal = self.world.hub.journal(HISTORY, event.at_ms % self.scenario.partitions)
        if journal.start:
            journal.move_start_back(event.at_ms % journal.start)
            self._done(event)

    def _litter(self, event: Turmoil) -> None:
        self._client(
            f"litterer-{event.at_ms}", litter(self.world.put, event.at_ms % self.scenario.partitions, event.at_ms)
        )
        self._done(event)

    def _misplace(self, event: Turmoil) -> None:
        """A start on the wrong partition, which has to be forwarded."""
        name = f"misplaced-{event.at_ms}"
        wrong = (partition_of(name, self.scenario.partitions) + 1) % self.scenario.partitions
        if self.scenario.partitions > 1:
            self._done(event)
            plan = Plan(name, job_of([["call", 7]]), 0)

            def session() -> Session:
                yield Sleep(0)
                yield from insist(Ask(name, start_of(plan), f"{name}/start", partition=wrong))

            self._client(f"misplacer-{event.at_ms}", session())

    # After.

    def _heal(self) -> None:
        """No more faults. Whoever is gone comes back, with the newest build."""
        world = self.world
        world.note("world", "heals")
        world.network.calm = True
        world.hub.unavailable = False
        world.outside.slow_ms = 0
        world.build = self.scenario.builds
        for machine in world.machines:
            machine.spare()
            machine.disk.full = False
            machine.jump(-machine.skew_ms)
            process = machine.process
            if process is None:
                machine.boot()
                continue
            process.pool.saturated = False
            if process.life.build != world.build:
                process.ask_to_stop()
            world.wake(process, world.clock.now)

    def _look_at_all(self) -> None:
        """Every partition answers every kind of read once nothing goes wrong any more."""
        world, until = self.world, self.world.clock.now + PATIENCE_MS
        names = [plan.instance_id for plan in self.scenario.plans][:3]
        client = self._client("reader", look_at_all(range(self.scenario.partitions), names))
        while not client.done and world.clock.now < until:
            world.run_until(world.clock.now + 100)

    def _resume_held(self) -> None:
        """An operator lets go on what is held: what seemed to kill its owners, and what another build could not decide for."""
        for header in self._headers(ListQuery(held=True, limit=10)):
            if header.instance_id == KILLER:
                continue
            self._operator.run_more(Ask(header.instance_id, Resume("try again")))

    def _end_repeated(self) -> None:
        """A start that came again after a retention had let go of its instance began it anew, and nobody will send that one its
        events: a hub that forgets within seconds forgets requests, too."""
        if self.scenario.tuning.retention_seconds is None:
            return
        starts = facts_of(read(self._evidence())).starts
        repeated = {name for (name, _), entries in starts.items() if len(entries) > 1}
        for header in self._headers(ListQuery(statuses=_LIVE)):
            if header.instance_id in repeated:
                self._operator.run_more(Ask(header.instance_id, Terminate(b'"repeated"')))

    def _headers(self, query: ListQuery) -> Iterator[InstanceHeader]:
        """What the owners of all partitions list."""
        for partition in range(self.scenario.partitions):
            owner = self.world.holder(partition)
            if owner is not None and owner.holdings is not None:
                yield from list_instances(owner.holdings.store, query)[0]

    def _is_done(self) -> bool:
        if not self._clients_done() or not self._all_owned():
            return False
        if any(owner.holdings is not None and owner.holdings.outbox.depth for _, owner in self.world.owners()):
            return False
        return all(
            header.instance_id in (ENDLESS, KILLER) for header in self._headers(ListQuery(statuses=_LIVE, limit=3))
        )

    def _evidence(self) -> Evidence:
        world, partitions = self.world, range(self.scenario.partitions)
        records = world.hub.records
        images = []
        for machine in world.machines:
            live = {
                owner.partition
                for process, owner in world.owners()
                if process.machine is machine and owner.phase == Phase.OWNING
            }
            for partition in machine.disk.partitions:
                content = machine.disk.content(partition)
                images.append(StoreImage(f"m{machine.number}", partition, content, live=partition in live))
        return Evidence(
            self.scenario.partitions,
            world.hub.identity.history_topic_id,
            {partition: records[HISTORY, partition] for partition in partitions},
            {partition: records[INBOX, partition] for partition in partitions},
            records[DEAD_LETTER, 0],
            [record for partition in partitions for record in records[REPLIES, partition]],
            world.calls,
            world.outside.attempts,
            images,
            world.trims,
            world.errors,
            [client.asks for client in world.clients.values() if not client.done],
            settled=True,
            endless=frozenset(plan.instance_id for plan in self.scenario.plans if plan.is_endless or plan.is_killer),
            deaths=world.outside.deaths,
            awaited=self._awaited,
        )

    def _awaited(self, instance_id: str) -> list[str]:
        """The external events that an instance waits for, by a replay of its code."""
        owner = self.world.holder(partition_of(instance_id, self.scenario.partitions))
        if owner is None or owner.holdings is None:
            return []
        slot = owner.holdings.instances.get(instance_id)
        if slot.state is None:
            return []
        executor = CODE[self.scenario.builds].executor(instance_id, slot.state.started)
        executor.replay(owner.holdings.instances.history(slot))
        return executor.awaited_events()


_TURMOIL: dict[Fault, Callable[[Run, Turmoil], Any]] = {
    Fault.KILL: Run._kill,
    Fault.STOP: Run._stop,
    Fault.DEPLOY: Run._stop,
    Fault.CLOCK_FORWARD: Run._jump,
    Fault.CLOCK_BACKWARD: Run._jump,
    Fault.CLOCK_WRONG: Run._jump,
    Fault.PEER_CUT: Run._cut,
    Fault.MOVE: Run._move,
    Fault.STORM: Run._move,
    Fault.STEAL: Run._steal,
    Fault.OUTAGE: Run._outage,
    Fault.DISK_LOST: Run._spoil,
    Fault.DISK_STALE: Run._spoil,
    Fault.DISK_SWAPPED: Run._spoil,
    Fault.DISK_CORRUPT: Run._spoil,
    Fault.DISK_FULL: Run._fill,
    Fault.ACTIVITIES_SLOW: Run._slow,
    Fault.SATURATED: Run._saturate,
    Fault.SNAPSHOT_BROKEN: Run._break_snapshot,
    Fault.SNAPSHOT_LOST: Run._break_snapshot,
    Fault.COMPACTION: Run._compact,
    Fault.TRIM_FORGOTTEN: Run._forget_trim,
    Fault.JUNK: Run._litter,
    Fault.MISPLACED: Run._misplace,
}


def digest_of(world: World) -> str:
    """Of everything that was seen to happen: the same scenario gives the same."""
    digest = blake2b(digest_size=12)
    for entry in world.trace:
        digest.update(repr(entry).encode())
    for key in sorted(world.hub.records):
        for record in world.hub.records[key]:
            digest.update(b"%d %d " % (record.offset, record.timestamp_ms))
            digest.update(record.value or b"-")
    return digest.hexdigest()


def run_scenario(scenario: Scenario) -> tuple[Run, Evidence, str]:
    """Run it, and return what is to be judged."""
    enabled = gc.isenabled()
    gc.disable()
    run = Run(scenario)
    try:
        with listening(run.world):
            evidence = run.go()
    finally:
        if enabled:
            gc.enable()
    return run, evidence, digest_of(run.world)
