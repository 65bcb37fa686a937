"""A machine, and the processes that live on it one after another: each a real `Worker` on simulated ports.

Rules of this file: a process dies by `ProcessDied`, which no code of the engine catches; what it had open is then as a SIGKILL would
leave it. A process that stands still does so in the midst of a call, while the world goes on.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from perdure.partitions.activities import ActivityResult
from perdure.partitions.holdings import OwnerParts, OwnerSettings
from perdure.partitions.instances import unwatched
from perdure.partitions.place import PLACE
from perdure.partitions.ports import Stores
from perdure.worker import RunnableApp, Worker, WorkerSettings

from .clock import MachineClock, WorldClock
from .faults import Fault, Strike
from .group import Group, Member
from .hub import SimulatedHub
from .interpreter import CODE
from .lethal import LETHAL, ProcessDied
from .outside import Outside
from .pool import SimulatedPool
from .ports import Disk, SimulatedLog

NEVER = 1 << 60


class Surroundings(Protocol):
    """What a process is in."""

    clock: WorldClock
    hub: SimulatedHub
    group: Group
    outside: Outside

    def note(self, who: str, what: str, *details: object) -> None: ...
    def stand_still(self, process: "Process", ms: int) -> None: ...
    def wake(self, process: "Process", at: int) -> None: ...
    def activity_ended(self, process: "Process", result: ActivityResult) -> None: ...
    def trimmed(self, partition: int, before: int, *, of_inbox: bool) -> None: ...
    def count(self, kind: Fault) -> None: ...
    def lives(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Life:
    """Which process on which machine, and under what limits."""

    name: str
    build: int
    owner: OwnerSettings
    worker: WorkerSettings
    seed: int
    standbys: bool


class SimulatedPeers:
    """One process's connections to the owners that it stands by for (`partitions.ports.Peers`)."""

    def __init__(self, name: str, world: Surroundings) -> None:
        self.address = name
        self._world = world
        self._watched: set[str] = set()
        self._gone: dict[str, None] = {}

    def watch(self, wanted: Mapping[str, str]) -> None:
        for name in wanted:
            if name not in self._watched and not self._world.lives(name):
                self._gone[name] = None
        self._watched = set(wanted)

    def lose(self, name: str) -> bool:
        """A connection is closed; false if there was none."""
        if name not in self._watched:
            return False
        self._gone[name] = None
        return True

    @property
    def reached(self) -> Collection[str]:
        return [name for name in self._watched if name not in self._gone]

    def take_gone(self) -> Sequence[str]:
        gone, self._gone = list(self._gone), {}
        return gone

    def close(self) -> None:
        self._watched.clear()


class Process(Worker):
    """One life. `busy`: it is in the midst of a round; `standing`: and time does not go on for it."""

    def __init__(self, machine: "Machine", life: Life) -> None:
        self.machine = machine
        self.life = life
        self.world = machine.world
        self.dead = False
        self.busy = False
        self.standing = False
        self.wake_at = -1
        world = self.world
        log = SimulatedLog(world.hub, self._strike, self._wake_now, world.trimmed)
        member = Member(world.group, life.name, self._strike)
        super().__init__(CODE[life.build], log, member, machine.disk, life.worker)
        self.peers = SimulatedPeers(life.name, world)
        if life.standbys:
            self.stand_by(self.peers)
        world.group.join(life.name)

    def _make_parts(self, app: RunnableApp, stores: Stores) -> OwnerParts:
        clock = MachineClock(self.world.clock, self.machine.skew_ms)
        self.wall = clock
        self.activities = SimulatedPool(self.world.outside, clock, self.life.name, self._activity_ended)
        return OwnerParts(self.log, stores, self.activities, app, clock, Random(self.life.seed), unwatched)

    def _activity_ended(self, result: ActivityResult) -> None:
        self.world.activity_ended(self, result)

    def _wake_now(self) -> None:
        self.world.wake(self, self.world.clock.now)

    def _strike(self) -> None:
        """One more call to the outside: something may happen now."""
        if self.dead:
            raise ProcessDied(self.life.name)
        machine = self.machine
        machine.calls += 1
        if machine.calls >= machine.next_call:
            machine.take_strike(self)

    def run_round(self) -> None:
        """A round, and when the next one is due."""
        before, LETHAL.process = LETHAL.process, self
        self.busy = True
        try:
            worked = self._round()
            if self._draining and not self.owners:
                self._leave()
                self.machine.end("stopped")
                return
            if not worked:
                worked = self.log.publisher.has_deliveries
                self.log.wait(0)
            wait_ms = 1 if worked or self.log.has_mail else max(1, round(self._wait_seconds() * 1000))
        except ProcessDied:
            PLACE.leave()
            return
        finally:
            self.busy = False
            LETHAL.process = before
        self.world.wake(self, self.world.clock.now + wait_ms)

    @property
    def deaths(self) -> Counter[str]:
        return self.world.outside.deaths

    def die_of(self, killer: str) -> None:
        """By the code of an instance that it runs."""
        if not self.dead:
            self.world.count(Fault.LETHAL)
            self.die(0, f"is killed by {killer}")

    def die(self, writes_kept: int, why: str) -> None:
        """As by SIGKILL."""
        self.dead = True
        self.log.close()
        self.machine.disk.die(writes_kept)
        self.machine.end(why)


class Machine:
    """A place for processes, with a disk and clocks. `strikes` are what happens to whichever process runs on it, by call."""

    def __init__(
        self, number: int, world: Surroundings, strikes: list[Strike], make_life: Callable[[int], Life]
    ) -> None:
        self.number = number
        self.world = world
        self.disk = Disk()
        self.skew_ms = 0
        self.process: Process | None = None
        self.calls = 0
        self.next_call = NEVER
        self.ended: Callable[[Machine, str], None] = lambda *_: None
        self._strikes = strikes
        self._make_life = make_life
        self._lives = 0

    def arm(self) -> None:
        """From here on calls are counted, and some are struck."""
        self.calls = 0
        self.next_call = self._strikes[0].call if self._strikes else NEVER

    def boot(self) -> None:
        """Begin a new life."""
        assert self.process is None
        self._lives += 1
        life = self._make_life(self._lives)
        self.world.note(life.name, "begins", f"build {life.build}")
        self.process = process = Process(self, life)
        self.disk.strike = process._strike
        self.world.wake(process, self.world.clock.now)

    def end(self, why: str) -> None:
        process, self.process = self.process, None
        assert process is not None
        self.world.note(process.life.name, why)
        self.ended(self, process.life.name)

    def jump(self, ms: int) -> None:
        """The wall clock is set."""
        self.skew_ms += ms
        if self.process is not None:
            self.process.wall.skew_ms = self.skew_ms

    def take_strike(self, process: Process) -> None:
        strike = self._strikes.pop(0)
        self.next_call = self._strikes[0].call if self._strikes else NEVER
        self.world.count(strike.kind)
        if strike.kind == Fault.CRASH:
            process.die(strike.amount, "dies")
            raise ProcessDied(process.life.name)
        self.world.note(process.life.name, "stands still", f"for {strike.amount} ms")
        self.world.stand_still(process, strike.amount)
        if process.dead:
            raise ProcessDied(process.life.name)

    def spare(self) -> None:
        """Nothing strikes any more."""
        self._strikes.clear()
        self.next_call = NEVER
