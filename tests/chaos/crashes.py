"""Crash points one by one: a worker dies there, another life goes on, everything ends, and all is judged.

Rules of this file: each case has a hub of its own, so that it replays; a point that its process lived through is a failure.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perdure.schemas.messages import RaiseEvent
from tests.simulation.clients import Ask, Session, Sleep, insist
from tests.simulation.plans import Plan, Trouble, job_of

from .ground import KEPT, EmbeddedGround, Ground, KafkaGround, Terms, place, standing, until
from .load import Load, make_plans, sleepers
from .points import CARRY, CLAIM, HAND_OVER, POINTS, SNAPSHOT, Point
from .processes import KILLED, Worker, unexpected
from .verdict import Verdict, judge_run
from .worker import BUG_VARIABLE

HITS_MAX = {
    "revoked.told": 1,
    "revoked.acknowledge": 2,
    "revoked.acknowledged": 2,
    "group.leave": 1,
    "group.leaving": 1,
    "group.left": 1,
    "snapshot.load": 2,
    "snapshot.delete": 2,
}
"""Places to which a process does not come as often as one likes."""
ON_KAFKA_ONLY = {name for name in POINTS if name.startswith(("snapshot.", "revoked."))}
SLEEPERS, SLEEP_MS = 3, 4_500
RETENTION = {"PERDURE_RETENTION": "1s", "PERDURE_CHECKPOINT_TURNS_MAX": "8"}
OFTEN = {"PERDURE_CHECKPOINT_TURNS_MAX": "4", "PERDURE_SNAPSHOT_RECORDS_MIN": "5"}

MakeGround = Callable[[Terms, Path], Ground]


@dataclass(frozen=True, slots=True)
class Case:
    """A point on one kind of log. `instances` are random programs beside those that are always there; a `bug` is for the tests of
    the judge."""

    point: Point
    log: str
    seed: int = 1
    instances: int = 6
    patience_seconds: float = 90.0
    bug: str = ""

    def __str__(self) -> str:
        return f"{self.point} on {self.log}"

    @property
    def _lets_go(self) -> bool:
        """Only a hub with a retention comes there."""
        return self.point.name in CARRY or self.point.name.startswith("history.")

    @property
    def terms(self) -> Terms:
        name = self.point.name
        if self._lets_go:
            return Terms(4, variables=RETENTION)
        often = name in SNAPSHOT or name in ("inbox.trim", "inbox.trimmed", "partition.appended")
        return Terms(4, session_ms=1_500, variables=OFTEN if often else {})

    @property
    def plans(self) -> list[Plan]:
        without = [Trouble.PURGE, Trouble.HELD, *([Trouble.STRANGER] if self.log == "embedded" else [])]
        outliving = sleepers(SLEEPERS, SLEEP_MS) if self._lets_go else []
        # An older snapshot is there once three were worth their while.
        sure = sure_plans(40, 50) if self.point.name == "snapshot.delete" else sure_plans()
        return [*sure, *outliving, *make_plans(self.seed, 0, self.instances, 300, without)]


def all_cases(logs: Sequence[str], hits: int, seed: int, instances: int = 6) -> Iterator[Case]:
    """Every point with n = 1 … hits, on every kind of log that has it."""
    for log in logs:
        for name in POINTS:
            if log == "kafka" or name not in ON_KAFKA_ONLY:
                for hit in range(1, min(hits, HITS_MAX.get(name, hits)) + 1):
                    yield Case(Point(name, hit), log, seed, instances)


def sure_plans(instances: int = 8, apart_ms: int = 10) -> list[Plan]:
    """Instances that together come to every place, whatever the dice say."""
    return [
        Plan(
            f"sure{number}.0",
            job_of(
                [["call", number], ["child", job_of([["call", 100 + number]]), "", 1], ["sleep", 30], ["call", number]]
            ),
            number * apart_ms,
        )
        for number in range(instances)
    ]


def to_nobody(number: int) -> Session:
    """An event for an instance that is not there is refused, and kept as a dead letter."""
    yield Sleep(50 * number)
    yield from insist(Ask(f"nobody{number}", RaiseEvent("go", b"1"), f"nobody{number}/event"))


@dataclass(slots=True)
class _Trial:
    """One case on its way."""

    case: Case
    ground: Ground
    worker: Worker
    load: Load
    died: bool = False
    notes: list[str] = field(default_factory=list)

    async def meet(self) -> None:
        """Let the armed life come to its end."""
        name = self.case.point.name
        if name in CLAIM or name == "snapshot.load":
            await self._live_before()
        self.worker.start(self.case.point)
        if name in HAND_OVER:
            await self._hand_over()
        await self._die()

    async def _live_before(self) -> None:
        """A life that leaves something to recover from."""
        self.worker.start()
        if self.case.point.name == "snapshot.load":
            await until(self._has_snapshots, self.case.patience_seconds, "snapshots")
        else:
            await until(self._is_busy, self.case.patience_seconds, "activities")
        self.worker.kill()
        if self.case.point.name == "snapshot.load":
            shutil.rmtree(self.worker.directory)

    def _has_snapshots(self) -> bool:
        assert isinstance(self.ground, KafkaGround)
        return self.ground.has_snapshots()

    async def _hand_over(self) -> None:
        await until(self._is_busy, self.case.patience_seconds, "activities")
        await until(self._is_spread, self.case.patience_seconds, "turns on every partition")
        if self.case.point.name.startswith("revoked."):
            self.ground.worker("other").start()
        else:
            self.worker.ask_to_stop()

    def _is_busy(self) -> bool:
        return len(self.ground.effects.read()) > 5 or not self.worker.alive

    def _is_spread(self) -> bool:
        return self.ground.is_owned() or not self.worker.alive

    async def _die(self) -> None:
        code = await asyncio.to_thread(self.worker.wait, self.case.patience_seconds)
        self.died = code == KILLED
        if not self.died:
            self.notes.append(
                f"{self.case}: the process lives on" if code is None else f"{self.case}: exit code {code}"
            )

    async def heal(self, beginning: asyncio.Task[None]) -> None:
        """Another life, and all that is finite ends."""
        if not self.worker.alive:
            self.worker.start()
        await beginning
        if not await self.load.drained(self.case.patience_seconds):
            self.notes.append(f"{self.load.busy} clients got no answer")
        left = await self.load.left_over(self.case.patience_seconds, self.ground.quiet, nothing)
        if left != []:
            self.notes.append(f"not ended: {left}")
        for worker in self.ground.workers:
            worker.ask_to_stop()
        for worker in self.ground.workers:
            code = await asyncio.to_thread(worker.wait)
            if code != 0:
                self.notes.append(f"{worker.name} ended with {code}")


async def nothing() -> None:
    """What there is to do while everything ends by itself."""


async def try_case(case: Case, make_ground: MakeGround) -> Verdict:
    """Carry out one case and judge it."""
    with place() as directory:
        async with standing(make_ground(case.terms, directory)) as ground:
            trial = _Trial(case, ground, ground.worker("worker", **{BUG_VARIABLE: case.bug}), ground.load())
            beginning = asyncio.create_task(_begin(trial))
            await trial.meet()
            await trial.heal(beginning)
            cries = [cry for worker in ground.workers for cry in worker.cries()]
            errors = [*trial.notes, *unexpected(iter(cries), ())]
            evidence = await asyncio.to_thread(ground.evidence, errors)
            verdict = judge_run(str(case), evidence, trial.load.plans, {str(case.point): int(trial.died)})
            verdict.keep(directory / KEPT)
            return verdict


async def _begin(trial: _Trial) -> None:
    for number in range(3):
        trial.load.ask(f"lost-{number}", to_nobody(number))
    await trial.load.begin(trial.case.plans)


async def try_cases(cases: Sequence[Case], grounds: Mapping[str, MakeGround], at_once: int) -> list[Verdict]:
    """Carry out all of them, some at once: most of their time they wait. Each is told of as soon as it is judged."""
    room = asyncio.Semaphore(at_once)

    async def in_turn(case: Case) -> Verdict:
        async with room:
            verdict = await try_case(case, grounds[case.log])
        print("\n".join(verdict.lines()), flush=True)
        return verdict

    return list(await asyncio.gather(*map(in_turn, cases)))


def embedded_ground(terms: Terms, directory: Path) -> Ground:
    return EmbeddedGround(terms, directory)


def kafka_ground(servers: str) -> MakeGround:
    return lambda terms, directory: KafkaGround(servers, terms, directory)
