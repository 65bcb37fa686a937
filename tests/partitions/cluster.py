"""A hub in memory with real owners and a real app, driven by hand: several processes on one thread, in virtual time.

`Member` is a process; `Cluster` is the broker, the members and one client. Nothing happens but by `step`, and time stands still
until somebody moves it.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, cast

import orjson

from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext
from perdure.actors.tasks import when_all
from perdure.audit import audit_records, read_log
from perdure.partitions.activities import ActivityResult, ActivityTask, Attempt, PoolCounts
from perdure.partitions.holdings import Counts, Holdings, OwnerParts, OwnerSettings
from perdure.partitions.instances import unwatched
from perdure.partitions.memory import Faults, MemoryHub, MemoryLog, MemoryStores
from perdure.partitions.memory.hub import Journal
from perdure.partitions.owner import PartitionOwner, Phase
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import BufferFull, Stores
from perdure.partitions.reader import Accepted, RunState, Verdict, read_record
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_reply, decode_turn, encode_inbound
from perdure.schemas.events import Failure, HistoryEvent
from perdure.schemas.messages import Body, Inbound, Query, QueryKind, Reply, ReplyCode, ReplyTo
from perdure.schemas.records import RecordKind, TurnBody

START_MS = 1_790_000_000_000
ROUNDS_MAX = 2_000
GET = Query(QueryKind.GET)

app = App()


@app.activity
def work(value: Any) -> Any:
    return value


@app.orchestration
async def order(ctx: OrchestrationContext, value: Any) -> Any:
    return await ctx.call_activity(work, value)


@app.orchestration
async def idle(ctx: OrchestrationContext, value: Any) -> Any:
    return value


@app.orchestration
async def listen(ctx: OrchestrationContext, count: int) -> list[Any]:
    return [await ctx.wait_for_external_event("go") for _ in range(count)]


@app.orchestration
async def sleep(ctx: OrchestrationContext, milliseconds: int) -> int:
    await ctx.create_timer(timedelta(milliseconds=milliseconds))
    return milliseconds


@app.orchestration
async def lull(ctx: OrchestrationContext, child: str) -> int:
    return await ctx.call_sub_orchestrator(sleep, 60_000, instance_id=child)


@app.orchestration
async def family(ctx: OrchestrationContext, children: list[str]) -> list[Any]:
    return await when_all([ctx.call_sub_orchestrator(order, name, instance_id=name) for name in children])


@app.orchestration
async def wide(ctx: OrchestrationContext, count: int) -> int:
    return len(await when_all([ctx.call_activity(work, number) for number in range(count)]))


class Clock:
    """Time that goes on when it is told to; the broker's, which members see with a skew of their own."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._suspended_ms = 0

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return (self.now_ms - START_MS - self._suspended_ms) / 1000

    def suspend(self, milliseconds: int) -> None:
        """All machines sleep for so long: the brokers' time goes on, and no monotonic clock does."""
        self.now_ms += milliseconds
        self._suspended_ms += milliseconds


class SkewedClock:
    """A machine's clock; `skew_ms` may be changed at any time, as by somebody who sets it."""

    def __init__(self, true: Clock) -> None:
        self._true = true
        self.skew_ms = 0

    def wall_ms(self) -> int:
        return self._true.wall_ms() + self.skew_ms

    def monotonic(self) -> float:
        return self._true.monotonic()


Perform = Callable[[ActivityTask], ActivityResult]


