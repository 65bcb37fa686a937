"""C1, C2 and C6: what clients were told of their starts and events is what the history has."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.schemas import events as ev
from perdure.schemas.codec import decode_reply
from perdure.schemas.messages import ReplyCode
from perdure.schemas.records import RecordKind, TurnBody

from .evidence import Call, Evidence, Outcome, Violation
from .folding import REQUESTS_REMEMBERED
from .marks import Marks, home_of, inbound_of
from .reading import Entry, Reading

Request = tuple[str, str]
"""Instance and request id."""


@dataclass(slots=True)
class Facts:
    """Where each request became a fact, and how often each instance was forgotten. Who is `crowded` took more than it remembers."""

    starts: defaultdict[Request, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    events: defaultdict[Request, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    forgotten: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    children: defaultdict[tuple[str, str, int, int], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, tuple[str, Entry]] = field(default_factory=dict)
    lived: set[str] = field(default_factory=set)
    execution: dict[str, str] = field(default_factory=dict)
    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)

    def begun_again(self) -> set[str]:
        """Instances that were forgotten, and that a repeated start then began anew."""
        return {name for (name, _), entries in self.starts.items() if len(entries) > 1}


def facts_of(reading: Reading) -> Facts:
    facts = Facts()
    for entry in reading.all():
        if entry.kind == RecordKind.FORGOTTEN:
            facts.forgotten[entry.instance_id] += 1
            facts.known.pop(entry.instance_id, None)
        if entry.turn is not None:
            _take_turn(facts, entry, entry.turn)
    return facts


def _take_turn(facts: Facts, entry: Entry, turn: TurnBody) -> None:
    name, continued = entry.instance_id, False
    for event in turn.events:
        match event:
            case ev.ExecutionCompleted(status):
                continued = status == ev.Status.CONTINUED_AS_NEW
            case ev.ExecutionStarted():
                facts.execution[name] = event.execution_id
                facts.lived.add(name)
                if not continued:
                    _take_start(facts, entry, event)
                facts.known[name] = event.requests
            case ev.EventRaised(request_id=request) if request:
                facts.events[name, request].append(entry)
            case ev.EventSent(task_id, target):
                facts.sent[f"/{name}/{facts.execution[name]}/{task_id}"] = (target, entry)
            case _:
                pass
        request = getattr(event, "request_id", "")
        if request:
            facts.known[name] = (*facts.known.get(name, ()), request)[-REQUESTS_REMEMBERED:]
        if len(facts.known.get(name, ())) >= REQUESTS_REMEMBERED:
            facts.crowded.add(name)


def _take_start(facts: Facts, entry: Entry, event: ev.ExecutionStarted) -> None:
    """A start restates the requests that its instance took before; where it has an id of its own, that is the last one."""
    if event.requests and event.requests != facts.known.get(entry.instance_id, ()):
        facts.starts[entry.instance_id, event.requests[-1]].append(entry)
    if event.parent is not None:
        parent = event.parent
        key = (parent.instance_id, parent.execution_id, parent.task_id, parent.attempt)
        facts.children[key].append(entry)


def _by_request(evidence: Evidence, kind: str) -> dict[Request, list[Call]]:
    calls: defaultdict[Request, list[Call]] = defaultdict(list)
    for call in evidence.calls:
        if call.kind == kind:
            calls[call.instance_id, call.request_id].append(call)
    return calls


def _is_refused(calls: Sequence[Call]) -> bool:
    """Whether a refusal of this request is the last word on it. Of a request that was sent more than once each copy is answered for
    itself, and what refused the first one may be over when the second one is read: see `check_refusals`."""
    return any(call.outcome is Outcome.FAIL for call in calls) and sum(call.sent for call in calls) <= 1


def check_starts(evidence: Evidence, facts: Facts) -> Iterator[Violation]:
    """C1: a start that was acknowledged is there; C2: it is there once, an unknown one at most once, a refused one never."""
    for request, calls in _by_request(evidence, "Start").items():
        name, request_id = request
        times = len(facts.starts.get(request, ()))
        spare = facts.forgotten[name]
        created = [call for call in calls if call.outcome is Outcome.OK and call.answer.get("created")]
        refused = _is_refused(calls)
        if created and not times:
            yield Violation("C1", f"start {request_id} of {name} was acknowledged, and is not in the log")
        if times > 1 + spare:
            yield Violation("C2", f"start {request_id} of {name} was done {times} times")
        if refused and not created and times > spare:
            yield Violation("C2", f"start {request_id} of {name} was refused, and done")
    known = {(call.instance_id, call.request_id) for call in evidence.calls}
    for request, entries in facts.starts.items():
        if request not in known and len(entries) > 1 + facts.forgotten[request[0]]:
            yield Violation("C2", f"start {request[1]} of {request[0]} was done {len(entries)} times")
    for key, entries in facts.children.items():
        if len(entries) > 1 + facts.forgotten[entries[0].instance_id]:
            yield Violation(
                "C2", f"attempt {key[3]} of task {key[2]} of {key[0]} started its child {len(entries)} times"
            )


def check_events(evidence: Evidence, facts: Facts) -> Iterator[Violation]:
    """C6: an event that was acknowledged is there once, an unknown one at most once, a refused one never; one sender's events
    are there in the order in which they were sent."""
    for request, calls in _by_request(evidence, "RaiseEvent").items():
        name, request_id = request
        times, spare = len(facts.events.get(request, ())), facts.forgotten[name]
        done = any(call.outcome is Outcome.OK for call in calls)
        refused = _is_refused(calls)
        if done and not times:
            yield Violation("C6", f"event {request_id} of {name} was acknowledged, and is not in the log")
        if times > 1 + spare:
            yield Violation("C6", f"event {request_id} of {name} came {times} times")
        if refused and not done and times > spare:
            yield Violation("C6", f"event {request_id} of {name} was refused, and came")
    yield from _check_sent(evidence, facts)
    yield from _check_order(evidence, facts)


def check_refusals(evidence: Evidence, facts: Facts, marks: Mapping[int, Marks]) -> Iterator[Violation]:
    """C2, C6: each copy of a request is answered for itself, so of those that were read before it was done some may be refused; but
    who reads another one after it was done knows it, and does not refuse what is there."""
    refused: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for record in evidence.replies or ():
        reply = decode_reply(record.value or b"")
        if reply.code in _REFUSALS:  # a reply may come twice, and then says the same place twice
            refused[reply.request_id].add((reply.partition, reply.offset))
    read: defaultdict[Request, list[Entry]] = defaultdict(list)
    for partition, records in (evidence.inbox or {}).items():
        for record in records:
            inbound, entry = inbound_of(record.value), marks[partition].consumed.get(record.offset)
            if inbound is not None and entry is not None and home_of(inbound.instance_id, evidence) == partition:
                read[inbound.instance_id, inbound.request_id].append(entry)
    for checker, done in (("C2", facts.starts), ("C6", facts.events)):
        for request, entries in done.items():
            if facts.forgotten[request[0]] or request[0] in facts.crowded:
                continue
            may_be = sum(entry.offset <= entries[0].offset for entry in read[request]) - 1
            if len(refused[request[1]]) > max(may_be, 0):
                text = f"was done by {entries[0].where}, and refused as of {sorted(refused[request[1]])}"
                yield Violation(checker, f"request {request[1]} of {request[0]} {text}")


_REFUSALS = (ReplyCode.ALREADY_EXISTS, ReplyCode.NOT_FOUND, ReplyCode.ALREADY_FINISHED, ReplyCode.REFUSED)


def _check_sent(evidence: Evidence, facts: Facts) -> Iterator[Violation]:
    """Events that one instance raised on another."""
    for request, (target, entry) in facts.sent.items():
        times = len(facts.events.get((target, request), ()))
        if times > 1:
            yield Violation("C6", f"event {request} for {target}, decided by {entry.where}, came {times} times")
    for (name, request), entries in facts.events.items():
        sent = facts.sent.get(request)
        known = any(call.request_id == request for call in evidence.calls)
        if evidence.calls and sent is None and not known:
            yield Violation("C6", f"{entries[0].where}: event {request} of {name} came, and nobody sent it")


def _check_order(evidence: Evidence, facts: Facts) -> Iterator[Violation]:
    """A client sends the next event when the one before is acknowledged."""
    latest: dict[tuple[str, str], tuple[int, Call]] = {}
    for call in evidence.calls:
        if call.kind != "RaiseEvent" or call.outcome is not Outcome.OK or call.code != ReplyCode.OK:
            continue
        entries = facts.events.get((call.instance_id, call.request_id))
        if not entries:
            continue
        place, key = entries[0].offset, (call.client, call.instance_id)
        before = latest.get(key)
        if before is not None and before[0] > place and before[1].request_id != call.request_id:
            text = f"{call.client} sent {before[1].request_id} before {call.request_id}, and the log has them the other way round"
            yield Violation("C6", text)
        latest[key] = (place, call)
