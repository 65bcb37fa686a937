"""C8, C9 and C21: what happened outside followed from records that count, and as often as they say."""

from collections import Counter
from collections.abc import Iterator

import orjson

from perdure.partitions.ports import LogRecord
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_reply
from perdure.schemas.messages import ChildResult, RaiseEvent, TaskResult

from .evidence import Attempt, Evidence, Violation
from .marks import Marks, inbound_of, letters_of
from .reading import Entry, Reading

Dispatch = tuple[str, int]
"""Idempotency key and attempt."""
_MADE_BY_THE_ENGINE = ("ActivityTimedOut", "ActivityCrashed")


Recorded = dict[Dispatch, tuple[Entry, bytes]]
Results = dict[Dispatch, tuple[Entry, bytes | None, str]]


def dispatches_of(reading: Reading) -> tuple[Recorded, Results]:
    """Every dispatch that was recorded with its input, and every end that was recorded of what ran, with its result if it has one."""
    recorded: Recorded = {}
    results: Results = {}
    execution: dict[str, str] = {}
    inputs: dict[str, bytes] = {}
    for entry in reading.all():
        if entry.turn is None:
            continue
        name = entry.instance_id
        for event in entry.turn.events:
            key = f"{name}/{execution.get(name, '')}/{getattr(event, 'task_id', '')}"
            match event:
                case ev.ExecutionStarted(execution_id):
                    execution[name] = execution_id
                case ev.TaskScheduled(input=data):
                    inputs[key] = data
                    recorded[key, 1] = (entry, data)
                case ev.TaskRescheduled(attempt=attempt):
                    recorded[key, attempt] = (entry, inputs.get(key, b""))
                case ev.TaskCompleted(attempt=attempt, result=result):
                    results[key, attempt] = (entry, result, "")
                case ev.TaskFailed(attempt=attempt, failure=failure) if failure.type not in _MADE_BY_THE_ENGINE:
                    results[key, attempt] = (entry, None, failure.type)
                case _:
                    pass
    return recorded, results


def check_attempts(evidence: Evidence, reading: Reading) -> Iterator[Violation]:
    """C8: no attempt before its record had landed; C9: none that no record names, none twice, no result of what never ran."""
    if evidence.attempts is None:
        return
    recorded, results = dispatches_of(reading)
    begun: Counter[Dispatch] = Counter()
    known: dict[Dispatch, Attempt] = {}
    for attempt in evidence.attempts:
        dispatch = (attempt.key, attempt.attempt)
        begun[dispatch] += 1
        known[dispatch] = attempt
        found = recorded.get(dispatch)
        what = f"attempt {attempt.attempt} of {attempt.key} ({attempt.name}) by {attempt.process}"
        if found is None:
            yield Violation("C8", f"{what} ran, and no record that counts asks for it")
        elif attempt.time_ms < found[0].time_ms:
            yield Violation("C8", f"{what} ran before {found[0].where} had landed")
        elif attempt.input != found[1]:
            yield Violation("C9", f"{what} ran with another input than was recorded")
    for (key, attempt_number), times in begun.items():
        if times > 1:
            yield Violation("C9", f"attempt {attempt_number} of {key} ran {times} times")
    yield from _check_results(results, known)


def _check_results(results: Results, known: dict[Dispatch, Attempt]) -> Iterator[Violation]:
    """What an attempt came to is what it did outside, and no other's."""
    for dispatch, (entry, result, failure) in results.items():
        what = f"attempt {dispatch[1]} of {dispatch[0]}"
        attempt = known.get(dispatch)
        if attempt is None:
            yield Violation("C9", f"{entry.where} has a result of {what}, which never ran")
        elif (attempt.result, attempt.failure) not in ((None, ""), (result, failure)):
            told = attempt.failure or attempt.result
            yield Violation("C9", f"{entry.where} has {failure or result!r} of {what}, which came to {told!r}")


