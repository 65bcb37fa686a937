"""The kill test: workers on a real broker are killed with SIGKILL, again and again, under hundreds of unfinished instances.

`make kill-test` does it twenty times, `make test` a few; KILL_TEST_KILLS says how often. A kill that interrupted nothing does
not count: the log and the file of effects say so afterwards, and another one is made for it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import uuid4

import httpx
import pytest

from perdure.audit import audit_records, read_log
from perdure.client import AsyncClient
from perdure.errors import StartUnknown
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from tests.kill.app import FILE_VARIABLE, app, chain
from tests.kill.interruptions import UNFINISHED_MIN, Kill, Toll, find_blamed, take_toll
from tests.kill.judge import Account, Effect, judge, read_account
from tests.ports import free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("KILL_TEST_KILLS", "4"))
UNFINISHED_MARGIN = 60
ROUNDS = 3
PARTITIONS = 6
WORKERS = 3
PLENTY_SECONDS = 120.0


class WorkerProcess:
    """`perdure worker` with a directory of its own; started again after each kill."""

    def __init__(self, number: int, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory / f"worker-{number}"
        self._environment = environment
        self._log = (directory / f"worker-{number}.log").open("ab")
        self.start()

    def start(self) -> None:
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        options = ["--dir", str(self._directory), "--port", str(port), "--drain-timeout", "5"]
        command = [sys.executable, "-m", "perdure", "worker", "tests.kill.app:app", *options]
        self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=self._log)

    def activities_running(self) -> int:
        with suppress(httpx.HTTPError):
            lines = httpx.get(f"{self._url}/metrics").text.splitlines()
            return sum(int(float(line.split()[1])) for line in lines if line.startswith("perdure_activities_running{"))
        return 0

    def kill(self) -> Kill:
        kill = Kill(self._process.pid, time.time_ns() // 1_000_000)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return kill

    def stop(self) -> int:
        self._process.terminate()
        code = self._process.wait(60)
        self._log.close()
        return code


class Load:
    """Starts instances so that always enough are unfinished, and hears how each ends."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._waits: set[asyncio.Task[None]] = set()
        self.acknowledged: list[str] = []
        self.unknown = 0
        self.ended = 0

    @property
    def unfinished(self) -> int:
        return len(self.acknowledged) - self.ended

    async def fill(self) -> None:
        while self.unfinished < UNFINISHED_MIN + UNFINISHED_MARGIN:
            await asyncio.gather(*(self._start() for _ in range(20)))

    async def _start(self) -> None:
        name = f"chain-{uuid4().hex[:12]}"
        while True:
            try:
                handle = await self._client.start(chain, name, instance_id=name, request_id=name)
            except StartUnknown:
                self.unknown += 1
                continue
            break
        self.acknowledged.append(name)
        self._waits.add(asyncio.create_task(self._wait(handle)))

    async def _wait(self, handle: object) -> None:
        await handle.wait()  # type: ignore[attr-defined]
        self.ended += 1

    async def finish(self) -> None:
        async with asyncio.timeout(PLENTY_SECONDS):
            await asyncio.gather(*self._waits)


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_servers, f"kill-{uuid4().hex[:8]}")
    create_hub(settings, PARTITIONS, 1)
    return settings


@pytest.fixture
def workers(settings: KafkaSettings, tmp_path: Path) -> Iterator[list[WorkerProcess]]:
    environment = {
        **os.environ,
        "PERDURE_BROKERS": settings.servers,
        "PERDURE_HUB": settings.hub,
        "PERDURE_KAFKA_SESSION_TIMEOUT_MS": "2000",
        FILE_VARIABLE: str(tmp_path / "effects"),
    }
    workers = [WorkerProcess(number, tmp_path, environment) for number in range(WORKERS)]
    yield workers
    for worker in workers:
        with suppress(ProcessLookupError):
            worker.kill()


@dataclass(frozen=True, slots=True)
class Trial:
    """A hub, its workers and the file to which their activities write."""

    settings: KafkaSettings
    workers: list[WorkerProcess]
    file: Path

    def read(self) -> tuple[Account, list[Effect]]:
        log = KafkaLog.open_reader(self.settings)
        spans = [log.span_history(partition) for partition in range(PARTITIONS)]
        account = read_account(log.read_history(number, span.start, span.end) for number, span in enumerate(spans))
        log.close()
        return account, [Effect.parse(line) for line in self.file.read_text().splitlines()]


async def kill_again_and_again(workers: list[WorkerProcess], load: Load, random: Random, times: int) -> list[Kill]:
    """Kill workers in the midst of activities, and start each again."""
    kills: list[Kill] = []
    while len(kills) < times:
        await load.fill()
        victim = random.choice(workers)
        if not victim.activities_running() or load.unfinished < UNFINISHED_MIN:
            await asyncio.sleep(0.1)
            continue
        kills.append(victim.kill())
        print(f"SIGKILL to {kills[-1].pid}: {load.unfinished} unfinished, {load.ended} ended", flush=True)
        victim.start()
        await asyncio.sleep(random.uniform(0.5, 4))
    return kills


async def run_load(trial: Trial) -> tuple[Load, list[Kill], list[Toll]]:
    """Kill until as many kills count as there are to be, and let everything end."""
    random, kills, tolls = Random(1), list[Kill](), list[Toll]()
    async with AsyncClient.kafka(trial.settings.hub, trial.settings.servers) as client:
        load = Load(client)
        for _ in range(ROUNDS):
            missing = KILLS - sum(toll.counts for toll in tolls)
            if missing <= 0:
                break
            kills += await kill_again_and_again(trial.workers, load, random, missing)
            await load.finish()
            account, effects = trial.read()
            tolls = [take_toll(kill, account, effects) for kill in kills]
        return load, kills, tolls


def test_nothing_is_lost_or_doubled_however_often_workers_are_killed(
    settings: KafkaSettings, workers: list[WorkerProcess], tmp_path: Path
) -> None:
    began = time.monotonic()
    trial = Trial(settings, workers, tmp_path / "effects")
    load, kills, tolls = asyncio.run(run_load(trial))
    codes = [worker.stop() for worker in workers]

    account, effects = trial.read()
    log = KafkaLog.open_reader(settings)
    report = audit_records(read_log(log), app)
    log.close()
    for number, toll in enumerate(tolls, 1):
        print(f"kill {number}: {toll.unfinished} unfinished, {len(toll.interrupted)} attempts interrupted")
    print(
        f"{len(tolls)} kills, {sum(toll.counts for toll in tolls)} of which count, in {time.monotonic() - began:.0f} s: "
        f"{len(load.acknowledged)} starts acknowledged, {load.unknown} answers missed, {len(effects)} effects, "
        f"{sum(effect.attempt > 1 for effect in effects)} of them by a later attempt, {account.claims} claims, "
        f"{report.counts.spanning_instances} instances on both sides of one, {len(account.crashed)} activities killed three times"
    )

    assert [] == judge(load.acknowledged, account, effects)
    assert [] == find_blamed(kills, account)
    assert (0, ()) == (report.exit_code, report.findings)
    assert [0] * WORKERS == codes
    assert KILLS <= sum(toll.counts for toll in tolls)
