"""Partitions that change hands under load: for how long nothing is decided, after SIGTERM and after SIGKILL.

Two worker processes share a hub of twelve partitions, and starts come all the while. One of the two goes, the other one takes
its partitions, a new one comes. What is measured stands in the history, by the broker's clock, which is that of this machine.
"""

import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.schemas.codec import decode_envelope
from perdure.schemas.records import RecordKind
from tests.ports import free_ports

from .bare_system import BrokerUnderTest
from .figures import Figure, figure_of
from .jobs import Job, hello_job
from .log_driver import LogDriver
from .measure import BenchmarkFailed
from .process import APP

PARTITIONS = 12
STARTS_PER_SECOND = 240
PATIENCE_SECONDS = 60.0
# librdkafka joins a group once a second and not more often; a change that comes sooner after another waits for that, up to a second.
CALM_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Change:
    """One partition's change of hands, in seconds: from the old owner's last record to the new one's first turn, and from the signal to claim and turn."""

    pause: float
    to_claim: float
    to_turn: float


class Member:
    """One `perdure worker` process."""

    def __init__(self, broker: BrokerUnderTest, hub: str, directory: Path, options: Sequence[str]) -> None:
        self._port = free_ports(1)[0]
        name = f"worker-{self._port}"
        log = directory / f"{name}.log"
        place = ["--dir", str(directory / name), "--port", str(self._port), "--log-format", "json"]
        command = [sys.executable, "-m", "perdure", "worker", APP, "--brokers", broker.servers, "--hub", hub]
        with log.open("wb") as out:
            self._process = subprocess.Popen([*command, *place, *options], stdout=out, stderr=out)

    def owned(self) -> Collection[int]:
        return [
            int(partition) for partition, phase in self._readiness().get("partitions", {}).items() if phase == "owning"
        ]

    def standing_by(self) -> int:
        return len(self._readiness().get("standing_by", ()))

    def _readiness(self) -> dict[str, Any]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/readyz")
        except httpx.HTTPError:
            return {}
        found: dict[str, Any] = answer.json()
        return found

    def end(self, number: int) -> int:
        """Send a signal and wait for the end; the time of the signal, in milliseconds."""
        sent_ms = time.time_ns() // 1_000_000
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)
        return sent_ms


class Stream:
    """Starts at an even pace, from a thread of its own, until it is closed."""

    def __init__(self, driver: LogDriver, job: Job) -> None:
        self._driver, self._job = driver, job
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="starts")
        self._thread.start()

    def _run(self) -> None:
        number, begun = 0, time.monotonic()
        while not self._over.is_set():
            self._driver.start(f"start-{number}", self._job)
            number += 1
            while (ahead := begun + number / STARTS_PER_SECOND - time.monotonic()) > 0:
                self._driver.take_ended(ahead)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._driver.close()


class Pair:
    """Two workers and the starts that come. `standby`: each keeps warm stores of what the other one owns."""

    def __init__(self, broker: BrokerUnderTest, directory: Path, *, standby: bool) -> None:
        self._broker, self._directory = broker, directory
        self._hub = f"bench-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(broker.servers, self._hub)
        create_hub(settings, PARTITIONS, 1)
        self._standby = standby
        self._log = KafkaLog.open_reader(settings)
        self._members = [self._join(), self._join()]
        self._stream = Stream(LogDriver(KafkaLog.open_client(settings)), hello_job(1, "async"))

    def change(self, number: int) -> list[Change]:
        """End one of the two by this signal once both have settled, a moment ago; tell of each partition that it had, and let a new one
        come."""
        wait_until(self._settled, f"the workers did not settle, see {self._directory}")
        time.sleep(CALM_SECONDS)
        victim, self._members = self._members[0], [self._members[1]]
        lost = {partition: self._log.span_history(partition).end for partition in victim.owned()}
        sent_ms = victim.end(number)
        changes: dict[int, Change] = {}

        def all_changed() -> bool:
            for partition in lost.keys() - changes.keys():
                change = change_in(list(self._story(partition, lost[partition])), sent_ms)
                if change is not None:
                    changes[partition] = change
            return len(changes) == len(lost)

        wait_until(
            all_changed, f"not every one of the partitions {sorted(lost)} had a turn again, see {self._directory}"
        )
        self._members.append(self._join())
        return list(changes.values())

    def _join(self) -> Member:
        return Member(self._broker, self._hub, self._directory, ("--standby", "1") if self._standby else ())

    def _settled(self) -> bool:
        owned = [len(member.owned()) for member in self._members]
        standing_by = sum(member.standing_by() for member in self._members)
        return sum(owned) == PARTITIONS and min(owned) > 0 and standing_by == (PARTITIONS if self._standby else 0)

    def _story(self, partition: int, start: int) -> Iterator[tuple[int, int]]:
        """Time and kind of the records of a history."""
        end = self._log.span_history(partition).end
        for record in self._log.read_history(partition, start, end):
            yield record.timestamp_ms, decode_envelope(record.value or b"").kind

    def close(self) -> None:
        self._stream.close()
        for member in self._members:
            member.end(signal.SIGKILL)
        self._log.close()


def change_in(story: Sequence[tuple[int, int]], sent_ms: int) -> Change | None:
    """What a history, as (time, kind), tells of a change of hands after the signal; None before the new owner's first turn."""
    last_ms, claim_ms = sent_ms, None
    for time_ms, kind in story:
        if kind == RecordKind.CLAIM and time_ms >= sent_ms:
            claim_ms = time_ms
        elif claim_ms is None:
            last_ms = time_ms
        elif kind == RecordKind.TURN:
            return Change((time_ms - last_ms) / 1000, (claim_ms - sent_ms) / 1000, (time_ms - sent_ms) / 1000)
    return None


def wait_until(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"within {PATIENCE_SECONDS:.0f} s {otherwise}")
        time.sleep(0.1)


@contextmanager
def pair_of(broker: BrokerUnderTest, directory: Path, *, standby: bool) -> Iterator[Pair]:
    pair = Pair(broker, directory, standby=standby)
    try:
        yield pair
    finally:
        pair.close()


def measure_handover(broker: BrokerUnderTest, changes: int, directory: Path) -> Iterator[Figure]:
    """Figures of stops in order and of kills, without a standby and with one."""
    with pair_of(broker, directory, standby=False) as pair:
        stops = [change for _ in range(changes) for change in pair.change(signal.SIGTERM)]
        kills = [change for _ in range(changes) for change in pair.change(signal.SIGKILL)]
    with pair_of(broker, directory, standby=True) as pair:
        covered_stops = [change for _ in range(changes) for change in pair.change(signal.SIGTERM)]
        covered = [change for _ in range(changes) for change in pair.change(signal.SIGKILL)]
    yield figure_of(
        "hand-over after SIGTERM, last record to next turn", [each.pause for each in stops], "s", "at most 0.5"
    )
    yield figure_of("the same to a standby", [each.pause for each in covered_stops], "s", "at most 0.5")
    yield figure_of(
        "take-over by a standby, SIGKILL to next turn", [each.to_turn for each in covered], "s", "at most 1"
    )
    yield figure_of(
        "take-over without a standby, SIGKILL to claim",
        [each.to_claim for each in kills],
        "s",
        "the group's session, 6",
    )
    after = [each.to_turn - each.to_claim for each in kills]
    yield figure_of("take-over without a standby, claim to next turn", after, "s", "at most 1")
