"""A log whose digests all fit, written by an owner that breaks one rule: the audit names the rule, the place and the breach."""

from dataclasses import dataclass, field, replace

import pytest

from perdure.audit import Finding, audit_records
from perdure.partitions.ports import LogRecord
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.codec import (
    decode_envelope,
    encode_checkpoint,
    encode_claim,
    encode_envelope,
    encode_inbound,
    encode_level,
    encode_turn,
)
from perdure.schemas.events import NEVER, Failure, RescheduleReason, Status
from perdure.schemas.records import (
    Checkpoint,
    Claim,
    Cursor,
    LevelRaised,
    RecordKind,
    Send,
    SourceMark,
    TargetState,
    Tried,
    TurnBody,
)
from tests.partitions.histories import Writer

OWNER, ADDRESS = "worker-1", "127.0.0.1:1"
FAILURE = Failure("E", "m")
RETRY = ev.RetryOptions(100, 3)
PARENT = ev.Parent("p", "0-1", 1, 1)


@dataclass
class Forge:
    """One partition's history, record by record."""

    values: list[bytes | None] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    partition_count: int = 1

    def __post_init__(self) -> None:
        self.claim()

    def claim(self) -> None:
        self._writer = Writer.claim(self.values, OWNER, self.partition_count)
        self.keys.append(OWNER)

    def turn(self, *events: ev.HistoryEvent, at: int = 1, name: str = "i", **body: object) -> None:
        kind = body.pop("kind", RecordKind.TURN if name else RecordKind.PARTITION)
        assert isinstance(kind, int)
        self.record(kind, encode_turn(TurnBody(at, events=events, **body)), name)  # type: ignore[arg-type]

    def record(self, kind: int, body: bytes, name: str = "") -> None:
        self.values += self._writer.write(body, kind=kind, instance_id=name)
        self.keys.append(name)

    def start(self, *decisions: ev.HistoryEvent, at: int = 1, name: str = "i", **body: object) -> None:
        """A turn that starts the instance and decides."""
        self.turn(self.started(), *decisions, at=at, name=name, **body)

    def started(self, generation: int = 1) -> ev.ExecutionStarted:
        return ev.ExecutionStarted(f"{len(self.values):x}-{generation}", "ship", generation=generation)

    def findings(self) -> list[Finding]:
        records = [
            LogRecord(offset, key.encode(), value, 0)
            for offset, (key, value) in enumerate(zip(self.keys, self.values, strict=True))
        ]
        return list(audit_records({0: records}).findings)


def only(forge: Forge) -> tuple[int, str, str]:
    [finding] = forge.findings()
    return finding.offset, finding.rule, finding.message


COMPLETED = ev.ExecutionCompleted(Status.COMPLETED)
TASK = ev.TaskScheduled(1, "charge")
RETRIED = ev.TaskScheduled(1, "charge", retry=RETRY)
CHILD = ev.SubOrchestrationInstanceCreated(1, "pack", "c")


def test_an_honest_history_has_no_findings() -> None:
    forge = Forge()
    forge.start(RETRIED, ev.TimerCreated(2, 50), at=10)
    forge.turn(ev.TaskFailed(1, 1, FAILURE, 120), at=20, decided=False)
    forge.turn(ev.TimerFired(2, 50), at=50)
    forge.turn(ev.TaskRescheduled(1, 2, RescheduleReason.RETRY), at=120, decided=False)
    forge.claim()
    forge.turn(ev.TaskRescheduled(1, 3, RescheduleReason.RECOVERY), at=130, decided=False)
    forge.turn(ev.TaskCompleted(1, 3), COMPLETED, at=140, consumed=(0,), inbox_mark=1)
    forge.record(RecordKind.CHECKPOINT, encode_checkpoint(Checkpoint(140, 1, owner=OWNER, address=ADDRESS)))
    forge.record(RecordKind.LEVEL, encode_level(LevelRaised(2, 140)))
    forge.turn(at=140, kind=RecordKind.FORGOTTEN, inbox_mark=1)
    forge.turn(at=150, name="", inbox_mark=1, released=True)

    assert [] == forge.findings()


