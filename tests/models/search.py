"""Explicit-state search: every state that a small model can reach, nearest first, so that the first story found is a shortest one."""

import gc
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Model(Protocol[S]):
    """A protocol in small. States are values; `fault` says what is wrong with one, if anything is."""

    def initial(self) -> S: ...

    def steps(self, state: S) -> Iterable[tuple[str, S]]:
        """Everything that can happen next, and what it leads to."""
        ...

    def fault(self, state: S) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Searched(Generic[S]):
    """What a search came to. `complete`: there is no state that it did not visit. `story` leads to the fault."""

    states: int
    depth: int
    complete: bool
    fault: str | None = None
    story: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.fault is None:
            return f"{self.states:,} states, {self.depth} steps deep, {'all' if self.complete else 'not all'} visited: no fault"
        return "\n".join([f"{self.fault} ({self.states:,} states, {len(self.story)} steps)", *self.story])


@contextmanager
def uncollected() -> Iterator[None]:
    """No state refers to itself: the collector would look through millions of them in vain, a third of all time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@uncollected()
def search(model: Model[S], states_max: int = 10_000_000) -> Searched[S]:
    """Visit states nearest first until a fault, the last one, or `states_max`."""
    first = model.initial()
    came_from: dict[S, tuple[S, str] | None] = {first: None}
    level, depth = [first], 0
    while level:
        following: list[S] = []
        for state in level:
            fault = model.fault(state)
            if fault is not None:
                story = _story(came_from, state)
                return Searched(len(came_from), depth, complete=False, fault=fault, story=story)
            for action, after in model.steps(state):
                if after not in came_from:
                    came_from[after] = (state, action)
                    following.append(after)
        if len(came_from) > states_max:
            return Searched(len(came_from), depth, complete=False)
        level, depth = following, depth + bool(following)
    return Searched(len(came_from), depth, complete=True)


def _story(came_from: dict[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    actions: list[str] = []
    link = came_from[state]
    while link is not None:
        state, action = link
        actions.append(action)
        link = came_from[state]
    return tuple(reversed(actions))
