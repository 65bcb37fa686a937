"""What the demo claims, and whether it is so."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.memory_index.searching import Answer, MemoryIndex

from .questions import QUESTIONS, Question
from .walk import expected_ids

_TOP = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One claim; `found` says what was seen, whether it holds or not."""

    claim: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question put to the index, and the place of its known passage, 0 if it is not among the first."""

    question: Question
    answer: Answer
    rank: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What the log tells, as `perdure audit --json` counts it."""

    started: int
    finished: int
    unfinished: int
    failed: int
    retried: int
    redispatched: int
    replayed: int
    spanning: int
    claims: int
    exit_code: int
    findings: tuple[str, ...]

    @classmethod
    def read(cls, report: Mapping[str, Any], exit_code: int) -> "Tally":
        counts = report["counts"]
        ended: Mapping[str, int] = counts["finished"]
        return cls(
            started=counts["started"],
            finished=sum(ended.values()),
            unfinished=counts["unfinished"],
            failed=sum(count for status, count in ended.items() if status.upper() != "COMPLETED"),
            retried=counts["activities_retried"],
            redispatched=counts["activities_redispatched"],
            replayed=counts["executions_replayed"],
            spanning=counts["spanning_instances"],
            claims=counts["claims"],
            exit_code=exit_code,
            findings=tuple(f"{f['partition']}:{f['offset']} {f['rule']}: {f['message']}" for f in report["findings"]),
        )


def ask_all(index: Path) -> tuple[Asked, ...]:
    """Put the five questions to the index."""
    memory = MemoryIndex(index)
    answers = [(question, memory.ask(question.text, _TOP)) for question in QUESTIONS]
    return tuple(Asked(question, answer, question.rank_in(answer.hits)) for question, answer in answers)


def check_log(tally: Tally) -> tuple[Check, ...]:
    """Hold the log's own count to what must be true of it."""
    return (
        Check(
            "everything that was started finished",
            tally.started == tally.finished > 0 and tally.unfinished == 0,
            f"{tally.started} started, {tally.finished} finished, {tally.unfinished} unfinished",
        ),
        Check("nothing failed", tally.failed == 0, f"{tally.failed} ended otherwise than completed"),
        Check(
            "the log is whole and its decisions are the code's",
            tally.exit_code == 0,
            f"audit exits {tally.exit_code}; findings: {'; '.join(tally.findings) or 'none'}",
        ),
    )


def check_kill(tally: Tally) -> tuple[Check, ...]:
    """Hold the log to a kill that met work in the middle."""
    return (
        Check(
            "instances lived through the kill",
            tally.spanning > 0,
            f"{tally.spanning} have turns on both sides of a later claim",
        ),
        Check(
            "activities were interrupted and run again",
            tally.redispatched > 0,
            f"{tally.redispatched} were dispatched again with a higher attempt",
        ),
    )


def check_index(index: Path, asked: tuple[Asked, ...]) -> tuple[Check, ...]:
    """Hold the index to the input and to the questions."""
    wanted, indexed = expected_ids(), MemoryIndex(index).document_ids()
    missed = [each.question.text for each in asked if not each.rank]
    return (
        Check(
            "the index holds the input, all of it and nothing else",
            wanted == indexed,
            f"{len(indexed)} documents, {len(wanted - indexed)} missing, {len(indexed - wanted)} too many",
        ),
        Check(
            f"each question finds its passage in the top {_TOP}",
            not missed,
            f"{len(asked) - len(missed)} of {len(asked)}" + "".join(f"; not {text!r}" for text in missed),
        ),
    )