def test_an_event_above_the_format_level_is_found_and_one_after_it_was_raised_is_not() -> None:
    unknown = ev.UnknownEvent(4711, b"newer")
    forge = Forge()
    forge.start(TASK)
    forge.turn(unknown, decided=False)
    expected = "an event of kind 4711 is of format level 2, and the partition's is 1"

    assert (2, "R12", expected) == only(forge)
    raised = Forge()
    raised.record(RecordKind.LEVEL, encode_level(LevelRaised(2, 1)))
    raised.start(TASK)
    raised.turn(unknown, decided=False)
    assert [] == raised.findings()


# One instance, turn after turn; the last turn breaks a rule.
TURNS: list[tuple[str, list[dict[str, object]]]] = [
    ("a turn of an instance that was never started", [{"e": [ev.TimerFired(1, 1)]}]),
    (
        "EventRaised after the execution had ended as COMPLETED",
        [{"s": [TASK, COMPLETED]}, {"e": [ev.EventRaised("x")], "d": False}],
    ),
    (
        "ExecutionTerminated after the execution had ended as COMPLETED",
        [{"s": [COMPLETED]}, {"e": [ev.ExecutionTerminated()], "d": False}],
    ),
    ("ExecutionCompleted after the execution had ended as COMPLETED", [{"s": [COMPLETED, COMPLETED]}]),
    ("an execution was started while 1-1 was RUNNING", [{"s": [TASK]}, {"n": [], "d": False}]),
    (
        "the execution continued as new, and no next one was started",
        [{"s": [ev.ExecutionCompleted(Status.CONTINUED_AS_NEW)]}],
    ),
    ("an execution cannot complete as RUNNING", [{"s": [ev.ExecutionCompleted(Status.RUNNING)]}]),
    ("completed as FAILED without a failure", [{"s": [ev.ExecutionCompleted(Status.FAILED)]}]),
    ("completed as COMPLETED with a failure", [{"s": [ev.ExecutionCompleted(Status.COMPLETED, failure=FAILURE)]}]),
    ("TaskScheduled is a decision, but the code did not decide in this turn", [{"s": [TASK], "d": False}]),
    ("ExecutionResumed is a fact, but stands after a decision", [{"s": [TASK, ev.ExecutionResumed()]}]),
    ("TimerCreated has task id 1, but 1 was given already", [{"s": [TASK, ev.TimerCreated(1, 5)]}]),
    (
        "a result of task 1, attempt 1, which was not pending",
        [{"s": [ev.TimerCreated(1, 5)]}, {"e": [ev.TaskCompleted(1, 1)]}],
    ),
    ("a result of task 1, attempt 2, which was not pending", [{"s": [TASK]}, {"e": [ev.TaskCompleted(1, 2)]}]),
    (
        "a result of task 1, attempt 1, which was not pending",
        [{"s": [TASK]}, {"e": [ev.TaskCompleted(1, 1)]}, {"e": [ev.TaskCompleted(1, 1)]}],
    ),
    ("a failure of task 1, attempt 2, which was not pending", [{"s": [TASK]}, {"e": [ev.TaskFailed(1, 2, FAILURE)]}]),
    (
        "a failure of task 1, attempt 1, which waits for its retry",
        [
            {"s": [RETRIED]},
            {"e": [ev.TaskFailed(1, 1, FAILURE, 101)], "d": False},
            {"e": [ev.TaskFailed(1, 1, FAILURE, 101)], "d": False},
        ],
    ),
    (
        "task 1 is to be tried again at 7, its policy says 101",
        [{"s": [RETRIED]}, {"e": [ev.TaskFailed(1, 1, FAILURE, 7)], "d": False}],
    ),
    (
        "task 1 is to be tried again at -1, its policy says 101",
        [{"s": [RETRIED]}, {"e": [ev.TaskFailed(1, 1, FAILURE)]}],
    ),
    (
        "task 1 is to be tried again at 7, its policy says -1",
        [{"s": [TASK]}, {"e": [ev.TaskFailed(1, 1, FAILURE, 7)], "d": False}],
    ),
    (
        "task 2 was dispatched again and was not pending",
        [{"s": [TASK]}, {"e": [ev.TaskRescheduled(2, 2, RescheduleReason.RELEASE)], "d": False}],
    ),
    (
        "attempt 3 of task 1 after attempt 1",
        [{"s": [TASK]}, {"e": [ev.TaskRescheduled(1, 3, RescheduleReason.RELEASE)], "d": False}],
    ),
    (
        "task 1 was tried again and was not to be",
        [{"s": [TASK]}, {"e": [ev.TaskRescheduled(1, 2, RescheduleReason.RETRY)], "d": False}],
    ),
    (
        "task 1 was tried again at 100, 1 ms early",
        [
            {"s": [RETRIED]},
            {"e": [ev.TaskFailed(1, 1, FAILURE, 101)], "d": False},
            {"e": [ev.TaskRescheduled(1, 2, RescheduleReason.RETRY)], "d": False, "at": 100},
        ],
    ),
    (
        "task 1 was dispatched again while it waited for its retry",
        [
            {"s": [RETRIED]},
            {"e": [ev.TaskFailed(1, 1, FAILURE, 101)], "d": False},
            {"e": [ev.TaskRescheduled(1, 2, RescheduleReason.RELEASE)], "d": False},
        ],
    ),
    (
        "task 1 was dispatched again as lost, but no claim came since its dispatch",
        [{"s": [TASK]}, {"e": [ev.TaskRescheduled(1, 2, RescheduleReason.RECOVERY)], "d": False}],
    ),
    ("task 1 was canceled and was not pending", [{"s": [ev.TimerCreated(1, 5), ev.TaskCanceled(1)]}]),
    (
        "a result of sub-orchestration 1, attempt 2, which was not pending",
        [{"s": [CHILD]}, {"e": [ev.SubOrchestrationInstanceCompleted(1, 2)]}],
    ),
    (
        "a result of sub-orchestration 1, attempt 2, which was not pending",
        [{"s": [CHILD]}, {"e": [ev.SubOrchestrationInstanceFailed(1, 2, FAILURE)]}],
    ),
    (
        "sub-orchestration 1 is to be tried again at 9, its policy says -1",
        [{"s": [CHILD]}, {"e": [ev.SubOrchestrationInstanceFailed(1, 1, FAILURE, 9)], "d": False}],
    ),
    (
        "attempt 3 of sub-orchestration 1 was not the next one",
        [{"s": [CHILD]}, {"e": [ev.SubOrchestrationInstanceRecreated(1, 3)], "d": False}],
    ),
    (
        "sub-orchestration 1 was started again and was not to be",
        [{"s": [CHILD]}, {"e": [ev.SubOrchestrationInstanceRecreated(1, 2)], "d": False}],
    ),
    ("timer 1 fired at 4, 1 ms early", [{"s": [ev.TimerCreated(1, 5)]}, {"e": [ev.TimerFired(1, 5)], "at": 4}]),
    (
        "timer 1 fired and was not pending for 6",
        [{"s": [ev.TimerCreated(1, 5)]}, {"e": [ev.TimerFired(1, 6)], "at": 9}],
    ),
    (
        "timer 1 fired and was not pending for 5",
        [{"s": [ev.TimerCreated(1, 5), ev.TimerCanceled(1)]}, {"e": [ev.TimerFired(1, 5)], "at": 9}],
    ),
    ("timer 2 was canceled and was not pending", [{"s": [ev.TimerCreated(1, 5), ev.TimerCanceled(2)]}]),
    (
        "the code decided where it could see nothing new, was suspended, had ended or was not due (RUNNING)",
        [{"s": [TASK]}, {"e": []}],
    ),
    (
        "the code decided where it could see nothing new, was suspended, had ended or was not due (PENDING)",
        [{"s": [ev.ExecutionSuspended()], "d": False}, {"e": []}],
    ),
]


