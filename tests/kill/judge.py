"""What is true after the kills: three accounts are compared, none of which is the engine's memory.

The client's: which starts were acknowledged. The log's: what history says of every instance and attempt. The world's: a file to
which activities wrote key, attempt and process.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted, RunState, read_record
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_claim, decode_turn
from perdure.schemas.records import RecordKind

Attempt = tuple[str, int]
"""An activity's key and the number of a dispatch."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A line of the file: this attempt ran in this process."""

    key: str
    attempt: int
    pid: int

    @classmethod
    def parse(cls, line: str) -> "Effect":
        key, attempt, pid = line.split()
        return cls(key, int(attempt), int(pid))


@dataclass(frozen=True, slots=True)
class Epoch:
    """An owner's time on a partition: what it dispatched, and which attempts it gave up as lost and dispatched again."""

    pid: int
    time_ms: int
    dispatched: set[Attempt] = field(default_factory=set)
    gave_up: set[Attempt] = field(default_factory=set)


@dataclass(slots=True)
class Account:
    """What history says. `attempts` are those that were recorded as dispatched; `completed` those that count; `crashed` those that
    were the third in a row that did not come back; `began_ms` and `ended_ms` are of chains only, by partition time; `epochs` are each
    partition's, in order."""

    started: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    bad_ends: dict[str, ev.Status] = field(default_factory=dict)
    attempts: set[Attempt] = field(default_factory=set)
    completed: Counter[Attempt] = field(default_factory=Counter)
    crashed: set[Attempt] = field(default_factory=set)
    began_ms: dict[str, int] = field(default_factory=dict)
    ended_ms: dict[str, int] = field(default_factory=dict)
    epochs: list[list[Epoch]] = field(default_factory=list)

    @property
    def claims(self) -> int:
        return sum(map(len, self.epochs))

    def unfinished_at(self, time_ms: int) -> int:
        """How many chains had begun and not ended."""
        return sum(
            began <= time_ms and self.ended_ms.get(name, time_ms + 1) > time_ms for name, began in self.began_ms.items()
        )


def read_account(partitions: Iterable[Iterable[LogRecord]]) -> Account:
    """Read every partition's history by R3."""
    account = Account()
    for records in partitions:
        state = RunState()
        account.epochs.append([])
        keys: dict[tuple[str, int], str] = {}
        for record in records:
            state, verdict = read_record(state, record.offset, record.value)
            if isinstance(verdict, Accepted):
                _take(account, keys, verdict)
    return account


def _take(account: Account, keys: dict[tuple[str, int], str], record: Accepted) -> None:
    if record.kind == RecordKind.CLAIM:
        claim = decode_claim(record.body, record.format)
        account.epochs[-1].append(Epoch(pid_of(claim.owner), claim.time_ms))
    elif record.kind == RecordKind.TURN:
        turn = decode_turn(record.body, record.format)
        for event in turn.events:
            _take_event(account, keys, record.instance_id, event)
            _take_times(account, record.instance_id, event, turn.time_ms)


def pid_of(owner: str) -> int:
    """An owner is called `host/slot/pid-run`."""
    return int(owner.rpartition("/")[2].partition("-")[0])


def _take_event(account: Account, keys: dict[tuple[str, int], str], name: str, event: ev.HistoryEvent) -> None:
    epoch = account.epochs[-1][-1]
    match event:
        case ev.ExecutionStarted():
            account.started[name] += 1
        case ev.ExecutionCompleted(status):
            account.ended[name] += 1
            if status != ev.Status.COMPLETED:
                account.bad_ends[name] = ev.Status(status)
        case ev.TaskScheduled():
            keys[name, event.task_id] = event.input.decode().strip('"')
            epoch.dispatched.add((keys[name, event.task_id], 1))
            account.attempts.add((keys[name, event.task_id], 1))
        case ev.TaskRescheduled():
            key = keys[name, event.task_id]
            epoch.dispatched.add((key, event.attempt))
            account.attempts.add((key, event.attempt))
            if event.reason == ev.RescheduleReason.RECOVERY:
                epoch.gave_up.add((key, event.attempt - 1))
        case ev.TaskFailed() if event.failure.type == "ActivityCrashed":
            account.crashed.add((keys[name, event.task_id], event.attempt))
        case ev.TaskCompleted():
            account.completed[keys[name, event.task_id], event.attempt] += 1
        case _:
            pass


def _take_times(account: Account, name: str, event: ev.HistoryEvent, time_ms: int) -> None:
    if isinstance(event, ev.ExecutionStarted) and event.name == "chain":
        account.began_ms[name] = time_ms
    elif isinstance(event, ev.ExecutionCompleted) and name in account.began_ms:
        account.ended_ms[name] = time_ms


def judge(acknowledged: Collection[str], account: Account, effects: Sequence[Effect]) -> list[str]:
    """Everything that is not as it must be. A chain fails where kills met one of its activities three times in a row, and only there:
    `interruptions.find_blamed` says whether they did."""
    crashed = {key for key, _ in account.crashed}
    excused = {key.partition("/")[0] for key in crashed}
    wrong = [
        f"{name} ended as {status.name}"
        for name, status in account.bad_ends.items()
        if status != ev.Status.FAILED or chain_of(name) not in excused
    ]
    wrong += [f"{name} was acknowledged and is not in the log" for name in acknowledged if not account.started[name]]
    wrong += [f"{name} began {count} times" for name, count in account.started.items() if count != 1]
    wrong += [f"{name} ended {account.ended[name]} times" for name in account.started if account.ended[name] != 1]
    times = Counter((effect.key, effect.attempt) for effect in effects)
    wrong += [f"attempt {a} of {key} ran {count} times" for (key, a), count in times.items() if count > 1]
    wrong += [f"attempt {a} of {key} ran and is not recorded" for key, a in times if (key, a) not in account.attempts]
    wrong += [f"{key} completed {count} times" for (key, _), count in account.completed.items() if count != 1]
    wrong += [f"attempt {a} of {key} completed and never ran" for key, a in account.completed if (key, a) not in times]
    done = Counter(key for key, _ in account.completed)
    wrong += [f"{key} completed in {count} attempts" for key, count in done.items() if count != 1]
    wrong += [f"{key} ran and never completed" for key in {key for key, _ in times} - set(done) - crashed]
    return wrong


def chain_of(name: str) -> str:
    """A leaf has the name of its chain, and what the engine adds."""
    return name.partition(":")[0]
