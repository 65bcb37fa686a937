"""What faults act on: the ground of a run, its workers, and what stands or falls with it; it counts what happened.

Rules of this file: a fault says that it happened only when it has (`Stage.count`).
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.broker import LocalBroker
from tests.brokers import ThreeBrokers
from tests.proxy import Proxy

from .disks import SmallDisk
from .ground import KafkaGround
from .load import Load
from .processes import Worker


@dataclass(slots=True)
class Stage:
    """What faults act on. `counts` says how often each happened."""

    ground: KafkaGround
    load: Load
    workers: list[Worker]
    dice: Random
    brokers: ThreeBrokers | None = None
    broker: LocalBroker | None = None
    proxy: Proxy | None = None
    disk: SmallDisk | None = None
    scale: float = 1.0
    counts: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    rolling: asyncio.Lock = field(default_factory=asyncio.Lock)
    taken: list[Worker] = field(default_factory=list)
    killers: int = 0
    looks: int = 0
    """How often somebody has looked whether all processes live."""
    probes: list[float] = field(default_factory=list)
    """Seconds that healthy instances took."""

    def count(self, fault: str, times: int = 1) -> None:
        self.counts[fault] += times
        print(f"  {fault}", flush=True)

    @property
    def session_seconds(self) -> float:
        return self.ground.terms.session_ms / 1000

    @contextmanager
    def take(self, *workers: Worker) -> Iterator[Worker | None]:
        """One of these (of all, without any) that lives and to which nothing happens now, for as long as something does; None if
        there is none."""
        free = [worker for worker in workers or self.workers if worker.alive and worker not in self.taken]
        worker = self.dice.choice(free) if free else None
        if worker is not None:
            self.taken.append(worker)
        try:
            yield worker
        finally:
            if worker is not None:
                self.taken.remove(worker)

    @asynccontextmanager
    async def deadly(self) -> AsyncIterator[None]:
        """While this lasts, processes end by themselves, and that is to be expected. A standby may have taken over, and all be told,
        before whoever looks after them has seen the last one dead: that one is waited for."""
        self.killers += 1
        try:
            yield
            seen = self.looks + 2  # one may be under way, and past that process
            while self.looks < seen:
                await asyncio.sleep(0.05)
        finally:
            self.killers -= 1

    async def pause(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self.dice.uniform(shortest, longest))


Fault = Callable[[Stage], Coroutine[Any, Any, None]]