@pytest.mark.parametrize(
    ("message", "turns"), TURNS, ids=[f"{number}-{message[:50]}" for number, (message, _) in enumerate(TURNS)]
)
def test_a_turn_that_breaks_an_instance_is_reported(message: str, turns: list[dict[str, object]]) -> None:
    forge = Forge()
    for turn in turns:
        started = "s" in turn or "n" in turn
        events = turn.get("s", turn.get("n", turn.get("e")))
        assert isinstance(events, list)
        at = turn.get("at", 1)
        assert isinstance(at, int)
        generation = 2 if "n" in turn else 1
        forge.turn(*([forge.started(generation)] if started else []), *events, at=at, decided=turn.get("d", True))

    assert (len(turns), "instance", f"i: {message}") == only(forge)


def test_code_may_give_a_task_up_before_it_comes_to_its_result() -> None:
    """Both facts reach the code in one turn, one after the other."""
    forge = Forge()
    forge.turn(forge.started(1), TASK, ev.TimerCreated(2, 5), ev.TimerCreated(3, 6))
    forge.turn(ev.TimerFired(2, 5), ev.TaskCompleted(1, 1), at=5, decided=False)
    forge.turn(ev.TimerFired(3, 6), ev.TaskCanceled(1), ev.TimerCanceled(3), at=6)

    assert [] == forge.findings()


