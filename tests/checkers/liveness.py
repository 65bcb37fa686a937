"""C14, C17, C18 and C24: nothing is stuck, everything finite has ended, nobody cried, and what kills is let be."""

from collections.abc import Container, Iterable, Iterator, Mapping

from .evidence import Evidence, Violation
from .folding import Life
from .stores import timers_of, waits_for_code

DEATHS_MAX = 12
"""Two until its owners grow careful, one among others, three alone; and some that other deaths have hidden."""


def reasons_to_live(life: Life, awaited: Iterable[str]) -> list[str]:
    """What an instance that has not ended waits for. None at all: it is stuck, whatever its status says."""
    reasons = [f"activity {task}, attempt {each.attempt}" for task, each in life.activities.items()]
    reasons += [f"sub-orchestration {each.created.instance_id}" for each in life.children.values()]
    reasons += [f"a time at {timer.due_ms}" for timer in timers_of(life)]
    if waits_for_code(life):
        reasons.append("its code to be run")
    if life.suspended:
        reasons.append("resume")
    return [*reasons, *(f"event {name!r}" for name in awaited)]


def check_stuck(evidence: Evidence, lives: Mapping[str, Life]) -> Iterator[Violation]:
    """C14: an instance that has not ended waits for something; a sub-orchestration that is waited for is there, or has ended and
    said so."""
    for name, life in lives.items():
        if life.over:
            continue
        awaited = evidence.awaited(name)
        if not reasons_to_live(life, awaited) and evidence.awaits_known:
            yield Violation("C14", f"{name} is {life.shown.name} and waits for nothing: {_dump(life)}")
        if not evidence.settled:
            continue
        for child in life.children.values():
            alive = lives.get(child.created.instance_id)
            if alive is None or alive.over:
                state = "gone" if alive is None else alive.status.name
                text = f"{name} waits for {child.created.instance_id}, attempt {child.attempt}, which is {state}"
                yield Violation("C14", f"{text}: {_dump(life)}")


def check_ended(evidence: Evidence, lives: Mapping[str, Life], begun_again: Container[str]) -> Iterator[Violation]:
    """C17: once all faults are over, what is finite ends, and who asks is answered. Not so what was `begun_again` by a repeated start, after it was forgotten:
    its events went to the one before."""
    if not evidence.settled:
        return
    for asked in evidence.unanswered:
        yield Violation("C17", f"{asked}, and is not answered")
    for name, life in lives.items():
        if not life.over and name not in evidence.endless and name not in begun_again:
            waits = reasons_to_live(life, evidence.awaited(name))
            yield Violation(
                "C17", f"{name} has not ended, it is {life.shown.name} and waits for {waits}: {_dump(life)}"
            )


def check_errors(evidence: Evidence) -> Iterator[Violation]:
    """C18: an error that no fault explains fails the run, also when all ends well."""
    for error in evidence.errors:
        yield Violation("C18", error)


def check_deaths(evidence: Evidence) -> Iterator[Violation]:
    """C24: what kills its process is found, and not tried again and again (R13)."""
    for killer, deaths in evidence.deaths.items():
        if deaths > DEATHS_MAX:
            yield Violation("C24", f"{killer} has killed {deaths} processes")


def _dump(life: Life) -> str:
    """The evidence."""
    last = life.started
    return (
        f"execution {last.execution_id} of {last.name}, generation {last.generation}, {life.turns} turns, {life.events} events, "
        f"updated at {life.updated_ms}, {len(life.unseen)} facts unseen, activities {sorted(life.activities)}, "
        f"children {sorted(life.children)}, timers {life.timers}"
    )
