"""From a failing scenario to a smaller one that fails in the same way: fewer instances, faults, processes, steps.

Rules of this file: a smaller scenario counts only if one of the same checkers finds something; every try is a whole run.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from .faults import Rates
from .generate import Scenario, Tuning, with_landmarks
from .plans import Job, Plan
from .run import NOT_READY
from .verdict import Verdict, try_scenario

T = TypeVar("T")


@dataclass(slots=True)
class Shrinking:
    """The smallest that was found, and how many tries are left."""

    best: Verdict
    checkers: frozenset[str]
    tries_left: int
    tried: set[int]

    def attempt(self, scenario: Scenario) -> bool:
        """Whether `scenario` fails in the same way; if it does, go on from it."""
        key = hash(repr(scenario))
        if self.tries_left <= 0 or key in self.tried:
            return False
        self.tried.add(key)
        self.tries_left -= 1
        verdict = try_scenario(scenario)
        if any(NOT_READY in each.message for each in verdict.violations):
            return False
        if verdict.checkers & self.checkers:
            self.best = verdict
            return True
        return False


def shrink(verdict: Verdict, tries: int = 400, checkers: frozenset[str] | None = None) -> Verdict:
    """A smaller scenario that one of `checkers` finds fault with; of the same ones, if none are given."""
    state = Shrinking(verdict, checkers or verdict.checkers, tries, set())
    while state.tries_left > 0:
        before = state.best.scenario
        for step in _STEPS:
            step(state)
        if state.best.scenario == before:
            break
    return state.best


def _reduce(items: Sequence[T], accept: Callable[[Sequence[T]], bool]) -> None:
    """Leave out as much of a list as possible: halves, quarters, and at last one by one (Zeller's ddmin)."""
    kept = list(items)
    size = len(kept)
    while size >= 1 and kept:
        at = 0
        while at < len(kept):
            candidate = kept[:at] + kept[at + size :]
            if accept(candidate):
                kept = candidate
            else:
                at += size
        size = size // 2 if size > 1 else 0


def _network(state: Shrinking) -> None:
    scenario = state.best.scenario
    if scenario.rates.of and not state.attempt(replace(scenario, rates=Rates())):
        for kind in list(scenario.rates.of):
            rates = {each: rate for each, rate in state.best.scenario.rates.of.items() if each != kind}
            state.attempt(replace(state.best.scenario, rates=Rates(rates)))
    if not state.best.network_faults:
        return

    def accept(only: Sequence[int]) -> bool:
        return state.attempt(replace(state.best.scenario, only=frozenset(only)))

    _reduce(state.best.network_faults, accept)


def _turmoil(state: Shrinking) -> None:
    _reduce(state.best.scenario.turmoil, lambda kept: state.attempt(replace(state.best.scenario, turmoil=tuple(kept))))


def _strikes(state: Shrinking) -> None:
    _reduce(state.best.scenario.strikes, lambda kept: state.attempt(replace(state.best.scenario, strikes=tuple(kept))))


def _plans(state: Shrinking) -> None:
    _reduce(state.best.scenario.plans, lambda kept: _attempt_plans(state, kept))


def _attempt_plans(state: Shrinking, plans: Iterable[Plan]) -> bool:
    """Landmarks wait for what is left to be sent to them, or fewer plans would fail by themselves."""
    return state.attempt(replace(state.best.scenario, plans=with_landmarks(plans)))


def _machines(state: Shrinking) -> None:
    scenario = state.best.scenario
    for machines in range(1, scenario.machines):
        strikes = tuple(each for each in scenario.strikes if each.machine < machines)
        turmoil = tuple(each for each in scenario.turmoil if each.machine < machines)
        if state.attempt(replace(scenario, machines=machines, strikes=strikes, turmoil=turmoil)):
            return


def _partitions(state: Shrinking) -> None:
    for partitions in range(1, state.best.scenario.partitions):
        if state.attempt(replace(state.best.scenario, partitions=partitions)):
            return


def _tuning(state: Shrinking) -> None:
    if state.attempt(replace(state.best.scenario, tuning=Tuning(), builds=1)):
        return
    for each in fields(Tuning):
        tuning = replace(state.best.scenario.tuning, **{each.name: each.default})
        state.attempt(replace(state.best.scenario, tuning=tuning))


def _steps(state: Shrinking) -> None:
    """Simpler programs: fewer rounds, steps and events."""
    for number, before in enumerate(state.best.scenario.plans):
        if before.is_landmark or number >= len(state.best.scenario.plans):
            continue
        for simpler in list(_simpler(state.best.scenario.plans[number])):
            plans = list(state.best.scenario.plans)
            plans[number] = simpler
            if _attempt_plans(state, plans):
                break


def _simpler(plan: Plan) -> Iterator[Plan]:
    job = plan.job
    for at in range(len(job["rounds"])):
        if len(job["rounds"]) > 1:
            yield replace(plan, job=_with_rounds(job, [*job["rounds"][:at], *job["rounds"][at + 1 :]]))
    for at, steps in enumerate(job["rounds"]):
        for number in range(len(steps)):
            rounds = [list(each) for each in job["rounds"]]
            del rounds[at][number]
            yield replace(plan, job=_with_rounds(job, rounds))
    if plan.tags or plan.watched:
        yield replace(plan, tags=None, watched=False)


def _with_rounds(job: Job, rounds: list[list[object]]) -> Job:
    return {**job, "rounds": rounds}


_STEPS: tuple[Callable[[Shrinking], None], ...] = (
    _plans,
    _network,
    _turmoil,
    _strikes,
    _machines,
    _partitions,
    _tuning,
    _steps,
)