def test_an_execution_id_says_where_it_was_started() -> None:
    forge = Forge()
    forge.turn(ev.ExecutionStarted("9-1", "ship"), TASK)

    assert (1, "instance", "i: execution id 9-1, expected 1-1") == only(forge)


def test_generations_count() -> None:
    forge = Forge()
    forge.turn(ev.ExecutionStarted("1-2", "ship", generation=2), TASK)

    assert (1, "instance", "i: execution 1-2 is generation 2, expected 1") == only(forge)


def test_what_continue_as_new_keeps_is_kept() -> None:
    forge = Forge()
    forge.start(ev.ExecutionCompleted(Status.CONTINUED_AS_NEW), replace(forge.started(2), parent=PARENT))

    assert (1, "instance", "i: what continue-as-new keeps is not what it was") == only(forge)


def test_an_instance_that_does_not_exist_cannot_be_forgotten() -> None:
    forge = Forge()
    forge.turn(kind=RecordKind.FORGOTTEN)

    assert (1, "instance", "i: an instance is forgotten that does not exist") == only(forge)


def test_a_forgotten_instance_begins_anew() -> None:
    forge = Forge()
    forge.start(COMPLETED)
    forge.turn(kind=RecordKind.FORGOTTEN)
    forge.start(COMPLETED)

    assert [] == forge.findings()


def sent(target: int, sequence: int, message: ms.Inbound) -> Send:
    return Send(target, sequence, encode_inbound(message))


LOCAL = sent(0, 1, ms.Inbound("i", ms.Cancel()))

