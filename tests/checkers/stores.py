"""C10, C12 and C19: a store is the fold of the log up to where it says that it stands: every table, every header, every index entry.

Rules of this file: tables are made from the folded lives alone, by the layout that `partitions/keys.py` and `index.py` state; a store
that names a place which the log does not have is what recovery would throw away, and is none of this file's business unless it is live.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from perdure.partitions.keys import TimerKey, timer_key
from perdure.partitions.state import decode_anchor
from perdure.schemas.events import NEVER, NULL, Failure, Status
from perdure.schemas.messages import TimerPurpose
from perdure.schemas.records import LEVEL

from .evidence import Evidence, StoreImage, Violation
from .folding import Folding, Life
from .marks import Marks
from .reading import Entry

Tables = dict[bytes, set[bytes] | dict[bytes, bytes]]
INPUT_INLINE_BYTES_MAX = 512


class Images:
    """The stores of one partition, each compared when the fold is where it stands."""

    def __init__(self, evidence: Evidence, partition: int, entries: Sequence[Entry]) -> None:
        self.found: list[Violation] = []
        self._at: defaultdict[int, list[StoreImage]] = defaultdict(list)
        digests = {entry.offset: entry.digest for entry in entries}
        # A claim that lands late and is nobody's any more changes nothing; an owner with nothing to write need not know of it.
        last = max((entry.offset for entry in entries if entry.claim is None), default=-1)
        for image in evidence.stores:
            if image.partition != partition:
                continue
            place = _place_of(image, evidence, digests)
            if place is None:
                if image.live:
                    self._report("C10", image, "it is live, and stands nowhere in the log")
                continue
            if image.live and evidence.settled and place < last:
                self._report("C10", image, f"it is live and stands at {place}, the log ends at {last}")
            self._at[place].append(image)

    def _report(self, checker: str, image: StoreImage, text: str) -> None:
        self.found.append(Violation(checker, f"store {image.partition} of {image.machine}: {text}"))

    def take(self, entry: Entry, foldings: Mapping[str, Folding], marks: Marks, turns: "Turns") -> None:
        """The fold is at `entry`."""
        for image in self._at.get(entry.offset, ()):
            lives = {name: each.life for name, each in foldings.items() if each.life is not None}
            expected = tables_of(lives, marks, turns)
            self._compare(image, expected)
            self._compare_anchor(image, marks)
            self._compare_headers(image, lives)

    def _compare(self, image: StoreImage, expected: Mapping[bytes, bytes | None]) -> None:
        """Keys of every table but the headers; a value of None is not compared."""
        known = {key: value for key, value in image.content.items() if key[:1] in TABLES}
        for key, value in expected.items():
            if key not in known:
                self._report("C10", image, f"{_say(key)} is missing")
            elif value is not None and known[key] != value:
                self._report("C10", image, f"{_say(key)} is {known[key]!r:.80}, and should be {value!r:.80}")
        for key in known.keys() - expected.keys():
            self._report("C10", image, f"{_say(key)} should not be there")

    def _compare_anchor(self, image: StoreImage, marks: Marks) -> None:
        found = decode_anchor(image.content[b"P"])
        if found is None:
            self._report("C10", image, "the partition's state cannot be read")
            return
        state = found[1]
        # Who begins at a checkpoint is not told that its owner's predecessor stopped in order, and takes it for dead.
        released = state.released or (marks.released and not marks.release_told)
        told = (state.inbox_mark, sorted(state.consumed_above), state.sources, state.time_ms, released)
        known = (marks.mark, marks.above, marks.sources, marks.time_ms, marks.released)
        if told != known:
            self._report("C10", image, f"the partition's state is {told}, the log says {known}")
        tries = marks.tries
        said = (state.deaths.owner, state.address, state.deaths.tried(), state.level, state.base)
        if said != (tries.owner, tries.address, tries.stated(), LEVEL, marks.base):
            stated = (tries.owner, tries.address, tries.stated(), LEVEL, marks.base)
            self._report(
                "C10", image, f"the partition's owner, tries, level and base are {said}, the log says {stated}"
            )
        decided = {target: len(sent) for target, sent in marks.sent.items() if sent}
        if decided != state.decided or {key: value for key, value in state.acked.items() if value} != marks.acked:
            text = f"{state.decided} sends, {state.acked} acknowledged; the log says {decided}, {marks.acked}"
            self._report("C10", image, text)

    def _compare_headers(self, image: StoreImage, lives: Mapping[str, Life]) -> None:
        """C12: what get and list show is what the last event says; C19: and nothing is shown of what was purged."""
        content = image.content
        there = {key[1:].decode(): value for key, value in content.items() if key[:1] == b"h"}
        index: set[bytes] = set()
        for name, life in lives.items():
            value = there.pop(name, None)
            if value is None:
                self._report("C12", image, f"{name} is {life.shown.name}, and not shown")
                continue
            try:
                shown, held = _shown(value)
            except (ValueError, LookupError, TypeError) as error:
                self._report("C10", image, f"the header of {name} cannot be read: {error!r}")
                continue
            if shown != header_of(life):
                self._report("C12", image, f"{name} is shown as {shown}, and is {header_of(life)}")
            long = len(life.started.input) > INPUT_INLINE_BYTES_MAX
            beside = content.get(b"p" + name.encode())
            if beside != (life.started.input if long else None):
                self._report("C12", image, f"the input beside the header of {name} is {beside!r:.60}")
            index |= index_of(life, held=held)
        for name in there:
            self._report("C19", image, f"{name} is shown, and is not there any more")
        found = {key for key in content if key[:1] == b"x"}
        for key in sorted(index - found)[:3]:
            self._report("C12", image, f"index entry {key!r} is missing")
        for key in sorted(found - index)[:3]:
            self._report("C12", image, f"index entry {key!r} should not be there")
        loose = [key for key in content if key[:1] == b"p" and key[1:].decode() not in lives]
        if loose:
            self._report("C19", image, f"inputs of instances that are not there: {loose[:3]}")


TABLES = (b"A", b"T", b"D", b"L", b"O", b"H", b"B", b"E")


class Turns:
    """The records of each instance's newest execution, as the store keeps them: by number, each with its offset and bytes."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[int, bytes]]] = {}

    def take(self, entry: Entry, life: Life | None) -> None:
        if life is None:
            self.of.pop(entry.instance_id, None)
            return
        known = self.of.setdefault(entry.instance_id, [])
        if life.turns == 1:
            known.clear()
        known.append((entry.first, entry.body))


