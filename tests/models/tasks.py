"""Activities in small: one task of an instance, tried again after failures and crashes, and its late results.

Every attempt that was dispatched may end at any time, or never. A result counts only where its execution and attempt are pending.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple


class Flaw(Enum):
    """A rule weakened. The search must find where each leads."""

    NONE = auto()
    RESULT_WITHOUT_ATTEMPT = auto()
    RESULT_WITHOUT_EXECUTION = auto()
    DISPATCHED_AGAIN_UNRECORDED = auto()


class Try(NamedTuple):
    """One attempt, in history and out in the world."""

    execution: int
    attempt: int


class State(NamedTuple):
    """`pending` is what history waits for; `world` what was dispatched and may still report; `counted` pairs what history says
    ended with what did end."""

    pending: Try | None
    world: tuple[Try, ...]
    counted: tuple[tuple[Try, Try], ...] = ()
    began: tuple[Try, ...] = ()
    crashes: int = 0


class Bounds(NamedTuple):
    executions: int = 3
    attempts: int = 3
    crashes: int = 2


class Tasks:
    """`search.Model` of the rules, one of them weakened by `flaw`."""

    def __init__(self, bounds: Bounds, flaw: Flaw = Flaw.NONE) -> None:
        self._bounds = bounds
        self._flaw = flaw

    def initial(self) -> State:
        first = Try(1, 1)
        return State(first, (first,), began=(first,))

    def fault(self, state: State) -> str | None:
        for recorded, ended in state.counted:
            if recorded != ended:
                return f"history says that {_say(recorded)} ended, and it was {_say(ended)}"
        if len(set(state.began)) < len(state.began):
            return f"two dispatches were the same attempt: {', '.join(map(_say, state.began))}"
        return None

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for place, ended in enumerate(state.world):
            rest = state._replace(world=state.world[:place] + state.world[place + 1 :])
            yield f"{_say(ended)} is never heard of", rest
            for what, goes_on in (("fails", True), ("completes", False)):
                yield f"{_say(ended)} {what}", self._count(rest, ended, retry=goes_on)
        if state.pending is not None and state.pending.attempt < self._bounds.attempts:
            yield f"{_say(state.pending)} is out of time", self._dispatch(state, state.pending.attempt + 1)
        if state.pending is not None and state.crashes < self._bounds.crashes:
            crashed = state._replace(crashes=state.crashes + 1)
            recorded = self._flaw is not Flaw.DISPATCHED_AGAIN_UNRECORDED
            yield (
                "the owner crashes, and another dispatches again",
                self._dispatch(crashed, state.pending.attempt + recorded),
            )
        if state.began[-1].execution < self._bounds.executions:
            following = Try(state.began[-1].execution + 1, 1)
            began = state._replace(pending=following, world=(*state.world, following), began=(*state.began, following))
            yield "it continues as new, and calls the same again", began

    def _count(self, state: State, ended: Try, *, retry: bool) -> State:
        pending = state.pending
        if pending is None:
            return state
        same_execution = ended.execution == pending.execution or self._flaw is Flaw.RESULT_WITHOUT_EXECUTION
        same_attempt = ended.attempt == pending.attempt or self._flaw is Flaw.RESULT_WITHOUT_ATTEMPT
        if not (same_execution and same_attempt):
            return state
        state = state._replace(counted=(*state.counted, (pending, ended)))
        if retry and pending.attempt < self._bounds.attempts:
            return self._dispatch(state, pending.attempt + 1)
        return state._replace(pending=None)

    def _dispatch(self, state: State, attempt: int) -> State:
        assert state.pending is not None
        following = state.pending._replace(attempt=attempt)
        return state._replace(pending=following, world=(*state.world, following), began=(*state.began, following))


def _say(one: Try) -> str:
    return f"attempt {one.attempt} of execution {one.execution}"
