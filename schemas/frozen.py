"""Frozen dataclasses, whose guard at run time is for tests.

mypy and pyright see `dataclasses.dataclass` here, and refuse an assignment to a field. At run time a guard makes every field of every
new value cost a call, which is a sixth of all that a turn costs; so it is there only where the environment asks for it, as ours does
in tests. Meant for the values that turns are made of; what users hold in their hands is guarded always.
"""

from os import environ
from typing import TYPE_CHECKING, Any

GUARD_VARIABLE = "PERDURE_GUARD_VALUES"

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(*, slots: bool, frozen: bool = False) -> Any:
        """`dataclasses.dataclass`; without the guard a frozen one is equal and hashed by value all the same."""
        guarded = frozen and bool(environ.get(GUARD_VARIABLE))
        return dataclasses.dataclass(slots=slots, frozen=guarded, unsafe_hash=frozen and not guarded)


__all__ = ["GUARD_VARIABLE", "dataclass"]
