"""A worker on the embedded log in a thread, and a client beside it: for the tests in this folder."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from perdure.actors.activity import Activity
from perdure.actors.executor import Decision, RecordedTurn
from perdure.partitions.embedded.log import EmbeddedLog
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.membership import SoleMembership
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import LogUnavailable, Membership, MembershipChange, Stores
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.codec import decode_reply, encode_inbound
from perdure.schemas.events import (
    ExecutionCompleted,
    ExecutionStarted,
    HistoryEvent,
    Status,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
)
from perdure.schemas.messages import Body, Inbound, Query, QueryKind, Reply, ReplyTo, Start
from perdure.worker import RunnableApp, Worker, WorkerSettings

PARTITIONS = 2
PLENTY_SECONDS = 20.0


class OneActivity:
    """Code that calls the activity named by its orchestration, and returns what that returned."""

    def __init__(self, started: ExecutionStarted) -> None:
        self._started = started

    def replay(self, turns: Iterable[RecordedTurn]) -> None:
        """It keeps nothing from turn to turn."""

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Decision:
        decided: list[HistoryEvent] = []
        for event in events:
            match event:
                case ExecutionStarted():
                    decided.append(TaskScheduled(1, event.name, event.input))
                case TaskCompleted():
                    decided.append(ExecutionCompleted(Status.COMPLETED, event.result))
                case TaskFailed():
                    decided.append(ExecutionCompleted(Status.FAILED, failure=event.failure))
                case _:
                    pass
        return Decision(tuple(decided))

    def close(self) -> None:
        """Nothing to let go of."""


class OneActivityApp:
    """An app (`worker.RunnableApp`) whose every orchestration is one activity of the same name."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        self.activities = {name: Activity(name, function) for name, function in functions.items()}

    def executor(self, instance_id: str, started: ExecutionStarted) -> OneActivity:
        return OneActivity(started)

    def activity(self, name: str) -> Activity[Any, Any] | None:
        return self.activities.get(name)


class ScriptedMembership:
    """A group that does what a test says (`partitions.ports.Membership`)."""

    def __init__(self, *changes: MembershipChange) -> None:
        self.changes = list(changes)
        self.acknowledged: list[int] = []
        self.left = False
        self.closed = False
        self.over = False

    def poll(self) -> Sequence[MembershipChange]:
        if self.over:
            raise LogUnavailable("the group is gone")
        changes, self.changes = self.changes, []
        return changes

    def acknowledge(self, partitions: Sequence[int]) -> None:
        self.acknowledged.extend(partitions)

    def leave(self) -> None:
        self.left = True

    def close(self) -> None:
        self.closed = True


class Engine:
    """A hub in `directory`, a worker of it in a thread, and a client. `owner` are settings of its owners, the others its own."""

    def __init__(
        self,
        directory: Path,
        app: RunnableApp,
        membership: Membership | None = None,
        owner: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.log = EmbeddedLog.open(directory / "hub", hub="shop", partition_count=PARTITIONS)
        self.stores: Stores = RocksStores(directory / "worker-0")
        self._app = app
        self._membership = membership or SoleMembership(PARTITIONS)
        self._settings = WorkerSettings(OwnerSettings("worker-0", **dict(owner or {})), **settings)
        self.make_worker(self.stores)
        self.error: BaseException | None = None
        self._client = self.log.share()
        self._replies = self._client.open_replies("client")
        self._answers: dict[str, list[Reply]] = {}
        self._asked = 0
        self._thread = threading.Thread(target=self._run)

    def make_worker(self, stores: Stores) -> None:
        self.worker = Worker(self._app, self.log, self._membership, stores, self._settings)

    def start(self) -> "Engine":
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def until(self, done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PLENTY_SECONDS
        while not done():
            assert self.error is None, self.error
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.005)

    def ask(self, instance_id: str, body: Body) -> str:
        """Send a request; return its id."""
        self._asked += 1
        request = f"request-{self._asked}"
        inbound = Inbound(instance_id, body, request, reply_to=ReplyTo("client", self._replies.partition))
        partition = partition_of(instance_id, PARTITIONS)
        self._client.publisher.publish_inbox(partition, instance_id, encode_inbound(inbound))
        return request

    def answer(self, request: str) -> Reply:
        deadline = time.monotonic() + PLENTY_SECONDS
        while not self._answers.get(request):
            assert time.monotonic() < deadline, f"no answer to {request}"
            for record in self._replies.take(0.05):
                reply = decode_reply(record.value or b"")
                self._answers.setdefault(reply.request_id, []).append(reply)
        return self._answers[request].pop(0)

    def begin(self, instance_id: str, name: str) -> None:
        """Start an instance, and wait until that is confirmed."""
        self.answer(self.ask(instance_id, Start(name, b'"in"')))

    def result(self, instance_id: str) -> dict[str, Any]:
        """How an instance ended."""
        view: dict[str, Any] = orjson.loads(self.answer(self.ask(instance_id, Query(QueryKind.WAIT))).body)
        return view

    def ended(self) -> bool:
        """True once the worker's `run` has returned."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Stop in order, and wait for the end."""
        self.worker.stop()
        self._thread.join(PLENTY_SECONDS)
        assert self.ended(), "the worker did not stop"

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
        self._replies.close()
        self._client.close()
        self.stores.close()
        self.log.close()
