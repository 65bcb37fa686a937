"""A run told in order: who did what, what landed where and whether it counts, what went wrong."""

from collections.abc import Iterator

import orjson

from perdure.partitions.memory.faults import HISTORY, INBOX
from perdure.schemas.codec import WireError, decode_envelope
from perdure.schemas.records import RecordKind
from tests.checkers.evidence import Evidence
from tests.checkers.marks import inbound_of
from tests.checkers.reading import Entry, Reading, read

from .clock import START_MS
from .generate import Scenario
from .run import run_scenario

_EVENT_CHARS_MAX = 120


def tell(scenario: Scenario) -> str:
    """Run it once more, and tell what happens."""
    try:
        run, evidence, digest = run_scenario(scenario)
    except Exception as error:  # noqa: BLE001 (the finding itself)
        return "\n".join([*describe(scenario), f"and then the run breaks: {error!r}"])
    reading = read(evidence)
    lines = [*describe(scenario), f"trace {digest}", ""]
    happenings = list(_from_trace(run.world.trace, evidence, reading))
    happenings += [
        (
            attempt.time_ms - START_MS,
            f"{attempt.process} begins {attempt.name}, attempt {attempt.attempt} of {attempt.key}",
        )
        for attempt in evidence.attempts or ()
    ]
    happenings.sort(key=lambda each: each[0])
    lines += [f"{ms / 1000:9.3f}  {text}" for ms, text in happenings]
    return "\n".join(lines)


def describe(scenario: Scenario) -> Iterator[str]:
    """The scenario in words."""
    yield f"seed {scenario.seed}: {scenario.partitions} partitions, {scenario.machines} machines, {scenario.tuning}"
    for plan in scenario.plans:
        events = f", given {plan.given}, raised {plan.raised}" if plan.given or plan.raised else ""
        trouble = (
            f", somebody {plan.trouble.value} after {plan.trouble_ms} ms" if plan.trouble.value != "nothing" else ""
        )
        yield f"  {plan.instance_id} at {plan.start_ms} ms: {orjson.dumps(plan.job['rounds']).decode()}{events}{trouble}"
    for strike in scenario.strikes:
        yield f"  m{strike.machine}, call {strike.call}: {strike.kind.value} ({strike.amount})"
    for event in scenario.turmoil:
        yield f"  m{event.machine} at {event.at_ms} ms: {event.kind.value} ({event.amount})"
    if scenario.rates.of:
        yield f"  network: {', '.join(f'{kind.value} {rate:g}' for kind, rate in scenario.rates.of.items())}"
        yield f"  of which: {'all' if scenario.only is None else sorted(scenario.only)}"


def _from_trace(trace: list[tuple[object, ...]], evidence: Evidence, reading: Reading) -> Iterator[tuple[int, str]]:
    entries = {(entry.partition, entry.offset): entry for entry in reading.all()}
    records = {(partition, each.offset): each.value for partition, of in evidence.history.items() for each in of}
    inbox = {(partition, each.offset): each.value for partition, of in (evidence.inbox or {}).items() for each in of}
    for ms, who, what, *details in trace:
        assert isinstance(ms, int)
        if who != "hub":
            yield ms, f"{who} {what} {' '.join(map(str, details))}".rstrip()
            continue
        topic, partition, offset = details
        if topic == HISTORY:
            yield (
                ms,
                f"history {partition}:{offset} {_record(entries.get((partition, offset)), records[partition, offset])}",
            )
        elif topic == INBOX:
            yield ms, f"inbox {partition}:{offset} {_message(inbox[partition, offset])}"


def _record(entry: Entry | None, value: bytes | None) -> str:
    try:
        envelope = decode_envelope(value or b"")
    except WireError:
        return "is no record"
    kind = RecordKind(envelope.kind).name
    part = f" part {envelope.part + 1} of {envelope.parts}" if envelope.parts > 1 else ""
    head = f"{kind}{part} {envelope.instance_id}"
    if entry is None:
        verdict = "is VOID" if envelope.part + 1 == envelope.parts else "waits for its other parts"
        return f"{head} of epoch {envelope.epoch}, expected at {envelope.offset}: {verdict}"
    if entry.claim is not None:
        return f"CLAIM by {entry.claim.owner}"
    if entry.turn is None:
        return f"{head} {entry.checkpoint or ''}"
    turn = entry.turn
    parts = [f"epoch {entry.epoch}"]
    if turn.consumed or turn.locals:
        parts.append(f"takes {[*turn.consumed, *(f'own {each}' for each in turn.locals)]}")
    if not turn.decided:
        parts.append("undecided")
    parts += [f"{event!s:.{_EVENT_CHARS_MAX}}" for event in turn.events]
    parts += [f"sends {send.target} number {send.sequence}" for send in turn.sends]
    return f"{head}: {'; '.join(parts)}"


def _message(value: bytes | None) -> str:
    inbound = inbound_of(value)
    if inbound is None:
        return f"junk {value!r:.60}"
    origin = f" number {inbound.origin.sequence} from {inbound.origin.partition}" if inbound.origin else ""
    return f"{type(inbound.body).__name__} for {inbound.instance_id or 'the partition'}{origin} {inbound.request_id}"