BODIES: list[tuple[str, str, list[dict[str, object]]]] = [
    ("R11", "partition time went back from 5 to 4", [{"at": 5}, {"at": 4}]),
    ("R8", "inbox offset 3 was consumed twice", [{"consumed": (3, 3)}]),
    ("R8", "inbox offset 3 was consumed twice", [{"consumed": (3,)}, {"consumed": (3,)}]),
    (
        "R8",
        "inbox offset 3 was consumed twice",
        [{"consumed": (3,), "inbox_mark": 4}, {"consumed": (3,), "inbox_mark": 4}],
    ),
    ("R8", "the inbox mark went back from 4 to 3", [{"inbox_mark": 4}, {"inbox_mark": 3}]),
    ("R7", "send 2 to target -1, expected 1", [{"sends": (Send(-1, 2, b"?"),)}]),
    ("R7", "send 1 to target -1, expected 2", [{"sends": (Send(-1, 1, b"?"),)}, {"sends": (Send(-1, 1, b"?"),)}]),
    (
        "R7",
        "the cursor of target -1 moved from 0 to 1, with 0 sends decided",
        [{"sends": (Send(-1, 1, b"?"),), "cursors": (Cursor(-1, 1),)}],
    ),
    (
        "R7",
        "the cursor of target -1 moved from 1 to 1, with 1 sends decided",
        [{"sends": (Send(-1, 1, b"?"),)}, {"cursors": (Cursor(-1, 1),)}, {"cursors": (Cursor(-1, 1),)}],
    ),
    ("R7", "send 1 to the own partition was taken, but was not waiting", [{"locals": (1,)}]),
    (
        "R7",
        "send 1 to the own partition was taken, but was not waiting",
        [{"sends": (LOCAL,)}, {"locals": (1,)}, {"locals": (1,)}],
    ),
    (
        "R7",
        "send 1 to target 0 is no message: inbox message: expected first byte 0xd1, found 0x3f",
        [{"sends": (Send(0, 1, b"?"),)}],
    ),
    (
        "R7",
        "send 1 to target 0 names another origin: Origin(topic_id='t', partition=0, sequence=1)",
        [{"sends": (sent(0, 1, ms.Inbound("i", ms.Cancel(), origin=ms.Origin("t", 0, 1))),)}],
    ),
    (
        "R9",
        "send 1 for 'i' goes to partition 1, which is 0's",
        [{"sends": (sent(1, 1, ms.Inbound("i", ms.Cancel(), origin=ms.Origin("t", 0, 1))),)}],
    ),
    (
        "R7",
        "source t/1 went from 2 to 2",
        [
            {"sources": (SourceMark("t", 1, 2),), "inbox_mark": 2},
            {"sources": (SourceMark("t", 1, 2),), "inbox_mark": 3},
        ],
    ),
    (
        "R7",
        "sources moved by 3, the inbox mark by 2",
        [{"sources": (SourceMark("t", 1, 2), SourceMark("u", 0, 1)), "inbox_mark": 2}],
    ),
    ("R5", "a record of an epoch whose owner had stopped in order", [{"released": True}, {}]),
]


@pytest.mark.parametrize(
    ("rule", "message", "bodies"), BODIES, ids=[f"{number}-{row[1][:50]}" for number, row in enumerate(BODIES)]
)
def test_a_record_that_breaks_the_partition_is_reported(
    rule: str, message: str, bodies: list[dict[str, object]]
) -> None:
    forge = Forge()
    for body in bodies:
        forge.turn(name="", **body)  # type: ignore[arg-type]

    assert (len(bodies), rule, message) == only(forge)


CHECKPOINTS = [
    (
        Checkpoint(5, 3, (7,), (SourceMark("t", 1, 2),), (TargetState(-1, 1, 1),)),
        "inbox_mark is 3, the records before it say 4",
    ),
    (
        Checkpoint(5, 4, (), (SourceMark("t", 1, 2),), (TargetState(-1, 1, 1),)),
        "consumed_above is (), the records before it say (7,)",
    ),
    (Checkpoint(5, 4, (7,), (), (TargetState(-1, 1, 1),)), "sources is (), the records before it say"),
    (
        Checkpoint(5, 4, (7,), (SourceMark("t", 1, 2),), (TargetState(-1, 1, 0),)),
        "targets is (TargetState(target=-1, decided=1, acked=0),)",
    ),
    (
        Checkpoint(5, 4, (7,), (SourceMark("t", 1, 2),), (TargetState(-1, 1, 1),), level=2),
        "level is 2, the records before it say 1",
    ),
    (
        Checkpoint(5, 4, (7,), (SourceMark("t", 1, 2),), (TargetState(-1, 1, 1),), owner="another", address=ADDRESS),
        "owner is another, the records before it say",
    ),
    (
        Checkpoint(5, 4, (7,), (SourceMark("t", 1, 2),), (TargetState(-1, 1, 1),), tried=(Tried("i", (), ("w",)),)),
        "tried is (Tried(instance_id='i', among=(), alone=('w',)),), the records before it say ()",
    ),
]


