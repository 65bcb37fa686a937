"""Standby: a partition that another process owns, its store kept warm here, so that only the tail is to be read at a take-over.

Rules of this file: it follows the log as every reader does and decides nothing; what it holds is what is confirmed, since the log
is; whoever takes the partition over closes it first and recovers from its store.
"""

from collections.abc import Generator, Sequence

from perdure.schemas.frozen import dataclass

from .ports import Log, LogRecord, LogTruncated, Stores, TopicReader
from .recovery import CaughtUp, Claimed, catch_up_to

FLUSH_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest claim in a log: who owns the partition, as far as the log tells, and where that owner can be reached."""

    owner: str
    address: str


class Standby:
    """One followed partition. `step` until it returns False, then again when records came."""

    def __init__(self, partition: int, log: Log, stores: Stores, snapshot_ahead_records: int) -> None:
        self.partition = partition
        self._log = log
        self._opening: Generator[int, None, CaughtUp] | None = None
        self._caught_up: CaughtUp | None = None
        self._received: list[LogRecord] = []
        self._since_flush = 0
        self._stores = stores
        self._snapshot_ahead_records = snapshot_ahead_records

    def step(self) -> bool:
        """Do what can be done now; true if anything was. Raises what recovery raises: it is then to be closed, and begun anew."""
        if self._caught_up is None:
            self._open()
            return True
        received, self._received = self._received, []
        if not received:
            return False
        catch_up = self._caught_up.catch_up
        self._check_whole(catch_up.next_offset, received[0].offset)
        for record in received:
            catch_up.take(record)
        catch_up.write()
        self._since_flush += len(received)
        if self._since_flush >= FLUSH_RECORDS:
            self._caught_up.store.flush()
            self._since_flush = 0
        return True

    def _check_whole(self, expected: int, found: int) -> None:
        """Nothing was trimmed away before it was followed (R6)."""
        if found > expected and self._log.span_history(self.partition).start > expected:
            raise LogTruncated(
                f"partition {self.partition}: offset {expected} was let go of before it was followed; the next one is {found}"
            )

    def receive(self, records: Sequence[LogRecord]) -> None:
        """Take records of this partition's history, in order."""
        self._received.extend(records)

    @property
    def owner(self) -> Seen | None:
        """Who owns the partition, as far as the log was read; None before that is known."""
        state = self._caught_up.catch_up.fold.state if self._caught_up is not None else None
        return Seen(state.deaths.owner, state.address) if state is not None and state.deaths.owner else None

    @property
    def handed_over(self) -> bool:
        """The last owner stopped in order: the group knows, and somebody else is on the way."""
        if self._caught_up is None:
            return False
        state = self._caught_up.catch_up.fold.state
        return state.released and not state.deaths.claims_since

    def close(self) -> None:
        """Let the store go. Safe at any time."""
        if self._opening is not None:
            self._opening.close()
            self._opening = None
        if self._caught_up is not None:
            self._tail.close(self.partition)
            self._caught_up.store.close()
            self._caught_up = None

    @property
    def _tail(self) -> TopicReader:
        assert self._log.tail is not None
        return self._log.tail

    def _open(self) -> None:
        if self._opening is None:
            last = Claimed(self._log.span_history(self.partition), 0, self._snapshot_ahead_records)
            self._opening = catch_up_to(self._log, self._stores, self.partition, last)
        try:
            next(self._opening)
        except StopIteration as end:
            self._opening = None
            caught_up: CaughtUp = end.value
            self._caught_up = caught_up
            self._tail.open(self.partition, caught_up.catch_up.next_offset)
