"""A hub in memory with real owners and scripted code, for logs to audit."""

from collections.abc import Callable, Iterable, Sequence
from random import Random

from perdure.actors.executor import ContinueAsNew, Decision, Executor, InstanceHeld, RecordedTurn
from perdure.partitions.activities import ActivityResult, ActivityTask
from perdure.partitions.holdings import Code, OwnerParts, OwnerSettings
from perdure.partitions.instances import unwatched
from perdure.partitions.memory import MemoryHub, MemoryLog, MemoryStores
from perdure.partitions.owner import PartitionOwner, Phase
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import LogRecord
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.codec import encode_inbound
from perdure.schemas.events import HistoryEvent
from tests.partitions.cluster import Clock, HandPool

PARTITIONS = 2
DECISIONS = (
    ev.TaskScheduled,
    ev.SubOrchestrationInstanceCreated,
    ev.TimerCreated,
    ev.EventSent,
    ev.CustomStatusSet,
    ev.ExecutionCompleted,
)

Script = Callable[[str, Sequence[HistoryEvent]], list[HistoryEvent]]
"""All that an execution has decided, given its id and all that it has seen."""


class ScriptedExecutor:
    """An execution whose decisions are a function of what it has seen."""

    def __init__(self, script: Script, instance_id: str) -> None:
        self._script = script
        self._instance_id = instance_id
        self._seen: list[HistoryEvent] = []
        self._decided = 0

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Decision:
        self._seen.extend(events)
        decided = self._script(self._instance_id, self._seen)
        new, self._decided = tuple(decided[self._decided :]), len(decided)
        goes_on = any(
            isinstance(event, ev.ExecutionCompleted) and event.status == ev.Status.CONTINUED_AS_NEW for event in new
        )
        return Decision(
            new, ContinueAsNew(new[-1].result, ()) if goes_on and isinstance(new[-1], ev.ExecutionCompleted) else None
        )

    def replay(self, turns: Iterable[RecordedTurn]) -> ContinueAsNew | None:
        continued = None
        waiting: tuple[HistoryEvent, ...] = ()
        for turn in turns:
            facts = tuple(event for event in turn.events if not isinstance(event, DECISIONS) and not is_retried(event))
            waiting = (*waiting, *facts)
            if turn.decided:
                found = tuple(event for event in turn.events if isinstance(event, DECISIONS))
                decision = self.decide(waiting, turn.time_ms)
                continued = decision.continued
                if decision.events != found:
                    raise InstanceHeld(f"decided {decision.events}, history has {found}", kind="nondeterminism")
                waiting = ()
        return continued

    def close(self) -> None:
        pass


def is_retried(event: HistoryEvent) -> bool:
    """A failure that the code does not see."""
    return isinstance(event, ev.TaskFailed) and event.retry_at_ms != ev.NEVER


class ScriptedCode:
    """The registered scripts, by the name of their orchestration."""

    def __init__(self, **scripts: Script) -> None:
        self._scripts = scripts

    def executor(self, instance_id: str, started: ev.ExecutionStarted, *, strict: bool = False) -> Executor:
        if started.name not in self._scripts:
            raise InstanceHeld(f"no orchestration is called {started.name!r}", kind="unknown-orchestration")
        return ScriptedExecutor(self._scripts[started.name], instance_id)


def perform(task: ActivityTask) -> ActivityResult:
    """What an activity comes to: the first attempt of `charge` fails."""
    if task.name == "charge" and task.attempt == 1:
        return ActivityResult(task, failure=ev.Failure("CardDeclined", "try again"))
    return ActivityResult(task, b'"%s of %s"' % (task.name.encode(), task.input.strip(b'"')))