class HandPool:
    """Activities of one process. With `automatic` each ends at the owner's next round, as `perform` says (with what it was given,
    if it says nothing); else when a test says so. `dispatched` is all that was ever dispatched, with the end of the history at that moment: an effect (R5)."""

    def __init__(self, log: MemoryLog, *, automatic: bool, perform: Perform | None = None) -> None:
        self._log = log
        self._perform = perform or (lambda task: ActivityResult(task, task.input))
        self.automatic = automatic
        self.running_max = 1_000_000
        self.known: Container[str] | None = None
        """The activities that this process has; None: all of them."""
        self.dispatched: list[tuple[ActivityTask, int]] = []
        self.canceled: list[tuple[str, str, int | None]] = []
        self._running: list[ActivityTask] = []
        self._results: list[ActivityResult] = []

    @property
    def saturated(self) -> bool:
        return len(self._running) >= self.running_max

    def dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        if self.known is not None:
            unknown = [task for task in tasks if task.name not in self.known]
            self._results += [ActivityResult(task, unknown=True) for task in unknown]
            tasks = [task for task in tasks if task not in unknown]
        self.dispatched += [(task, self._log.span_history(task.partition).end) for task in tasks]
        if self.automatic:
            self._results += map(self._perform, tasks)
        else:
            self._running += tasks

    def finish(self, instance_id: str = "", result: bytes | None = None, failure: Failure | None = None) -> int:
        """Let the activities of an instance end (of all, without one); return how many did."""
        ended = [task for task in self._running if instance_id in ("", task.instance_id)]
        self._running = [task for task in self._running if task not in ended]
        self._results += [ActivityResult(task, result or task.input, failure) for task in ended]
        return len(ended)

    def take_results(self, partition: int) -> Sequence[ActivityResult]:
        mine = [result for result in self._results if result.task.partition == partition]
        self._results = [result for result in self._results if result.task.partition != partition]
        return mine

    def give_back(self, results: Sequence[ActivityResult]) -> None:
        self._results = [*results, *self._results]

    def cancel(self, partition: int, instance_id: str, execution_id: str, task_id: int | None = None) -> None:
        self.canceled.append((instance_id, execution_id, task_id))
        over = (partition, instance_id, execution_id)
        self._running = [
            task
            for task in self._running
            if (task.partition, task.instance_id, task.execution_id) != over or task_id not in (None, task.task_id)
        ]

    def cancel_partition(self, partition: int) -> None:
        self._running = [task for task in self._running if task.partition != partition]
        self._results = [result for result in self._results if result.task.partition != partition]

    def running(self, partition: int) -> frozenset[Attempt]:
        tasks = [*self._running, *(result.task for result in self._results)]
        return frozenset(task.key for task in tasks if task.partition == partition)

    def running_count(self, partition: int) -> int:
        return len(self.running(partition))

    @property
    def running_everywhere(self) -> list[Attempt]:
        return [task.key for task in self._running]

    def step(self) -> bool:
        return False

    def linger(self) -> bool:
        return False  # time here does not pass by itself

    def wait_seconds(self, limit_seconds: float) -> float:
        return limit_seconds

    def drain(self) -> None:
        """Nothing is ever queued."""

    def counts(self) -> PoolCounts:
        return PoolCounts(plain_running=len(self._running))

    def close(self, timeout_seconds: float) -> None:
        self._running.clear()


class Member:
    """One process: an owner for each partition that it is told to try."""

    def __init__(self, cluster: "Cluster", name: str, stores: Stores, settings: dict[str, Any]) -> None:
        self.name = name
        self.log = MemoryLog(cluster.hub)
        self.clock = SkewedClock(cluster.clock)
        self.stores = stores
        self.pool = HandPool(self.log, automatic=cluster.automatic)
        self.settings = replace(OwnerSettings(name), **settings)
        self.parts = OwnerParts(self.log, stores, self.pool, cluster.app, self.clock, Random(name), unwatched)
        self.owners: dict[int, PartitionOwner] = {}

    def assign(self, *partitions: int) -> "Member":
        for partition in partitions:
            self.owners[partition] = PartitionOwner(partition, self.parts, self.settings)
        return self

    def __getitem__(self, partition: int) -> PartitionOwner:
        return self.owners[partition]

    @property
    def counts(self) -> Counts:
        """Those of partition 0."""
        return self.owners[0].counts

    def owns(self, partition: int = 0) -> bool:
        return self.owners[partition].phase == Phase.OWNING

    def holdings(self, partition: int = 0) -> Holdings:
        holdings = self.owners[partition].holdings
        assert holdings is not None, f"{self.name} does not own partition {partition}"
        return holdings

    def step(self) -> bool:
        """One round, as a worker's engine makes it."""
        self.log.wait(0)
        worked = False
        for partition, record in self.log.inbox.take(self.settings.round_messages_max):
            self.owners[partition].receive([record])
            worked = True
        for owner in self.owners.values():
            worked |= bool(owner.step())
        return worked

    def release(self, *partitions: int) -> None:
        """Stop in order; `step` goes on with it."""
        for partition in partitions or tuple(self.owners):
            self.owners[partition].release()


