"""What is true after the kills: three accounts are compared, none of which is the engine's memory.

The client's: which starts were acknowledged. The log's: what history says of every instance and attempt. The world's: a file to
which activities wrote key and attempt.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted, RunState, read_record
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_turn
from perdure.schemas.records import RecordKind

Effect = tuple[str, int]


@dataclass(slots=True)
class Account:
    """What history says. `attempts` are those that were recorded as dispatched, by the activity's key; `completed` those that
    count."""

    started: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    bad_ends: list[str] = field(default_factory=list)
    attempts: set[Effect] = field(default_factory=set)
    completed: Counter[Effect] = field(default_factory=Counter)
    claims: int = 0


def read_account(partitions: Iterable[Iterable[LogRecord]]) -> Account:
    """Read every partition's history by R3."""
    account = Account()
    for records in partitions:
        state = RunState()
        keys: dict[tuple[str, int], str] = {}
        for record in records:
            state, verdict = read_record(state, record.offset, record.value)
            if isinstance(verdict, Accepted):
                _take(account, keys, verdict)
    return account


def _take(account: Account, keys: dict[tuple[str, int], str], record: Accepted) -> None:
    account.claims += record.kind == RecordKind.CLAIM
    if record.kind != RecordKind.TURN:
        return
    name = record.instance_id
    for event in decode_turn(record.body, record.format).events:
        match event:
            case ev.ExecutionStarted():
                account.started[name] += 1
            case ev.ExecutionCompleted(status):
                account.ended[name] += 1
                if status != ev.Status.COMPLETED:
                    account.bad_ends.append(f"{name} ended as {ev.Status(status).name}")
            case ev.TaskScheduled():
                keys[name, event.task_id] = event.input.decode().strip('"')
                account.attempts.add((keys[name, event.task_id], 1))
            case ev.TaskRescheduled():
                account.attempts.add((keys[name, event.task_id], event.attempt))
            case ev.TaskCompleted():
                account.completed[keys[name, event.task_id], event.attempt] += 1
            case _:
                pass


def judge(acknowledged: Collection[str], account: Account, effects: Sequence[Effect]) -> list[str]:
    """Everything that is not as it must be."""
    wrong = list(account.bad_ends)
    wrong += [f"{name} was acknowledged and is not in the log" for name in acknowledged if not account.started[name]]
    wrong += [f"{name} began {count} times" for name, count in account.started.items() if count != 1]
    wrong += [f"{name} ended {account.ended[name]} times" for name in account.started if account.ended[name] != 1]
    times = Counter(effects)
    wrong += [f"attempt {a} of {key} ran {count} times" for (key, a), count in times.items() if count > 1]
    wrong += [f"attempt {a} of {key} ran and is not recorded" for key, a in times if (key, a) not in account.attempts]
    wrong += [f"{key} completed {count} times" for (key, _), count in account.completed.items() if count != 1]
    wrong += [f"attempt {a} of {key} completed and never ran" for key, a in account.completed if (key, a) not in times]
    done = Counter(key for key, _ in account.completed)
    wrong += [f"{key} completed in {count} attempts" for key, count in done.items() if count != 1]
    wrong += [f"{key} ran and never completed" for key in {key for key, _ in times} - set(done)]
    return wrong