def tables_of(lives: Mapping[str, Life], marks: Marks, turns: Turns) -> dict[bytes, bytes | None]:
    """Everything that the tables hold but the headers."""
    out: dict[bytes, bytes | None] = {}
    for name, life in lives.items():
        out.update(_rows_of(life, len(turns.of.get(name, ()))))
    for sequence, message in marks.waiting.items():
        out[b"L" + sequence.to_bytes(8, "big")] = message
    for target, sent in marks.sent.items():
        if target != marks.partition:
            for send, _ in sent[marks.acked.get(target, 0) :]:
                out[b"O%b%b" % ((target + (1 << 31)).to_bytes(4, "big"), send.sequence.to_bytes(8, "big"))] = (
                    send.message
                )
    return out


def _rows_of(life: Life, turns: int) -> Iterator[tuple[bytes, bytes | None]]:
    """What the tables hold of one instance."""
    encoded, execution = life.instance_id.encode(), life.started.execution_id.encode()
    for task, activity in life.activities.items():
        if activity.retry_at_ms == NEVER:
            key = b"A%b\0%b\0%b" % (encoded, execution, task.to_bytes(4, "big"))
            out = (
                activity.attempt.to_bytes(4, "big") + bytes([activity.lost]) + activity.dispatched_at.to_bytes(8, "big")
            )
            yield key, out
    for timer in timers_of(life):
        yield timer_key(timer), b""
    if waits_for_code(life):
        yield b"D" + encoded, b""
    yield b"B" + life.begins_at.to_bytes(8, "big") + encoded, b""
    if life.over:
        yield b"E" + life.updated_ms.to_bytes(8, "big") + encoded, b""
    if life.carried_at >= 0:
        yield b"H%b\0%b" % (encoded, bytes(8)), life.carried_at.to_bytes(8, "big")
    for number in range(1, turns + 1):
        yield b"H%b\0%b" % (encoded, number.to_bytes(8, "big")), None