class Follower:
    """Reads one partition's history as it grows, by R3."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._state = RunState()
        self._verdicts: list[tuple[int, Verdict]] = []

    def restart(self) -> None:
        """The history is another one than it was."""
        self._state, self._verdicts = RunState(), []

    def read(self) -> list[tuple[int, Verdict]]:
        for record in self._journal.read(self._state.next_offset, self._journal.end):
            self._state, verdict = read_record(self._state, record.offset, record.value)
            self._verdicts.append((record.offset, verdict))
        return self._verdicts

    def accepted(self) -> list[Accepted]:
        return [verdict for _, verdict in self.read() if isinstance(verdict, Accepted)]

    def turns(self) -> Iterator[tuple[Accepted, TurnBody]]:
        for each in self.accepted():
            if each.kind in (RecordKind.TURN, RecordKind.PARTITION, RecordKind.FORGOTTEN):
                yield each, decode_turn(each.body, each.format)


class Cluster:
    """One hub, whoever works on it, and one client."""

    def __init__(
        self, partitions: int = 1, *, faults: Faults | None = None, code: App = app, automatic: bool = True
    ) -> None:
        self.clock = Clock()
        self.hub = MemoryHub(partitions, self.clock, faults=faults)
        self.partitions = partitions
        self.app = code
        self.automatic = automatic
        self.members: list[Member] = []
        self._asked = 0
        self._open()

    def _open(self) -> None:
        self.client = MemoryLog(self.hub)
        self.histories = [Follower(self.hub.journal("history", partition)) for partition in range(self.partitions)]
        self._replies: dict[str, list[Reply]] = {}
        self._replies_read = 0

    def recreate(self) -> None:
        """Delete the topics and create them again; the client notices, as its next start does."""
        self.hub.recreate()
        self._open()

    def join(self, name: str = "worker-1", *, stores: Stores | None = None, **settings: Any) -> Member:
        """Return a new process that tries all partitions."""
        member = Member(self, name, stores or MemoryStores(), settings)
        self.members.append(member)
        return member.assign(*range(self.partitions))

    def kill(self, member: Member, writes_kept: int = 0) -> None:
        """End a process as SIGKILL does: nothing is handed over, and its stores lose what was not flushed."""
        member.log.close()
        assert isinstance(member.stores, MemoryStores)
        for partition in member.owners:
            member.stores.crash(partition, writes_kept)
        self.members.remove(member)

    # Going on.

    def step(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.client.wait(0)
            for member in list(self.members):
                member.step()

    def until(self, done: Callable[[], Any], *, milliseconds: int = 0) -> None:
        """Go on until a condition holds, letting time pass by `milliseconds` a round."""
        for _ in range(ROUNDS_MAX):
            if done():
                return
            self.step()
            self.clock.now_ms += milliseconds
        raise AssertionError("it did not come about")

    def settle(self, rounds: int = 30) -> None:
        """Go on for long enough that nothing more happens at this moment."""
        self.step(rounds)

    # The client.

    def put(self, value: bytes | None, partition: int = 0, key: str = "") -> None:
        """Put any bytes on an inbox."""
        try:
            self.client.publisher.publish_inbox(partition, key, cast("bytes", value))
        except BufferFull:  # a client tries again
            self.client.wait(0)
            self.put(value, partition, key)

    def send(self, instance_id: str, body: Body, **fields: Any) -> str:
        """Send a request; return its id, under which its replies come."""
        self._asked += 1
        fields = {"request_id": f"request-{self._asked}", "reply_to": ReplyTo("client", 0), **fields}
        self.put(encode_inbound(Inbound(instance_id, body, **fields)), self.home_of(instance_id), instance_id)
        return str(fields["request_id"])

    def ask(self, instance_id: str, query: Query = GET, partition: int | None = None) -> Reply:
        """The answer to a read. Like any client it asks again when nothing comes."""
        self._asked += 1
        request = f"request-{self._asked}"
        value = encode_inbound(Inbound(instance_id, query, request, reply_to=ReplyTo("client", 0)))
        for _ in range(20):
            self.put(value, self.home_of(instance_id) if partition is None else partition)
            for _ in range(20):
                self.step()
                self.clock.now_ms += 10
                if replies := self.replies(request):
                    return replies[0]
        raise AssertionError(f"no answer about {instance_id!r}")

    def view(self, instance_id: str) -> dict[str, Any]:
        """The instance as a client gets it; empty where there is none."""
        reply = self.ask(instance_id)
        return {} if reply.code == ReplyCode.NOT_FOUND else dict(orjson.loads(reply.body))

    def replies(self, request: str) -> list[Reply]:
        journal = self.hub.journal("replies", 0)
        for record in journal.read(self._replies_read, journal.end):
            reply = decode_reply(record.value or b"")
            self._replies.setdefault(reply.request_id, []).append(reply)
        self._replies_read = journal.end
        return self._replies.get(request, [])

    def home_of(self, instance_id: str) -> int:
        return partition_of(instance_id, self.partitions)

    # The log.

    def claims(self, partition: int = 0) -> list[int]:
        return [each.offset for each in self.histories[partition].accepted() if each.kind == RecordKind.CLAIM]

    def events(self, instance_id: str) -> list[HistoryEvent]:
        """All events of an instance that count."""
        turns = self.histories[self.home_of(instance_id)].turns()
        return [event for each, body in turns if each.instance_id == instance_id for event in body.events]

    def ended(self) -> Counter[str]:
        """How often each instance has come to an end."""
        turns = (turn for history in self.histories for turn in history.turns())
        return Counter(
            each.instance_id
            for each, body in turns
            for event in body.events
            if isinstance(event, ev.ExecutionCompleted | ev.ExecutionTerminated)
        )

    def dead_letters(self) -> list[tuple[dict[str, str], bytes]]:
        """Headers and original bytes."""
        journal = self.hub.journal("dead-letter", 0)
        return [
            ({name: value.decode() for name, value in record.headers}, record.value or b"")
            for record in journal.read(0, journal.end)
        ]

    # What holds at every moment.

    def check(self) -> None:
        """The audit finds nothing, and nothing was dispatched before it was durable (R5)."""
        assert () == audit_records(read_log(self.client), self.app).findings
        stands = self._attempts()
        for task, end in (each for member in self.members for each in member.pool.dispatched):
            assert task.key in stands, f"{task.key} was dispatched, and no record that counts says so"
            assert stands[task.key] < end, f"{task.key} was dispatched before its record stood in the log"

    def _attempts(self) -> dict[Attempt, int]:
        """Each attempt that a record which counts asks for, and the offset of that record."""
        stands: dict[Attempt, int] = {}
        executions: dict[str, str] = {}
        for each, body in (turn for history in self.histories for turn in history.turns()):
            name = each.instance_id
            for event in body.events:
                if isinstance(event, ev.ExecutionStarted):
                    executions[name] = event.execution_id
                elif isinstance(event, ev.TaskScheduled):
                    stands[name, executions[name], event.task_id, 1] = each.offset
                elif isinstance(event, ev.TaskRescheduled):
                    stands[name, executions[name], event.task_id, event.attempt] = each.offset
        return stands

    def dispatches(self) -> Counter[Attempt]:
        return Counter(task.key for member in self.members for task, _ in member.pool.dispatched)
