"""Keys of a partition's store: one prefix byte a table, then fields whose byte order is the order wanted.

An instance id has no NUL (actors.limits), so NUL ends it. The instance index (index.py) has prefixes of its own.

| prefix | key after it                                   | value                                           |
|--------|------------------------------------------------|-------------------------------------------------|
| P      |                                                | where the store is: state.encode_anchor         |
| H      | instance, turn                                 | offset, format, turn body as on the wire        |
| H      | instance, 0                                    | offset of its carried history, if it has one    |
| A      | instance, execution, task                      | attempt, lost, offset of the turn: one that is out |
| T      | due time, instance, execution, task, purpose   | nothing: a durable timer                        |
| D      | instance                                       | nothing: has facts that its code may see now    |
| L      | sequence                                       | a message from this partition to itself         |
| O      | target, sequence                               | a message that its target may not have          |
| B      | offset, instance                               | nothing: where its whole history begins         |
| E      | time, instance                                 | nothing: when it ended                          |
| K      | offset, time                                   | sends decided by target: a confirmed checkpoint |
"""

from perdure.schemas.frozen import dataclass
from perdure.schemas.messages import TimerPurpose

LAST_KEY = b"\xff"
"""Above every key."""
ANCHOR = b"P"
ACTIVITY = b"A"
TIMER = b"T"
DUE_TURN = b"D"
LOCAL = b"L"
OUTBOX = b"O"
BEGINNING = b"B"
ENDED = b"E"
CHECKPOINT = b"K"

_OFFSET_BIAS = 1 << 31  # targets are signed (DEAD_LETTER is -1); the bias keeps their order in unsigned bytes


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix` (which must not end in 0xFF)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def history_prefix(instance_id: str) -> bytes:
    return b"H" + instance_id.encode() + b"\0"


def history_key(instance_id: str, turn: int) -> bytes:
    return b"H%b\0%b" % (instance_id.encode(), turn.to_bytes(8, "big"))


def carried_key(instance_id: str) -> bytes:
    return history_key(instance_id, 0)


def activity_prefix(instance_id: str, execution_id: str) -> bytes:
    return b"A%b\0%b\0" % (instance_id.encode(), execution_id.encode())


def activity_key(instance_id: str, execution_id: str, task_id: int) -> bytes:
    return activity_prefix(instance_id, execution_id) + task_id.to_bytes(4, "big")


def parse_activity_key(key: bytes) -> tuple[str, str, int]:
    instance, execution = key[1:-5].split(b"\0")
    return instance.decode(), execution.decode(), int.from_bytes(key[-4:], "big")


@dataclass(frozen=True, slots=True)
class TimerKey:
    """One durable timer."""

    due_ms: int
    instance_id: str
    execution_id: str
    task_id: int
    purpose: TimerPurpose


def timer_key(timer: TimerKey) -> bytes:
    return b"T%b%b\0%b\0%b%c" % (
        timer.due_ms.to_bytes(8, "big"),
        timer.instance_id.encode(),
        timer.execution_id.encode(),
        timer.task_id.to_bytes(4, "big"),
        timer.purpose,
    )


def timers_until(due_ms: int) -> bytes:
    """The first timer key that is due after `due_ms`."""
    return b"T" + (due_ms + 1).to_bytes(8, "big")


def parse_timer_key(key: bytes) -> TimerKey:
    instance, execution = key[9:-6].split(b"\0", 1)
    task = int.from_bytes(key[-5:-1], "big")
    return TimerKey(int.from_bytes(key[1:9], "big"), instance.decode(), execution.decode(), task, TimerPurpose(key[-1]))


def due_turn_key(instance_id: str) -> bytes:
    return b"D" + instance_id.encode()


def local_key(sequence: int) -> bytes:
    return b"L" + sequence.to_bytes(8, "big")


def outbox_key(target: int, sequence: int) -> bytes:
    return b"O%b%b" % ((target + _OFFSET_BIAS).to_bytes(4, "big"), sequence.to_bytes(8, "big"))


def parse_outbox_key(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[1:5], "big") - _OFFSET_BIAS, int.from_bytes(key[5:], "big")


def beginning_key(offset: int, instance_id: str) -> bytes:
    return BEGINNING + offset.to_bytes(8, "big") + instance_id.encode()


def parse_beginning_key(key: bytes) -> tuple[int, str]:
    return int.from_bytes(key[1:9], "big"), key[9:].decode()


def beginnings_before(offset: int) -> bytes:
    """The first key of a history that begins at `offset` or after it."""
    return BEGINNING + offset.to_bytes(8, "big")


def ended_key(time_ms: int, instance_id: str) -> bytes:
    return ENDED + max(0, time_ms).to_bytes(8, "big") + instance_id.encode()


def parse_ended_key(key: bytes) -> tuple[int, str]:
    return int.from_bytes(key[1:9], "big"), key[9:].decode()


def ended_before(time_ms: int) -> bytes:
    """The first key of an instance that ended at `time_ms` or after it."""
    return ENDED + max(0, time_ms).to_bytes(8, "big")


def checkpoint_key(offset: int, time_ms: int) -> bytes:
    return CHECKPOINT + offset.to_bytes(8, "big") + max(0, time_ms).to_bytes(8, "big")


def parse_checkpoint_key(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big")