def timers_of(life: Life) -> Iterator[TimerKey]:
    """Every time that is due for an instance, whatever for."""

    def timer(due_ms: int, task: int, purpose: TimerPurpose) -> TimerKey:
        return TimerKey(due_ms, life.instance_id, life.started.execution_id, task, purpose)

    start_at = life.started.start_at_ms
    if life.status == Status.PENDING and start_at > life.started.created_at_ms:
        yield timer(start_at, 0, TimerPurpose.START)
    for task, due_ms in life.timers.items():
        yield timer(due_ms, task, TimerPurpose.TIMER)
    for task, activity in life.activities.items():
        if activity.retry_at_ms != NEVER:
            yield timer(activity.retry_at_ms, task, TimerPurpose.RETRY)
        if activity.deadline_ms != NEVER:
            yield timer(activity.deadline_ms, task, TimerPurpose.SCHEDULE_TO_CLOSE)
    for task, child in life.children.items():
        if child.retry_at_ms != NEVER:
            yield timer(child.retry_at_ms, task, TimerPurpose.CHILD_RETRY)


def waits_for_code(life: Life) -> bool:
    """Whether there is something that the code has not seen and may see now."""
    due = life.started.start_at_ms <= max(life.updated_ms, life.started.created_at_ms)
    return bool(life.unseen) and not life.suspended and not life.over and due


def header_of(life: Life) -> tuple[Any, ...]:
    """What a reader is shown of an instance."""
    started = life.started
    return (
        started.name,
        life.shown.name,
        started.created_at_ms,
        life.updated_ms,
        started.execution_id,
        started.generation,
        started.input if len(started.input) <= INPUT_INLINE_BYTES_MAX else None,
        life.result,
        _failure(life.failure),
        life.custom_status,
        dict(started.tags),
        started.parent.instance_id if started.parent else "",
        life.events,
        life.turns,
    )


def _failure(failure: Failure | None) -> Any:
    if failure is None:
        return None
    return [failure.type, failure.message, failure.stack, _failure(failure.cause), failure.retriable]


def _shown(value: bytes) -> tuple[tuple[Any, ...], bool]:
    """A header as the store has it, in the same order; and whether it is held."""
    fields = orjson.loads(value)

    def payload(text: str | None) -> bytes:
        return NULL if text is None else text.encode()

    def failure(parts: Any) -> Any:
        return None if parts is None else [*parts[:3], failure(parts[3]), parts[4]]

    _, updated_ms, events, turns, name, status, created_ms, execution_id, generation, input_, *rest = fields
    result, failed, custom_status, tags, parent, held_kind, _ = rest
    shown = (
        name,
        Status(status).name,
        created_ms,
        updated_ms,
        execution_id,
        generation,
        None if input_ is None else input_.encode(),
        payload(result),
        failure(failed),
        payload(custom_status),
        tags or {},
        parent,
        events,
        turns,
    )
    return shown, bool(held_kind)


def index_of(life: Life, *, held: bool) -> set[bytes]:
    """The entries under which an instance is found."""
    started = life.started
    place = ((1 << 64) - 1 - started.created_at_ms).to_bytes(8, "big") + life.instance_id.encode()
    selectors = [b"xc", b"xs" + bytes([int(life.shown)]), b"xn" + _sized(started.name)]
    selectors += [b"xt" + _sized(key) + _sized(value) for key, value in started.tags.items()]
    return {selector + place for selector in (*selectors, *([b"xh"] if held else []))}


def _sized(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "big") + text.encode()


def _place_of(image: StoreImage, evidence: Evidence, digests: Mapping[int, bytes]) -> int | None:
    """Where it stands in the log; None if it is nothing that recovery would trust."""
    value = image.content.get(b"P")
    found = decode_anchor(value) if value is not None else None
    if found is None:
        return None
    anchor = found[0]
    same = (anchor.topic_id, anchor.partition) == (evidence.topic_id, image.partition)
    return anchor.offset if same and digests.get(anchor.offset) == anchor.digest else None


def _say(key: bytes) -> str:
    return f"{_NAMES[key[:1]]} {key[1:]!r}"


_NAMES = {
    b"A": "activity",
    b"T": "timer",
    b"D": "due turn",
    b"L": "send to itself",
    b"O": "send",
    b"H": "turn",
    b"B": "beginning",
    b"E": "end",
}
