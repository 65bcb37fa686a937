"""The storm: real workers on real brokers under load, and faults of every kind, side by side, until the time is over.

Then all heals, everything finite ends within a bound, and the checkers judge. A fault that was planned happens at least once.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from perdure.errors import HubError, NoAnswer, RequestRefused
from perdure.schemas.messages import Resume
from tests.broker import LocalBroker
from tests.brokers import ThreeBrokers
from tests.proxy import Proxy
from tests.simulation.plans import Trouble

from . import broker_faults, disk_faults, flood_faults, lone_broker_faults, network_faults
from .app import SLOW_VARIABLE
from .broker_faults import OF_BROKERS
from .disk_faults import OF_DISKS, OF_SMALL_DISKS
from .disks import SmallDisk
from .flood_faults import OF_FLOODS
from .ground import KEPT, KafkaGround, Terms, place, standing
from .inbox_faults import OF_INBOXES
from .load import Load, make_plans
from .lone_broker_faults import OF_LONE_BROKERS
from .network_faults import OF_NETWORKS
from .poison_faults import BESIDE, OF_CODE
from .processes import Cry, unexpected
from .stage import Fault, Stage
from .verdict import Verdict, judge_run
from .worker import BUG_VARIABLE
from .worker_faults import OF_WORKERS
from .wrapping import RESULTS_VARIABLE

WORKERS = 3
BATCH_SECONDS = 5.0
BUSY_MAX = 120
LIVENESS_SECONDS = 150.0
RESULTS = "results"
EXPECTED = {
    **disk_faults.EXPECTED,
    **network_faults.EXPECTED,
    **broker_faults.EXPECTED,
    **lone_broker_faults.EXPECTED,
    **flood_faults.EXPECTED,
}


@dataclass(frozen=True, slots=True)
class Weather:
    """How a storm is to be. `lanes` are faults that happen one after the other, beside those of other lanes; `replication_factor` as
    many brokers as there are; `scale` stretches what lasts."""

    name: str
    lanes: Sequence[Mapping[str, Fault]]
    seconds: float = 30.0
    seed: int = 1
    instances: int = 10
    standbys: int = 1
    replication_factor: int = 1
    scale: float = 1.0
    small_disk: bool = False
    doubled_results: bool = False
    retention: str = ""
    bug: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def planned(self) -> list[str]:
        names = [name for lane in self.lanes for name in lane]
        return [*names, *(["results.doubled", "results.late"] if self.doubled_results else [])]


class Storm:
    """One storm on a hub of its own."""

    def __init__(self, weather: Weather, ground: KafkaGround, stage: Stage, load: Load) -> None:
        self._weather = weather
        self._ground = ground
        self._stage = stage
        self._load = load
        self._notes: list[str] = []
        self._until = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def rage(self) -> None:
        """Load and faults, until the time is over and every fault has happened."""
        self._until = time.monotonic() + self._weather.seconds
        for worker in self._stage.workers:
            worker.start()
        loading = asyncio.create_task(self._keep_busy())
        self._watching = asyncio.create_task(self._look_after())
        await asyncio.gather(*(self._rage(lane) for lane in self._weather.lanes))
        self._until = 0.0
        await loading

    async def _look_after(self) -> None:
        """A process that nobody killed and that is gone is a failure, and is started again, as whoever looks after it would."""
        while True:
            for worker in self._stage.workers:
                if worker not in self._stage.taken and not worker.alive:
                    if self._stage.killers:
                        self._stage.count("poison.deaths")
                    else:
                        self._notes.append(f"{worker.name} ended by itself with {worker.wait(0)}")
                    worker.start()
            self._stage.looks += 1
            await asyncio.sleep(0.3)

    async def _keep_busy(self) -> None:
        """A batch of instances now and then, unless more are busy than is good for this machine."""
        batch = 0
        while time.monotonic() < self._until:
            if self._load.busy < BUSY_MAX:
                await self._load.begin(self._plans(batch))
                batch += 1
            await asyncio.sleep(BATCH_SECONDS)

    def _plans(self, batch: int) -> list[object]:
        without = [Trouble.HELD] if self._weather.seconds > 60 else [Trouble.HELD, Trouble.PURGE]
        return make_plans(self._weather.seed, batch, self._weather.instances, int(BATCH_SECONDS * 1000), without)

    async def _rage(self, lane: Mapping[str, Fault]) -> None:
        """Each fault of a lane in turn, in an order that the dice give, again and again."""
        dice, first = self._stage.dice, True
        await asyncio.sleep(2)
        while first or time.monotonic() < self._until:
            names = list(lane)
            dice.shuffle(names)
            for name in names:
                if not first and time.monotonic() >= self._until:
                    break
                await lane[name](self._stage)
                await self._stage.pause(0.5, 2.5)
            first = False

    async def heal(self) -> None:
        """No more faults; everything finite ends."""
        began = time.monotonic()
        if not await self._load.drained(LIVENESS_SECONDS):
            self._notes.append(f"{self._load.busy} clients got no answer")
        left = await self._load.left_over(LIVENESS_SECONDS, self._ground.quiet, self._resume_held)
        if left != []:
            self._notes.append(f"not ended: {left}")
        print(f"  healed in {time.monotonic() - began:.1f} s", flush=True)
        if self._watching is not None:
            self._watching.cancel()
        for worker in self._stage.workers:
            worker.ask_to_stop()
            code = await asyncio.to_thread(worker.wait)
            if code != 0:
                self._notes.append(f"{worker.name} ended with {code}")

    async def _resume_held(self) -> None:
        """An operator lets go on what seemed to kill its owners, in a storm of kills."""
        for name in await self._load.held():
            try:
                await self._ground.transport.change(name, Resume("try again"), f"{name}/resume/{time.time()}", 5)
            except (NoAnswer, HubError, RequestRefused):
                continue
            self._stage.count("instance.resumed")

    def cries(self) -> Iterator[str]:
        """What processes cried, and no fault of this storm explains."""
        expected = [EXPECTED[fault] for fault in self._stage.counts if fault in EXPECTED]
        cries: list[Cry] = [cry for worker in self._ground.workers for cry in worker.cries()]
        yield from self._notes
        yield from unexpected(iter(cries), expected)

    def faults(self) -> Counter[str]:
        """How often each happened; zero for one that was planned and did not."""
        repeated = self._ground.directory / RESULTS
        lines = Counter(repeated.read_text().split()) if repeated.exists() else Counter[str]()
        counts = self._stage.counts + lines
        return Counter({name: counts[name] for name in {*self._weather.planned, *counts}})


@dataclass(frozen=True, slots=True)
class Site:
    """The brokers of a storm, and what can be done to them."""

    servers: str
    brokers: ThreeBrokers | None = None
    broker: LocalBroker | None = None
    proxy: Proxy | None = None
    through: str = ""


async def rage(weather: Weather, site: Site) -> Verdict:
    """Let a storm rage, and judge it."""
    with place() as directory:
        terms = Terms(4, weather.replication_factor, variables=_variables(weather, directory))
        make = partial(KafkaGround, site.servers, terms, directory, through=site.through)
        async with standing(await asyncio.to_thread(make)) as ground:
            with _small_disk(weather, ground) as disk:
                verdict = await _rage(weather, ground, site, disk)
                verdict.keep(directory / KEPT)
                return verdict


def _variables(weather: Weather, directory: Path) -> dict[str, str]:
    given = {"PERDURE_STANDBY": str(weather.standbys), BUG_VARIABLE: weather.bug, **weather.variables}
    if weather.retention:
        given["PERDURE_RETENTION"] = weather.retention
    if weather.doubled_results:
        given[RESULTS_VARIABLE] = str(directory / RESULTS)
    return given


@contextmanager
def _small_disk(weather: Weather, ground: KafkaGround) -> Iterator[SmallDisk | None]:
    """That of the last worker, if this storm has one."""
    if not weather.small_disk:
        yield None
        return
    disk = SmallDisk(ground.directory / f"worker-{WORKERS - 1}")
    try:
        yield disk
    finally:
        for worker in ground.workers:
            worker.kill()
        disk.close()


async def _rage(weather: Weather, ground: KafkaGround, site: Site, disk: SmallDisk | None) -> Verdict:
    workers = [ground.worker(f"worker-{number}") for number in range(WORKERS)]
    load, dice = ground.load(), Random(weather.seed)
    stage = Stage(ground, load, workers, dice, site.brokers, site.broker, site.proxy, disk, weather.scale)
    storm = Storm(weather, ground, stage, load)
    await storm.rage()
    await storm.heal()
    load.stop()
    evidence = await asyncio.to_thread(ground.evidence, list(storm.cries()))
    return judge_run(weather.name, evidence, load.plans, storm.faults())


def small_storm(seed: int, bug: str = "") -> Weather:
    """One broker, some seconds: what a test run has time for."""
    lanes = ({name: OF_WORKERS[name] for name in ("worker.killed", "worker.zombie", "worker.paused")}, OF_INBOXES)
    return Weather("a small storm", lanes, 12.0, seed, 8, doubled_results=True, bug=bug)


def bad_way(seed: int) -> Weather:
    """A bad network for some seconds, and disks that do not outlive their process."""
    ways = ("network.cut", "network.delayed", "network.held-to-worker", "network.half-closed-to-broker")
    lanes = (
        {name: OF_NETWORKS[name] for name in ways},
        {name: OF_DISKS[name] for name in ("disk.lost", "disk.swapped")},
    )
    return Weather("a bad way", lanes, 10.0, seed, 8)


def storm_on_one(seed: int, seconds: float, *, small_disk: bool) -> Weather:
    """Workers, disks and inboxes on one broker."""
    disks = {**OF_DISKS, **(OF_SMALL_DISKS if small_disk else {})}
    lanes = (OF_WORKERS, disks, OF_INBOXES)
    scale = max(1.0, seconds / 60)
    return Weather(
        "a storm on one broker", lanes, seconds, seed, scale=scale, small_disk=small_disk, doubled_results=True
    )


def storm_on_three(seed: int, seconds: float) -> Weather:
    """Brokers and workers, of three each; one broker is away for as long as the storm is to last."""
    lanes, scale = (OF_BROKERS, OF_WORKERS), max(1.0, seconds / 15)
    return Weather("a storm on three brokers", lanes, seconds, seed, replication_factor=3, scale=scale)


def storm_on_the_way(seed: int, seconds: float) -> Weather:
    """Between workers and their broker, and a worker that is killed now and then."""
    killed = {"worker.killed": OF_WORKERS["worker.killed"]}
    return Weather("a storm on the way to the broker", (OF_NETWORKS, killed, OF_INBOXES), seconds, seed)


def storm_of_trims(seed: int, seconds: float) -> Weather:
    """A hub that forgets and trims, on a broker that is killed and forgets that it did."""
    lanes = (OF_LONE_BROKERS, {name: OF_WORKERS[name] for name in ("worker.killed", "worker.stopped")})
    return Weather("a storm on a hub that trims", lanes, seconds, seed, retention="2s")


def storm_from_within(seed: int, seconds: float) -> Weather:
    """Code that kills its process, beside healthy instances."""
    return Weather("a storm from within", (OF_CODE, BESIDE), seconds, seed, instances=6)


def flood_of_starts(seed: int, seconds: float) -> Weather:
    """More than activities can keep up with."""
    slow = {SLOW_VARIABLE: "100", "PERDURE_ACTIVITIES_ASYNC_MAX": "20", "PERDURE_ACTIVITIES_PLAIN_MAX": "20"}
    return Weather("a flood", (OF_FLOODS,), seconds, seed, instances=4, variables=slow)


def storms(seed: int, seconds: float) -> Sequence[Weather]:
    """All that `make chaos` lets rage."""
    return (
        storm_on_one(seed, seconds, small_disk=True),
        storm_on_the_way(seed, seconds),
        storm_on_three(seed, seconds),
        storm_of_trims(seed, seconds),
        storm_from_within(seed, seconds),
        flood_of_starts(seed, seconds),
    )
