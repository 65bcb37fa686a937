"""C11, C15 and C22: what each partition has consumed, sent and had acknowledged, counted from its records a second time."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import LogRecord
from perdure.schemas.codec import WireError, decode_inbound
from perdure.schemas.messages import Inbound, Origin, Query
from perdure.schemas.records import DEAD_LETTER, LEVEL, Checkpoint, Cursor, Send, TurnBody

from .evidence import Evidence, Violation
from .reading import Entry
from .tries import Tries

Source = tuple[str, int]


@dataclass(slots=True)
class Marks:
    """One partition apart from its instances. `consumed` says which record took an inbox offset, `sent` what was sent to each
    target, in order, and by which record; `waiting` are sends to itself that no record has taken; `release_told`: who begins to read at
    the last checkpoint knows of `released`, too."""

    partition: int
    mark: int = 0
    consumed: dict[int, Entry] = field(default_factory=dict)
    sources: dict[Source, int] = field(default_factory=dict)
    sent: dict[int, list[tuple[Send, Entry]]] = field(default_factory=dict)
    acked: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, bytes] = field(default_factory=dict)
    time_ms: int = 0
    released: bool = True
    release_told: bool = True
    turns: int = 0
    base: int = -1
    tries: Tries = field(default_factory=Tries)
    found: list[Violation] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        """The next record of the partition."""
        self.tries.take(entry)
        named = entry.claim or (entry.checkpoint if entry.first == entry.offset else None)
        self.base = max(self.base, named.base if named is not None else self.base)
        if entry.checkpoint is not None:
            self._check_checkpoint(entry, entry.checkpoint)
            self.release_told = False
        if entry.turn is not None:
            self._take_turn(entry, entry.turn)

    def _report(self, checker: str, entry: Entry, text: str) -> None:
        self.found.append(Violation(checker, f"{entry.where}: {text}"))

    def _take_turn(self, entry: Entry, turn: TurnBody) -> None:
        self.time_ms, self.released, self.turns = turn.time_ms, turn.released, self.turns + 1
        self.release_told = True
        for offset in turn.consumed:
            before = self.consumed.get(offset)
            if before is not None:
                self._report("C15", entry, f"inbox offset {offset} was taken before, by {before.where}")
            self.consumed[offset] = entry
        if turn.inbox_mark < self.mark:
            self._report("C15", entry, f"the inbox mark goes back from {self.mark} to {turn.inbox_mark}")
        self.mark = max(self.mark, turn.inbox_mark)
        for source in turn.sources:
            key = (source.topic_id, source.partition)
            if source.sequence <= self.sources.get(key, 0):
                self._report("C11", entry, f"source {key} goes from {self.sources.get(key, 0)} to {source.sequence}")
            self.sources[key] = source.sequence
        for sequence in turn.locals:
            if self.waiting.pop(sequence, None) is None:
                self._report("C11", entry, f"send {sequence} to itself is taken, and was not waiting")
        for send in turn.sends:
            self._take_send(entry, send)
        for cursor in turn.cursors:
            self._take_cursor(entry, cursor)

    def _take_send(self, entry: Entry, send: Send) -> None:
        sent = self.sent.setdefault(send.target, [])
        if send.sequence != len(sent) + 1:
            self._report("C11", entry, f"send {send.sequence} to {send.target} follows {len(sent)}")
        sent.append((send, entry))
        if send.target == self.partition:
            self.waiting[send.sequence] = send.message

    def _take_cursor(self, entry: Entry, cursor: Cursor) -> None:
        before, decided = self.acked.get(cursor.target, 0), len(self.sent.get(cursor.target, ()))
        if not before < cursor.acked <= decided:
            text = f"of {decided} sends to {cursor.target} {cursor.acked} are acknowledged, after {before}"
            self._report("C11", entry, text)
        self.acked[cursor.target] = cursor.acked

    @property
    def above(self) -> list[int]:
        """What is consumed above the mark."""
        return sorted(offset for offset in self.consumed if offset >= self.mark)

    def _check_checkpoint(self, entry: Entry, stated: Checkpoint) -> None:
        """C22: it states the records before it, all of them (R15)."""
        if stated.time_ms < self.time_ms:
            self._report("C20", entry, f"partition time goes back from {self.time_ms} to {stated.time_ms}")
        self.time_ms = max(self.time_ms, stated.time_ms)
        expected = {
            "inbox_mark": self.mark,
            "consumed_above": tuple(self.above),
            "sources": tuple((topic, source, number) for (topic, source), number in sorted(self.sources.items())),
            "targets": tuple(
                (target, len(sent), self.acked.get(target, 0)) for target, sent in sorted(self.sent.items()) if sent
            ),
            "level": LEVEL,
            "owner": self.tries.owner,
            "address": self.tries.address,
            "tried": self.tries.stated(),
        }
        found = {
            "inbox_mark": stated.inbox_mark,
            "consumed_above": stated.consumed_above,
            "sources": tuple((each.topic_id, each.partition, each.sequence) for each in stated.sources),
            "targets": tuple((each.target, each.decided, each.acked) for each in stated.targets),
            "level": stated.level,
            "owner": stated.owner,
            "address": stated.address,
            "tried": stated.tried,
        }
        for name, value in expected.items():
            if found[name] != value:
                self._report("C22", entry, f"the checkpoint says {name} {found[name]}, the records before it {value}")


def check_inbox(evidence: Evidence, marks: dict[int, Marks]) -> Iterator[Violation]:
    """C15: every inbox record is taken once; C11: what came from another partition is what that one sent, each once, in order."""
    for partition, records in (evidence.inbox or {}).items():
        taken = marks[partition]
        came: dict[Source, int] = {}
        stated: dict[Source, int] = {}
        for record in records:
            inbound = inbound_of(record.value)
            yield from _check_taken(record, inbound, taken, settled=evidence.settled)
            if inbound is not None and inbound.origin is not None:
                yield from _check_order(record, inbound.origin, taken, came)
                yield from _check_message(record, inbound.origin, partition, marks)
            if record.offset < taken.mark:
                stated = dict(came)
        if evidence.settled:
            yield from _check_all_came(partition, (came, stated), marks, evidence.topic_id)
    for partition, of in marks.items():
        if evidence.settled and of.waiting:
            yield Violation("C11", f"partition {partition} never took its own sends {sorted(of.waiting)}")


def _check_taken(record: LogRecord, inbound: Inbound | None, marks: Marks, *, settled: bool) -> Iterator[Violation]:
    entry, place = marks.consumed.get(record.offset), f"inbox {marks.partition}:{record.offset}"
    if entry is not None and entry.time_ms < record.timestamp_ms:
        yield Violation("C8", f"{place} was taken by {entry.where} before it was there")
    is_query = inbound is not None and isinstance(inbound.body, Query)
    if entry is None and not is_query and (settled or record.offset < marks.mark):
        yield Violation("C15", f"{place} was never taken: {inbound or record.value}")


def _check_order(record: LogRecord, origin: Origin, marks: Marks, came: dict[Source, int]) -> Iterator[Violation]:
    """An instance takes the next message of a source only; what is not the next is consumed without a turn."""
    source = (origin.topic_id, origin.partition)
    before, entry = came.get(source, 0), marks.consumed.get(record.offset)
    if origin.sequence == before + 1:
        came[source] = origin.sequence
    elif entry is not None and entry.instance_id:
        text = f"number {origin.sequence} from {origin.partition} was taken, and {before} came before"
        yield Violation("C11", f"{entry.where} {entry.instance_id}: {text}")


def _check_message(record: LogRecord, origin: Origin, target: int, marks: dict[int, Marks]) -> Iterator[Violation]:
    """C8: what is on its way between partitions was decided by a record that counts, and had landed before."""
    sent = marks[origin.partition].sent.get(target, [])
    what = f"message {origin.sequence} from {origin.partition} to {target}"
    if origin.sequence > len(sent):
        yield Violation("C8", f"{what} came, and no record that counts decided it")
        return
    send, entry = sent[origin.sequence - 1]
    if send.message != record.value:
        yield Violation("C8", f"{what} is not what {entry.where} decided")
    if record.timestamp_ms < entry.time_ms:
        yield Violation("C8", f"{what} came before {entry.where} had landed")


def _check_all_came(
    target: int, inbox: tuple[dict[Source, int], dict[Source, int]], marks: dict[int, Marks], topic_id: str
) -> Iterator[Violation]:
    """`inbox` is what came from each source in all, and below the mark: sequences are stated as of the mark (R8)."""
    came, stated = inbox
    for source, of in marks.items():
        decided, key = len(of.sent.get(target, ())), (topic_id, source)
        if source == target:
            continue
        if came.get(key, 0) != decided:
            yield Violation("C11", f"{source} sent {target} {decided} messages, and {came.get(key, 0)} came in order")
        elif marks[target].sources.get(key, 0) != stated.get(key, 0):
            says, right = marks[target].sources.get(key, 0), stated.get(key, 0)
            yield Violation("C11", f"{target} took {right} messages of {source} up to its mark, and states {says}")


def inbound_of(value: bytes | None) -> Inbound | None:
    """The message in an inbox record; None if it is a stranger's."""
    try:
        return decode_inbound(value or b"")
    except WireError:
        return None


def letters_of(marks: dict[int, Marks]) -> Iterator[tuple[Send, Entry]]:
    """All dead letters that were decided."""
    for of in marks.values():
        yield from of.sent.get(DEAD_LETTER, ())


def home_of(instance_id: str, evidence: Evidence) -> int:
    return partition_of(instance_id, evidence.partition_count)