def ship(instance_id: str, seen: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """Charge, wait five seconds and pack, all at once; then tell the ledger and end."""
    started = seen[0]
    assert isinstance(started, ev.ExecutionStarted)
    decided: list[HistoryEvent] = [
        ev.TaskScheduled(1, "charge", started.input, ev.RetryOptions(1_000, 3)),
        ev.TimerCreated(2, started.created_at_ms + 5_000),
        ev.SubOrchestrationInstanceCreated(3, "pack", f"{instance_id}-pack", started.input),
    ]
    done = {
        event.task_id
        for event in seen
        if isinstance(event, ev.TaskCompleted | ev.TaskFailed | ev.TimerFired | ev.SubOrchestrationInstanceCompleted)
    }
    if done >= {1, 2, 3}:
        decided += [
            ev.EventSent(4, "ledger", "Shipped", b'"%s"' % instance_id.encode()),
            ev.CustomStatusSet(b'"shipped"'),
        ]
        decided.append(ev.ExecutionCompleted(ev.Status.COMPLETED, b"true"))
    return decided


def pack(_instance_id: str, seen: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    started = seen[0]
    assert isinstance(started, ev.ExecutionStarted)
    decided: list[HistoryEvent] = [ev.TaskScheduled(1, "wrap", started.input)]
    # What wrapping comes to is of no interest to the code: a changed result changes no decision.
    wrapped = any(isinstance(event, ev.TaskCompleted | ev.TaskFailed) for event in seen)
    return [*decided, ev.ExecutionCompleted(ev.Status.COMPLETED, b'"packed"')] if wrapped else decided


def ledger(_instance_id: str, seen: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """Begin anew with every third event."""
    events = [event for event in seen if isinstance(event, ev.EventRaised)]
    return [ev.ExecutionCompleted(ev.Status.CONTINUED_AS_NEW, b"3")] if len(events) >= 3 else []


CODE = ScriptedCode(ship=ship, pack=pack, ledger=ledger)


class Worker:
    """One process: an owner for each partition."""

    def __init__(self, hub: MemoryHub, clock: Clock, name: str, code: Code = CODE) -> None:
        self.log = MemoryLog(hub)
        pool = HandPool(self.log, automatic=True, perform=perform)
        parts = OwnerParts(self.log, MemoryStores(), pool, code, clock, Random(1), unwatched)
        settings = OwnerSettings(name, checkpoint_turns_max=20)
        self.owners = [PartitionOwner(partition, parts, settings) for partition in range(PARTITIONS)]

    def step(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.log.wait(0)
            for partition, record in self.log.inbox.take(100):
                self.owners[partition].receive([record])
            for owner in self.owners:
                owner.step()

    def release(self) -> None:
        """Stop in order."""
        for owner in self.owners:
            owner.drain()
        self.step(20)
        for owner in self.owners:
            owner.release()
        self.step(20)
        assert all(owner.phase == Phase.CLOSED for owner in self.owners)


def send(log: MemoryLog, instance_id: str, body: ms.Body) -> None:
    log.publisher.publish_inbox(
        partition_of(instance_id, PARTITIONS), instance_id, encode_inbound(ms.Inbound(instance_id, body))
    )


def run_hub() -> dict[int, list[LogRecord]]:
    """A hub's history with two take-overs: one under a zombie that goes on writing for a while, one in order."""
    clock = Clock()
    hub = MemoryHub(PARTITIONS, clock)
    first = Worker(hub, clock, "worker-1")
    first.step(20)
    send(first.log, "ledger", ms.Start("ledger"))
    for number in range(6):
        send(first.log, f"order-{number}", ms.Start("ship", b"%d" % number))
    first.step(12)
    second = Worker(hub, clock, "worker-2")
    second.step()
    for number in range(6, 9):
        send(first.log, f"order-{number}", ms.Start("ship", b"%d" % number))
    # The zombie has read these starts and writes turns for them after the other's claim.
    for _ in range(3):
        first.step()
    second.step(20)
    clock.now_ms += 1_500
    second.step(30)
    second.release()
    third = Worker(hub, clock, "worker-3")
    third.step(20)
    clock.now_ms += 10_000
    third.step(60)
    log = third.log
    return {
        partition: list(log.read_history(partition, 0, log.span_history(partition).end))
        for partition in range(PARTITIONS)
    }