@pytest.mark.parametrize(("checkpoint", "message"), CHECKPOINTS)
def test_a_checkpoint_states_what_the_records_before_it_say(checkpoint: Checkpoint, message: str) -> None:
    forge = Forge()
    forge.turn(name="", at=4, sends=(Send(-1, 1, b"?"),))
    forge.turn(name="", at=5, consumed=(7,), inbox_mark=4, cursors=(Cursor(-1, 1),), sources=(SourceMark("t", 1, 2),))
    forge.record(
        RecordKind.CHECKPOINT,
        encode_checkpoint(checkpoint if checkpoint.owner else replace(checkpoint, owner=OWNER, address=ADDRESS)),
    )

    offset, rule, found = only(forge)
    assert (3, "R15") == (offset, rule)
    assert message in found


def test_a_checkpoint_has_a_time_of_its_own_that_does_not_go_back() -> None:
    forge = Forge()
    forge.turn(name="", at=5)
    forge.record(RecordKind.CHECKPOINT, encode_checkpoint(Checkpoint(9, 0, owner=OWNER, address=ADDRESS)))
    forge.turn(name="", at=9)
    assert [] == forge.findings()
    forge.record(RecordKind.CHECKPOINT, encode_checkpoint(Checkpoint(8, 0, owner=OWNER, address=ADDRESS)))

    assert (4, "R11", "partition time went back from 9 to 8") == only(forge)


@pytest.mark.parametrize(
    ("kind", "body", "name", "rule", "message"),
    [
        (RecordKind.LEVEL, encode_level(LevelRaised(1, 0)), "", "R12", "the format level was raised from 1 to 1"),
        (RecordKind.TURNS, b"", "", "R12", "a record of kind 8, which this build does not know"),
        (RecordKind.TURN, b"?", "i", "R12", "TurnBody: expected an Avro record"),
        (
            RecordKind.PARTITION,
            encode_turn(TurnBody(1, events=(TASK,))),
            "",
            "R8",
            "a partition record changes instance ''",
        ),
        (RecordKind.PARTITION, encode_turn(TurnBody(1)), "i", "R8", "a partition record changes instance 'i'"),
    ],
)
def test_a_record_that_says_what_it_may_not_is_reported(
    kind: int, body: bytes, name: str, rule: str, message: str
) -> None:
    forge = Forge()
    forge.record(kind, body, name)

    offset, found_rule, found = only(forge)
    assert (1, rule) == (offset, found_rule)
    assert found.startswith(message)


def test_claims_agree_on_the_partitions_of_the_hub() -> None:
    forge = Forge()
    forge.claim()
    other = decode_envelope(forge.values[1] or b"")
    forge.values[1] = encode_envelope(replace(other, body=encode_claim(Claim(OWNER, 0, "", 2))))

    assert (1, "R9", "the claim is for 2 partitions by murmur2, expected 1 by murmur2") == only(forge)


def test_instances_stand_on_their_own_partition() -> None:
    forge = Forge(partition_count=64)
    forge.start(COMPLETED)

    assert (1, "R9", "instance 'i' belongs to partition 2") == only(forge)


def test_unreadable_values_are_reported_and_what_follows_them_once() -> None:
    forge = Forge()
    forge.start(TASK)
    forge.turn(ev.TaskCompleted(1, 1), at=2)
    forge.turn(ev.EventRaised("e"), at=3)
    forge.values[2] = b"{}"

    assert (2, "R3", "void, and no owner left it so: it is no history record") == only(forge)


def test_deadlines_end_a_task_that_waits_for_its_retry() -> None:
    task = replace(RETRIED, schedule_to_close_ms=150)
    out = Failure("ActivityTimedOut", "m", retriable=False)
    forge = Forge()
    forge.start(task)
    forge.turn(ev.TaskFailed(1, 1, FAILURE, 101), at=1, decided=False)
    forge.turn(ev.TaskFailed(1, 1, out, NEVER), at=151)

    assert [] == forge.findings()
