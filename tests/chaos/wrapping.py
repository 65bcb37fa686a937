"""What stands between the engine and the world in a process that is to suffer: every port, with crash points at its calls.

Rules of this file: whatever is not named here goes through untouched; a wrapper adds nothing but what its process was told to
suffer (`points`), and what the run needs to see (nothing is trimmed before it was recorded).
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from perdure.partitions.activities import ActivityResult, ActivityTask
from perdure.partitions.ports import Change, Delivered, LogRecord, Report, Revoked
from perdure.schemas.codec import decode_envelope, decode_turn
from perdure.schemas.records import RecordKind

from .points import strike

RECORDED_VARIABLE = "CHAOS_RECORDED"
RESULTS_VARIABLE = "CHAOS_RESULTS"
LATE_SECONDS = 1.5
_FAMILIES = {
    RecordKind.CLAIM: "claim",
    RecordKind.TURN: "turn",
    RecordKind.PARTITION: "partition",
    RecordKind.CHECKPOINT: "checkpoint",
    RecordKind.CARRIED: "carry",
    RecordKind.FORGOTTEN: "forget",
}
_NAMED = {
    "append": {"claim", "turn", "checkpoint", "forget", "carry", "release"},
    "appended": {"claim", "turn", "partition", "checkpoint", "forget", "carry", "release"},
    "landed": {"claim", "turn", "checkpoint", "carry", "release"},
}


class Through:
    """What a wrapper does not name is the wrapped one's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _family(value: bytes) -> str:
    envelope = decode_envelope(value)
    whole = envelope.kind == RecordKind.PARTITION and envelope.parts == 1
    if whole and decode_turn(envelope.body, envelope.format).released:
        return "release"
    return _FAMILIES.get(RecordKind(envelope.kind), "")


def _strike_record(family: str, moment: str) -> None:
    if family in _NAMED[moment]:
        strike(f"{family}.{moment}")


class Stages:
    """How far this process is with each partition, as its calls tell: claimed, owned, or neither (a standby's, or nobody's)."""

    def __init__(self) -> None:
        self.claimed: set[int] = set()
        self.owned: set[int] = set()


class StruckWriter(Through):
    """`partitions.ports.HistoryWriter`."""

    def __init__(self, inner: Any, partition: int, stages: Stages) -> None:
        super().__init__(inner)
        self._partition = partition
        self._stages = stages
        self._sent: deque[str] = deque()

    def append(self, key: str, value: bytes) -> None:
        family = _family(value)
        _strike_record(family, "append")
        self._inner.append(key, value)
        self._sent.append(family)
        if family == "claim":
            self._stages.claimed.add(self._partition)
        _strike_record(family, "appended")

    def take_reports(self) -> Sequence[Report]:
        reports: Sequence[Report] = self._inner.take_reports()
        for _ in reports:
            _strike_record(self._sent.popleft(), "landed")
        return reports


class StruckInbox(Through):
    """`partitions.ports.TopicReader` of the inbox; opened when the history is read, closed when the partition is let go of."""

    def __init__(self, inner: Any, stages: Stages) -> None:
        super().__init__(inner)
        self._stages = stages

    def open(self, partition: int, offset: int) -> None:
        strike("recovery.end")
        self._inner.open(partition, offset)
        self._stages.claimed.discard(partition)
        self._stages.owned.add(partition)

    def close(self, partition: int) -> None:
        self._stages.owned.discard(partition)
        self._inner.close(partition)


class StruckPublisher(Through):
    """`partitions.ports.Publisher`."""

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None:
        def arrived(error: str | None) -> None:
            strike("send.delivered")
            if delivered is not None:
                delivered(error)

        strike("send.publish")
        self._inner.publish_inbox(partition, key, value, arrived)
        strike("send.published")

    def publish_reply(self, partition: int, key: str, value: bytes) -> None:
        strike("reply.publish")
        self._inner.publish_reply(partition, key, value)
        strike("reply.published")

    def publish_dead_letter(
        self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], delivered: Delivered | None = None
    ) -> None:
        strike("letter.publish")
        self._inner.publish_dead_letter(key, value, headers, delivered)


