"""Planting a bug: production functions get other code while a `with` lasts.

Rules of this file: what is replaced must be there, once; so a bug that was written for code that has changed since fails loudly, and
is to be written anew.
"""

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tests.simulation.faults import Fault, Rates
from tests.simulation.generate import LETHAL_RUNS, Scenario, make_scenario

PROGRAMS = 10
PATIENCE_MS = 40_000


class BugRotten(AssertionError):
    """The code that a bug replaces is not what it was written for."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In the function at `where` (`module:name`, below `perdure.`) `old` becomes `new`."""

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug. Any of `caught_by` must find it in one of the first `seeds` scenarios. `needs` are names that the new code uses and
    the module does not have; `like` are fields of the scenarios' tuning, `under` rates of faults, and `lethal` that of code that kills,
    that give it a chance."""

    name: str
    caught_by: tuple[str, ...]
    edits: tuple[Edit, ...]
    needs: Mapping[str, Any] = field(default_factory=dict)
    like: Mapping[str, Any] = field(default_factory=dict)
    under: Mapping[Fault, float] = field(default_factory=dict)
    lethal: float = LETHAL_RUNS
    seeds: int = 300


def scenario_of(bug: Bug, seed: int) -> Scenario:
    """A small run that gives a bug its chance."""
    made = make_scenario(seed, PROGRAMS, bug.lethal)
    rates = Rates({**made.rates.of, **bug.under})
    return replace(made, tuning=replace(made.tuning, **bug.like), rates=rates, patience_ms=PATIENCE_MS)


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Run with a bug. Raises BugRotten."""
    undo: list[tuple[FunctionType, CodeType]] = []
    added: list[tuple[ModuleType, str]] = []
    try:
        for where in dict.fromkeys(edit.where for edit in bug.edits):
            function = find(where)
            code = _edited(function, [edit for edit in bug.edits if edit.where == where])
            module = inspect.getmodule(function)
            assert module is not None
            for name, value in bug.needs.items():
                if not hasattr(module, name):
                    setattr(module, name, value)
                    added.append((module, name))
            undo.append((function, function.__code__))
            function.__code__ = code
        yield
    finally:
        for function, code in reversed(undo):
            function.__code__ = code
        for module, name in added:
            delattr(module, name)


def find(where: str) -> FunctionType:
    """The function at `where`. Raises BugRotten."""
    module, _, path = where.partition(":")
    found: Any = import_module(f"perdure.{module}")
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
        if found is None:
            raise BugRotten(f"there is no {where}")
    if isinstance(found, property | cached_property):
        found = found.fget if isinstance(found, property) else found.func
    if isinstance(found, classmethod | staticmethod):
        found = found.__func__
    if not isinstance(found, FunctionType):
        raise BugRotten(f"{where} is no function")
    return found


def _edited(function: FunctionType, edits: Sequence[Edit]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        times = source.count(edit.old)
        if times != 1:
            raise BugRotten(f"{edit.where} has {edit.old!r} {times} times, and should have it once:\n{source}")
        source = source.replace(edit.old, edit.new)
    lines = [line for line in source.splitlines() if not line.startswith("@")]
    compiled = compile("\n".join(lines), function.__code__.co_filename, "exec", dont_inherit=True)
    code = next(each for each in compiled.co_consts if isinstance(each, CodeType) and each.co_name == function.__name__)
    if code.co_freevars != function.__code__.co_freevars:
        raise BugRotten(f"{edits[0].where} closes over {function.__code__.co_freevars}, edited over {code.co_freevars}")
    return code
