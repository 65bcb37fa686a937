"""The judge: every checker over one hub's evidence. `CHECKERS` numbers them as ARCHITECTURE.md does."""

from collections.abc import Iterator
from dataclasses import dataclass

from perdure.schemas.records import RecordKind

from .bases import Bases, check_trims
from .effects import check_attempts, check_dead_letters, check_replies, check_unroutable
from .evidence import Evidence, Violation
from .folding import Life
from .liveness import check_deaths, check_ended, check_errors, check_stuck
from .lives import Lives
from .marks import Marks, check_inbox
from .reading import Reading, read
from .reads import Reads, check_barriers, reads_by_partition
from .requests import Facts, check_events, check_refusals, check_starts, facts_of
from .stores import Images, Turns

CHECKERS = {
    "C1": "no start that was acknowledged is lost",
    "C2": "a start is done once; an unknown one at most once; what was refused was not done before",
    "C3": "an execution begins once and ends once, and nothing comes after its end",
    "C4": "a task has one result, of the attempt that is out",
    "C5": "a time never comes early by partition time, and comes once",
    "C6": "no external event is lost or doubled, and one sender's are in order",
    "C7": "R3 a second time: the same records count, epochs never go back",
    "C8": "every effect follows a record that counts and had landed",
    "C9": "attempts are as recorded, with one idempotency key and one input",
    "C10": "a store is the fold of the log up to where it stands",
    "C11": "messages between partitions come exactly once and in order",
    "C12": "headers and index say what the last event says",
    "C13": "a read shows confirmed state as of the offset that it names",
    "C14": "no instance waits for nothing",
    "C15": "every inbox record is taken exactly once",
    "C16": "every program comes to its right answer",
    "C17": "once faults are over, everything finite ends, and whoever asks is answered",
    "C18": "no error and no assertion that no fault explains",
    "C19": "what was purged leaves nothing behind",
    "C20": "partition time never goes back, and never far ahead of the log's clock",
    "C21": "what cannot be read or routed is in the dead letters, and nothing else is",
    "C22": "a checkpoint states the records before it",
    "C23": "a base, and what was carried forward to it, tell everything that is still wanted; no more than that is let go of",
    "C24": "what kills its process is found, and let be after a few tries",
}


@dataclass(slots=True)
class Case:
    """What the checkers made of the evidence, for those who look further: the model's judge, the figures."""

    reading: Reading
    lives: Lives
    marks: dict[int, Marks]
    facts: Facts
    violations: list[Violation]

    @property
    def alive(self) -> dict[str, Life]:
        """Every instance that is there in the end, ended or not."""
        return {name: each.life for name, each in self.lives.foldings.items() if each.life is not None}


def judge(evidence: Evidence) -> Case:
    """Check everything that there is evidence of."""
    reading = read(evidence)
    lives, marks = Lives(), {}
    violations = list(reading.problems)
    reads = reads_by_partition(evidence.replies or (), reading.entries)
    for partition, entries in reading.entries.items():
        marks[partition] = of = Marks(partition)
        images, bases = Images(evidence, partition, entries), Bases(evidence.history[partition])
        _fold(reading, partition, (lives, of, images, reads[partition], bases))
        violations += [*of.found, *images.found, *reads[partition].found, *bases.found]
    violations += [*lives.found, *lives.check_children()]
    case = Case(reading, lives, marks, facts_of(reading), violations)
    violations += _check_rest(evidence, case)
    return case


def _fold(reading: Reading, partition: int, at: tuple[Lives, Marks, Images, Reads, Bases]) -> None:
    """Record by record, so that whatever speaks of a place in the log is compared at that place."""
    lives, marks, images, reads, bases = at
    turns = Turns()
    entries = reading.entries[partition]
    mine = {}
    for number, entry in enumerate(entries):
        lives.take(entry)
        marks.take(entry)
        name = entry.instance_id
        if entry.kind in (RecordKind.TURN, RecordKind.FORGOTTEN):
            folding = lives.foldings.get(name)
            turns.take(entry, folding.life if folding is not None else None)
            if folding is None:
                mine.pop(name, None)
            else:
                mine[name] = folding
        following = entries[number + 1].offset if number + 1 < len(entries) else 1 << 62
        bases.take(entry, following, (mine, marks, turns))
        images.take(entry, mine, marks, turns)
        reads.take(entry, following, mine)


def _check_rest(evidence: Evidence, case: Case) -> Iterator[Violation]:
    reading, facts = case.reading, case.facts
    yield from check_starts(evidence, facts)
    yield from check_events(evidence, facts)
    yield from check_refusals(evidence, facts, case.marks)
    yield from check_barriers(evidence, reading)
    yield from check_inbox(evidence, case.marks)
    yield from check_trims(evidence, reading)
    yield from check_attempts(evidence, reading)
    yield from check_replies(evidence, reading)
    yield from check_dead_letters(evidence, case.marks)
    yield from check_unroutable(evidence, reading, case.marks)
    yield from check_stuck(evidence, case.alive)
    yield from check_ended(evidence, case.alive, facts.begun_again())
    yield from check_errors(evidence)
    yield from check_deaths(evidence)