class StruckSnapshots(Through):
    """`partitions.ports.SnapshotTopic`."""

    def publish(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        whole = key.endswith("/manifest")

        def arrived(error: str | None) -> None:
            if whole and value is not None:
                strike("snapshot.manifested")
            delivered(error)

        strike("snapshot.delete" if value is None else "snapshot.manifest" if whole else "snapshot.chunk")
        self._inner.publish(partition, key, value, arrived)


class StruckLog(Through):
    """`partitions.ports.Log`."""

    def __init__(self, inner: Any, stages: Stages) -> None:
        super().__init__(inner)
        self.stages = stages
        self.inbox = StruckInbox(inner.inbox, stages)
        self.publisher = StruckPublisher(inner.publisher)
        self.snapshots = StruckSnapshots(inner.snapshots) if inner.snapshots is not None else None
        recorded = os.environ.get(RECORDED_VARIABLE, "")
        self._recorded = Path(recorded) if recorded else None

    def open_history(self, partition: int) -> StruckWriter:
        return StruckWriter(self._inner.open_history(partition), partition, self.stages)

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        for number, record in enumerate(self._inner.read_history(partition, start, end)):
            if not number and partition in self.stages.claimed:
                strike("recovery.read")
            yield record

    def trim_inbox(self, partition: int, before: int) -> None:
        strike("inbox.trim")
        self._inner.trim_inbox(partition, min(before, self._seen("inbox", partition)))
        strike("inbox.trimmed")

    def trim_history(self, partition: int, before: int) -> None:
        strike("history.trim")
        self._inner.trim_history(partition, min(before, self._seen("history", partition)))
        strike("history.trimmed")

    def _seen(self, topic: str, partition: int) -> int:
        """Up to where whoever judges this run has the topic; nothing else is kept from being trimmed."""
        if self._recorded is None:
            return 1 << 62
        seen: int = orjson.loads(self._recorded.read_bytes())[topic][partition] if self._recorded.exists() else 0
        return seen


class StruckStore(Through):
    """`partitions.ports.Store`."""

    def __init__(self, inner: Any, partition: int, stages: Stages) -> None:
        super().__init__(inner)
        self._partition = partition
        self._stages = stages
        self._was_owned = False

    def write(self, changes: Sequence[Change]) -> None:
        stage = self._stage()
        if stage:
            strike(f"{stage}.write")
        self._inner.write(changes)
        if stage:
            strike(f"{stage}.written")

    def flush(self) -> None:
        strike("store.flush" if self._stage() == "turn" else "snapshot.load")
        self._inner.flush()
        if self._stage() == "turn":
            strike("store.flushed")

    def close(self) -> None:
        if self._was_owned:
            strike("store.close")
        self._inner.close()
        if self._was_owned:
            strike("store.closed")

    def _stage(self) -> str:
        if self._partition in self._stages.owned:
            self._was_owned = True
            return "turn"
        return "recovery" if self._partition in self._stages.claimed else ""


class StruckStores(Through):
    """`partitions.ports.Stores`."""

    def __init__(self, inner: Any, stages: Stages) -> None:
        super().__init__(inner)
        self._stages = stages

    def open(self, partition: int) -> StruckStore:
        return StruckStore(self._inner.open(partition), partition, self._stages)


class StruckPool(Through):
    """`partitions.activities.ActivityPool`. Where the run wants it, results come twice, and again long after they counted."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._repeat = os.environ.get(RESULTS_VARIABLE, "")
        self._late: deque[tuple[float, int, ActivityResult]] = deque()

    def dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        strike("task.dispatch")
        self._inner.dispatch(tasks)
        strike("task.dispatched")

    def take_results(self, partition: int) -> Sequence[ActivityResult]:
        results: list[ActivityResult] = list(self._inner.take_results(partition))
        if results:
            strike("result.taken")
        return results + self._repeated(partition, results) if self._repeat else results

    def _repeated(self, partition: int, results: Sequence[ActivityResult]) -> list[ActivityResult]:
        now = time.monotonic()
        self._late.extend((now + LATE_SECONDS, partition, result) for result in results)
        late: list[ActivityResult] = []
        while self._late and self._late[0][0] <= now:
            _, of, result = self._late.popleft()
            if of == partition:  # that of another partition has found no owner to ask for it
                late.append(result)
        with Path(self._repeat).open("a") as fired:
            fired.write("results.doubled\n" * len(results) + "results.late\n" * len(late))
        return [*results, *late]


class StruckMembership(Through):
    """`partitions.ports.Membership`."""

    def poll(self) -> Sequence[Any]:
        changes: Sequence[Any] = self._inner.poll()
        if any(isinstance(change, Revoked) for change in changes):
            strike("revoked.told")
        return changes

    def acknowledge(self, partitions: Sequence[int]) -> None:
        strike("revoked.acknowledge")
        self._inner.acknowledge(partitions)
        strike("revoked.acknowledged")

    def leave(self) -> None:
        strike("group.leave")
        self._inner.leave()
        strike("group.leaving")

    def close(self) -> None:
        self._inner.close()
        strike("group.left")
