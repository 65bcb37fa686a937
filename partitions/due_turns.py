"""DueTurns: instances with facts that their code may see now, and those whose first turn waits until running work is done (R10).

Most are in the store's table of due turns once their records are confirmed, so only so many are kept in memory; the others are
read from there when their time has come. A start whose time came after its record is in no table, and stays in memory.
"""

from collections import deque
from itertools import islice

from .keys import DUE_TURN, end_of
from .ports import Store


class DueTurns:
    """`ids_max` bounds what is read at a time and what waits in memory."""

    def __init__(self, store: Store, ids_max: int) -> None:
        self._store = store
        self._ids_max = ids_max
        self._ready: deque[str] = deque()
        self._deferred: dict[str, None] = {}
        # Where the table is to be read on; `_more`: something in it is not in memory, `_behind`: perhaps before that place.
        self._place = DUE_TURN
        self._more = True
        self._behind = False
        self._ready.extend(self._read(quiet=True))

    @property
    def any_ready(self) -> bool:
        return bool(self._ready)

    @property
    def any_deferred(self) -> bool:
        return bool(self._deferred)

    def add(self, instance_id: str) -> None:
        """It may take another turn at once."""
        self._ready.append(instance_id)

    def defer(self, instance_id: str, *, only_here: bool = False) -> None:
        """Its first turn waits until the pool has room. `only_here`: the table does not have it."""
        if only_here or len(self._deferred) < self._ids_max:
            self._deferred[instance_id] = None
        else:
            self._more = self._behind = True

    def is_deferred(self, instance_id: str) -> bool:
        return instance_id in self._deferred

    def take(self) -> list[str]:
        """All that are ready."""
        taken = list(self._ready)
        self._ready.clear()
        return taken

    def take_deferred(self, *, quiet: bool) -> None:
        """Let one go that was deferred, if there is any. `quiet`: all that was decided is confirmed, so the table is complete."""
        if not self._deferred and self._more:
            self._deferred.update(dict.fromkeys(self._read(quiet=quiet)))
        if self._deferred:
            name = next(iter(self._deferred))
            del self._deferred[name]
            self._ready.append(name)

    def _read(self, *, quiet: bool) -> list[str]:
        """The next ids of the table; after its end it begins again if anything may be there that was not seen."""
        found = [key for key, _ in islice(self._store.scan(self._place, end_of(DUE_TURN)), self._ids_max)]
        if len(found) == self._ids_max:
            self._place = found[-1] + b"\0"
        else:
            self._place, self._more, self._behind = DUE_TURN, self._behind or not quiet, False
        return [key[1:].decode() for key in found]
