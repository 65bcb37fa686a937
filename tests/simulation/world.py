"""The world of one run: virtual time, machines and their processes, clients, the network, and everything that goes wrong with them.

Rules of this file: one seed is one run; whatever happens is decided by the scenario and its dice, and noted in the trace.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from itertools import count
from random import Random
from typing import Any

from perdure.partitions.activities import ActivityResult
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.memory import MemoryPublisher
from perdure.partitions.memory.faults import REPLIES
from perdure.partitions.owner import PartitionOwner, Phase
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull, LogRecord
from perdure.schemas.codec import decode_reply, encode_inbound
from perdure.schemas.messages import Inbound, TaskResult
from perdure.worker import WorkerSettings
from tests.checkers.evidence import Call, Trim

from .clients import Client
from .clock import WorldClock
from .faults import Fault, NetworkFaults, Strike
from .generate import Scenario
from .group import SESSION_MS, Group
from .hub import SimulatedHub
from .lethal import LETHAL
from .outside import Outside
from .process import Life, Machine, Process

_REBOOT_MS = (200, 1_000, 4_000)
_HANG_UP_MS = 5
# What limits as small as a run's bring about by themselves: a burst of turns, and what does not fit a small record.
_ALARMS = ("partition.checkpoint_late", "message.too_large")


class World:
    """One run's world. `run_until` lets time pass; `trace` tells what happened, as (ms, who, what, details)."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.partition_count = scenario.partitions
        self.clock = WorldClock()
        self.counts: Counter[Fault] = Counter()
        self.trace: list[tuple[Any, ...]] = []
        self.errors: list[str] = []
        self.calls: list[Call] = []
        self.trims: list[Trim] = []
        self.clients: dict[str, Client] = {}
        seed = scenario.seed
        self.dice = Random(f"{seed}/world")
        self.network = NetworkFaults(Random(f"{seed}/network"), scenario.rates, self.counts, scenario.only)
        self.hub = SimulatedHub(scenario.partitions, self.clock, self.network, self._landed)
        self.hub.record_bytes_max = scenario.tuning.record_bytes_max
        self.outside = Outside(Random(f"{seed}/outside"), self.clock)
        self.group = Group(scenario.partitions, self.clock, self.after, self._wake_named)
        self.publisher = MemoryPublisher(self.hub, self)
        self.stalled = False
        self.build = 1
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._lives = count(1)
        self._departed: list[str] = []
        self._expected: list[tuple[type[Exception], str]] = []
        strikes: dict[int, list[Strike]] = {number: [] for number in range(scenario.machines)}
        for strike in scenario.strikes:
            strikes[strike.machine].append(strike)
        self.machines = [Machine(n, self, strikes[n], self._life(n)) for n in range(scenario.machines)]
        for machine in self.machines:
            machine.ended = self._machine_ended

    # Time.

    def after(self, ms: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.clock.now + ms, next(self._order), act))

    def wake(self, process: Process, at: int) -> None:
        """Let a process have a round at `at`, or before."""
        if process.wake_at <= at and process.wake_at >= 0:
            return
        process.wake_at = at
        heapq.heappush(self._heap, (at, next(self._order), lambda: self._run(process, at)))

    def _run(self, process: Process, at: int) -> None:
        if process.dead or process.wake_at != at or process.machine.process is not process:
            return
        process.wake_at = -1
        if not process.busy:  # else it stands still, and goes on by itself
            process.run_round()

    def _wake_named(self, name: str) -> None:
        for machine in self.machines:
            if machine.process is not None and machine.process.life.name == name:
                self.wake(machine.process, self.clock.now)

    def run_until(self, until: int) -> None:
        """Let everything happen that is due until then."""
        heap, hub, clock = self._heap, self.hub, self.clock
        while True:
            at = heap[0][0] if heap else until + 1
            landing = hub.next_landing()
            if landing is not None and landing < at:
                at = landing
            if at > until:
                break
            if at > clock.now:
                clock.now = at
                hub.move(at)
            while heap and heap[0][0] <= clock.now:
                heapq.heappop(heap)[2]()
        if until > clock.now:
            clock.now = until
            hub.move(until)

    def stand_still(self, process: Process, ms: int) -> None:
        """One process stands still while everybody else goes on."""
        self.after(SESSION_MS, lambda: self._miss(process))
        process.standing = True
        self.run_until(self.clock.now + ms)
        process.standing = False

    def _miss(self, process: Process) -> None:
        if process.standing and not process.dead:
            self.group.expire(process.life.name)

    # What happens.

    def note(self, who: str, what: str, *details: object) -> None:
        self.trace.append((self.clock.now, who, what, *details))

    def count(self, kind: Fault) -> None:
        self.counts[kind] += 1

    def chance(self, kind: Fault) -> bool:
        """Whether a fault that is not the network's happens now."""
        rate = self.scenario.rates[kind]
        happens = bool(rate) and not self.network.calm and self.dice.random() < rate
        self.counts[kind] += happens
        return happens

    def _landed(self, topic: str, partition: int, record: LogRecord) -> None:
        self.trace.append((self.clock.now, "hub", "has", topic, partition, record.offset))
        if topic == REPLIES:
            reply = decode_reply(record.value or b"")
            client = self.clients.get(reply.client_id)
            if client is not None:
                client.take(reply)
            return
        for machine in self.machines:
            process = machine.process
            if process is not None and process.log.waits_for(topic, partition):
                self.wake(process, self.clock.now)

    def activity_ended(self, process: Process, result: ActivityResult) -> None:
        """Its result may come again; and somebody may have claimed to know it (R7)."""
        task, delay = result.task, self.dice.choice((0, 5, 500, 5_000))
        if self.chance(Fault.RESULT_DOUBLED):
            self.after(delay, lambda: self._repeat(process, result))
        if not self.chance(Fault.RESULT_FORGED):
            return
        body = TaskResult(task.execution_id, task.task_id, task.attempt, b'"forged"')
        value = encode_inbound(Inbound(task.instance_id, body))
        self.after(
            delay, lambda: self.put(partition_of(task.instance_id, self.partition_count), task.instance_id, value)
        )

    def _repeat(self, process: Process, result: ActivityResult) -> None:
        if not process.dead:
            process.activities.repeat(result)
            self.wake(process, self.clock.now)

    def trimmed(self, partition: int, before: int, *, of_inbox: bool) -> None:
        self.trims.append(Trim(self.clock.wall_ms(), partition, before, of_inbox))

    def put(self, partition: int, key: str, value: bytes) -> None:
        """Put something into an inbox, as anybody might."""
        try:
            self.publisher.publish_inbox(partition, key, value, lambda _: None)
        except BufferFull:
            return

    # Machines.

    def _life(self, machine: int) -> Callable[[int], Life]:
        tuning = self.scenario.tuning

        def make(number: int) -> Life:
            name = f"m{machine}.{number}"
            owner = OwnerSettings(
                name,
                address=name,
                appends_in_flight_max=tuning.in_flight_max,
                round_messages_max=tuning.round_messages_max,
                inbox_depth_max=tuning.inbox_depth_max,
                slots_max=tuning.slots_max,
                checkpoint_turns_max=tuning.checkpoint_turns_max,
                checkpoint_seconds_max=20.0,
                append_seconds_max=3.0,
                session_seconds=SESSION_MS / 1000,
                replay_always=tuning.replay_always,
                retention_seconds=tuning.retention_seconds,
                snapshot_records_min=tuning.snapshot_records_min,
            )
            worker = WorkerSettings(
                owner,
                drain_seconds=2.0,
                revoke_seconds=1.0,
                release_seconds_max=2.0,
                crash_pause_seconds_max=4.0,
                idle_seconds_max=5.0,
            )
            seed = next(self._lives) + 1_000 * self.scenario.seed
            return Life(name, self.build, owner, worker, seed, tuning.standbys)

        return make

    def _machine_ended(self, machine: Machine, name: str) -> None:
        """Its process is gone: the group learns of it, and after a while another one begins."""
        self._departed.append(name)
        self.after(SESSION_MS, self._expire_dead)
        self.after(_HANG_UP_MS, self._hang_up)
        self.after(self.dice.choice(_REBOOT_MS), lambda: self.boot(machine))

    def lives(self, name: str) -> bool:
        return any(each.process is not None and each.process.life.name == name for each in self.machines)

    def _hang_up(self) -> None:
        """Connections to those that are gone are closed."""
        for machine in self.machines:
            process = machine.process
            if process is not None and any(process.peers.lose(name) for name in self._departed):
                self.wake(process, self.clock.now)

    def _expire_dead(self) -> None:
        alive = {machine.process.life.name for machine in self.machines if machine.process is not None}
        for name in self.group.members:
            if name not in alive:
                self.group.expire(name)

    def boot(self, machine: Machine) -> None:
        if machine.process is None:
            machine.boot()

    def owners(self) -> Iterator[tuple[Process, PartitionOwner]]:
        """Every owner of a partition in every process."""
        for machine in self.machines:
            if machine.process is not None:
                for owner in machine.process.owners.values():
                    yield machine.process, owner

    def holder(self, partition: int) -> PartitionOwner | None:
        """Who owns a partition, if it is one and not more that think so."""
        found = [owner for _, owner in self.owners() if owner.partition == partition and owner.phase == Phase.OWNING]
        return found[0] if len(found) == 1 else None

    # Errors.

    def expect(self, kind: type[Exception], text: str = "") -> None:
        """From here on such an error tells of a fault of the run."""
        self._expected.append((kind, text))

    def take_log(self, level: str, event: str, fields: MutableMapping[str, Any]) -> None:
        if LETHAL.process is not None and LETHAL.process.dead:
            return  # it is not there any more to say so
        error = fields.get("exc_info")
        self.note("log", level, event, str(fields.get("partition", "")), repr(error) if error else "")
        # A standby that fails is begun anew, and so is not loud; here it has to say why. Only a trim lets one fall behind.
        behind = event == "standby.behind" and self.scenario.tuning.retention_seconds is None
        if level not in ("error", "critical", "exception") and event != "standby.failed" and not behind:
            return
        if event in _ALARMS:
            return
        name, said = (type(error).__name__, str(error)) if error else (fields.get("kind"), str(fields.get("reason")))
        if not any(name in _names(kind) and text in said for kind, text in self._expected):
            self.errors.append(f"{event} {dict(fields)}")


def _names(kind: type[Exception]) -> set[str]:
    """What an error of that kind may be called in the log."""
    return {kind.__name__, *(each.__name__ for each in kind.__subclasses__())}