def check_replies(evidence: Evidence, reading: Reading) -> Iterator[Violation]:
    """C8: an answer tells of records that count and had landed when it was given."""
    landed = {(entry.partition, entry.offset): entry for entry in reading.all()}
    kept = {(entry.partition, at) for entry in reading.all() for at in range(entry.first, entry.offset)}
    for record in evidence.replies or ():
        reply = decode_reply(record.value or b"")
        place = (reply.partition, reply.offset)
        entry = landed.get(place)
        if entry is None and place not in kept:
            yield Violation("C8", f"{reply.request_id} is answered as of {place}, where no record counts")
        elif entry is not None and record.timestamp_ms < entry.time_ms:
            yield Violation("C8", f"{reply.request_id} is answered as of {place} before that had landed")


def check_dead_letters(evidence: Evidence, marks: dict[int, Marks]) -> Iterator[Violation]:
    """C21: what could not be read or routed is in the dead letters with its bytes, and nothing else is."""
    if evidence.dead_letters is None or evidence.inbox is None:
        return
    decided: dict[tuple[int, int], Entry] = {}
    for send, entry in letters_of(marks):
        head = orjson.loads(send.message.partition(b"\n")[0])
        decided[int(head["partition"]), int(head["offset"])] = entry
    came = {_place_of(record): record for record in evidence.dead_letters}
    values = {(partition, each.offset): each.value for partition, records in evidence.inbox.items() for each in records}
    for place, record in came.items():
        if place not in decided:
            yield Violation("C8", f"inbox {place} is in the dead letters, and no record that counts says so")
        elif place in values and (values[place] or b"") != (record.value or b""):
            yield Violation("C21", f"the dead letter of inbox {place} does not have its bytes")
    if not evidence.settled:
        return
    for place, entry in decided.items():
        if place not in came:
            yield Violation("C21", f"{entry.where} sends inbox {place} to the dead letters, and it is not there")
    yield from _check_unreadable(evidence, decided)


def _check_unreadable(evidence: Evidence, decided: dict[tuple[int, int], Entry]) -> Iterator[Violation]:
    for partition, records in (evidence.inbox or {}).items():
        for record in records:
            inbound = inbound_of(record.value)
            forged = (
                inbound is not None and inbound.origin is None and isinstance(inbound.body, TaskResult | ChildResult)
            )
            junk = inbound is None and not _is_foreign(record.value)
            if (junk or forged) and (partition, record.offset) not in decided:
                what = "is forged" if forged else "cannot be read"
                yield Violation("C21", f"inbox {partition}:{record.offset} {what}, and is no dead letter")


def _place_of(record: LogRecord) -> tuple[int, int]:
    headers = dict(record.headers)
    return int(headers["perdure-partition"]), int(headers["perdure-offset"])


def _is_foreign(value: bytes | None) -> bool:
    """Whether it is JSON that at least looks like a message."""
    try:
        fields = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return False
    verbs = ("start", "raise", "cancel", "terminate", "suspend", "resume", "purge")
    named = [verb for verb in verbs if isinstance(fields, dict) and isinstance(fields.get(verb), str) and fields[verb]]
    return len(named) == 1 and ("id" in fields or named[0] != "raise")


def check_unroutable(evidence: Evidence, reading: Reading, marks: dict[int, Marks]) -> Iterator[Violation]:
    """C21: an event for an instance that is not there is answered so and kept among the dead letters (not when it was a repeat)."""
    letters = set()
    for send, _ in letters_of(marks):
        head = orjson.loads(send.message.partition(b"\n")[0])
        letters.add((int(head["partition"]), int(head["offset"])))
    raised = {
        event.request_id
        for entry in reading.all()
        if entry.turn is not None
        for event in entry.turn.events
        if isinstance(event, ev.EventRaised)
    }
    for partition, records in (evidence.inbox or {}).items():
        for record in records:
            inbound = inbound_of(record.value)
            if inbound is None or not isinstance(inbound.body, RaiseEvent) or inbound.origin is not None:
                continue
            entry = marks[partition].consumed.get(record.offset)
            if entry is None or inbound.request_id in raised or (partition, record.offset) in letters:
                continue
            known = any(call.request_id == inbound.request_id and call.code >= 0 for call in evidence.calls)
            if not known and evidence.settled:
                yield Violation("C21", f"event {inbound.request_id} at inbox {partition}:{record.offset} left no trace")
