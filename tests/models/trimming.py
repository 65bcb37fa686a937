"""Trimming (R15) in small: one history partition whose owner carries forward, names bases and trims, and a reader with an empty disk.

The owner appends ahead of what is confirmed; a crash takes back any end of that. A trimmed log may show its old start again, as
brokers do after a crash of theirs. The reader folds from the highest base named, record by record, while the owner goes on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import NamedTuple


class Flaw(Enum):
    """A rule weakened. The search must find where each leads."""

    NONE = auto()
    CHECKPOINT_OF_THE_CONFIRMED_STATE = auto()
    CARRIED_AS_OF_THE_WRONG_OFFSET = auto()
    TRIM_PAST_A_WANTED_HISTORY = auto()
    TRIM_PAST_A_SEND = auto()
    TRIM_TO_NO_CHECKPOINT = auto()
    BASE_NAMED_UNCONFIRMED = auto()
    RESET_TO_LATEST = auto()


class Kind(Enum):
    TURN = "turn"
    ENDED = "end"
    ACKNOWLEDGED = "acknowledgement"
    CHECKPOINT = "checkpoint"
    CARRIED = "carried history"


class Record(NamedTuple):
    """`count` is how many turns the instance has had; the first of each also sends. A checkpoint states sends and base."""

    kind: Kind
    instance: str = ""
    count: int = 0
    decided: int = 0
    acknowledged: int = 0
    base: int = -1


class Folded(NamedTuple):
    """What a reader has: `whole` instances with their turns, `known` sends by number, and the outbox's marks."""

    whole: tuple[tuple[str, int], ...] = ()
    known: frozenset[int] = frozenset()
    decided: int = 0
    acknowledged: int = 0


class Reader(NamedTuple):
    """A fold on its way. `position` is the next offset, `end` what it was when it began."""

    position: int
    end: int
    folded: Folded


class State(NamedTuple):
    """`log` is all that was ever written, `start` where what is left of it begins, `confirmed` how much the owner knows of."""

    log: tuple[Record, ...] = ()
    start: int = 0
    starts: tuple[int, ...] = (0,)
    confirmed: int = 0
    reader: Reader | None = None
    misread: str = ""
    crashes: int = 0
    moves: int = 0


class Bounds(NamedTuple):
    """How far the search goes. `ahead` is how many records may be out at once, `moves` how often the start may move back."""

    instances: str = "x"
    turns: int = 2
    checkpoints: int = 3
    carried: int = 1
    ahead: int = 2
    crashes: int = 1
    moves: int = 1


def fold(log: tuple[Record, ...], folded: Folded = Folded()) -> Folded:  # noqa: B008 - a value
    """Every record of `log`, in order."""
    for record in log:
        folded = _take(folded, record)
    return folded


def _take(folded: Folded, record: Record) -> Folded:
    whole = dict(folded.whole)
    match record.kind:
        case Kind.TURN:
            if record.count == 1:
                number = folded.decided + 1
                folded = folded._replace(decided=number, known=folded.known | {number})
            if record.count == 1 or record.instance in whole:  # else it is partial, and waits for its carried history
                whole[record.instance] = record.count
        case Kind.CARRIED:
            whole.setdefault(record.instance, record.count)
        case Kind.ENDED:
            whole.pop(record.instance, None)
        case Kind.ACKNOWLEDGED:
            folded = folded._replace(acknowledged=folded.acknowledged + 1)
        case Kind.CHECKPOINT:
            pass
    return folded._replace(whole=tuple(sorted(whole.items())))


class Trimming:
    """`search.Model` of the rules, one of them weakened by `flaw`."""

    def __init__(self, bounds: Bounds, flaw: Flaw = Flaw.NONE) -> None:
        self._bounds = bounds
        self._flaw = flaw

    def initial(self) -> State:
        return State()

    def fault(self, state: State) -> str | None:
        return state.misread or None

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        if len(state.log) - state.confirmed < self._bounds.ahead:
            yield from (
                (f"the owner appends {_say(record)}", _append(state, record)) for record in self._appends(state)
            )
        if state.confirmed < len(state.log):
            yield f"offset {state.confirmed} is confirmed", state._replace(confirmed=state.confirmed + 1)
        if state.crashes < self._bounds.crashes and state.reader is None:
            for end in range(state.confirmed, len(state.log)):
                crashed = state._replace(log=state.log[:end], crashes=state.crashes + 1)
                yield f"the owner crashes, and nothing from offset {end} on has landed", crashed
        yield from self._trims(state)
        yield from self._reads(state)

    # The owner.

    def _appends(self, state: State) -> Iterator[Record]:
        tip, confirmed = fold(state.log), fold(state.log[: state.confirmed])
        counts = dict(tip.whole)
        written = Counter(record.kind for record in state.log)
        if written[Kind.TURN] < self._bounds.turns:
            yield from (
                Record(Kind.TURN, name, counts.get(name, 0) + 1)
                for name in self._bounds.instances
                if not self._ended(state, name)
            )
        yield from (Record(Kind.ENDED, name) for name in counts)
        if confirmed.acknowledged == tip.acknowledged < confirmed.decided:
            yield Record(Kind.ACKNOWLEDGED)
        if self._flaw is Flaw.CARRIED_AS_OF_THE_WRONG_OFFSET:
            counts = {name: count for name, count in confirmed.whole if name in counts}
        if written[Kind.CARRIED] < self._bounds.carried and written[Kind.CHECKPOINT]:
            yield from (Record(Kind.CARRIED, name, count) for name, count in counts.items())
        if written[Kind.CHECKPOINT] < self._bounds.checkpoints:
            stated = confirmed if self._flaw is Flaw.CHECKPOINT_OF_THE_CONFIRMED_STATE else tip
            for base in (-1, *self._bases(state)):
                yield Record(Kind.CHECKPOINT, "", 0, stated.decided, stated.acknowledged, base)

    def _ended(self, state: State, name: str) -> bool:
        return Record(Kind.ENDED, name) in state.log

    def _bases(self, state: State) -> Iterator[int]:
        """Confirmed checkpoints from which everything wanted can be told."""
        known = len(state.log) if self._flaw is Flaw.BASE_NAMED_UNCONFIRMED else state.confirmed
        log = state.log[:known]
        now = fold(log)
        for offset, record in enumerate(log):
            if record.kind is not Kind.CHECKPOINT and self._flaw is not Flaw.TRIM_TO_NO_CHECKPOINT:
                continue
            histories = all(_begins_after(log, offset, name) for name, _ in now.whole)
            sends = fold(log[:offset]).decided <= now.acknowledged
            if (histories or self._flaw is Flaw.TRIM_PAST_A_WANTED_HISTORY) and (
                sends or self._flaw is Flaw.TRIM_PAST_A_SEND
            ):
                yield offset

    def _trims(self, state: State) -> Iterator[tuple[str, State]]:
        """Only what a confirmed record names; and a broker may forget that it trimmed."""
        known = len(state.log) if self._flaw is Flaw.BASE_NAMED_UNCONFIRMED else state.confirmed
        for base in {record.base for record in state.log[:known] if record.base > state.start}:
            yield f"the log is trimmed to {base}", state._replace(start=base, starts=(*state.starts, base))
        for start in state.starts:
            if start < state.start and state.moves < self._bounds.moves:
                moved = state._replace(start=start, moves=state.moves + 1)
                yield f"a broker crashes, and the log begins at {start} again", moved

    # The reader.

    def _reads(self, state: State) -> Iterator[tuple[str, State]]:
        reader = state.reader
        if reader is None:
            if state.confirmed == len(state.log) > 0:
                yield self._begin(state)
        elif reader.position == reader.end:
            yield "the reader is done", self._compare(state, reader)
        elif reader.position < state.start:
            yield self._meet_trim(state, reader)
        else:
            folded = _take(reader.folded, state.log[reader.position])
            on = reader._replace(position=reader.position + 1, folded=folded)
            yield f"the reader takes offset {reader.position}", state._replace(reader=on)

    def _begin(self, state: State) -> tuple[str, State]:
        """Scan for the highest base named in what is left; with none, the log must be whole."""
        base = max((record.base for record in state.log[state.start :]), default=-1)
        if base < 0 and state.start > 0:
            return "the reader finds no base", state._replace(misread="the log was trimmed, and names no base")
        if base < state.start and base >= 0:
            return "the reader finds a base that is gone", state._replace(misread=f"base {base} was trimmed away")
        folded = Folded()
        if base >= 0:
            checkpoint = state.log[base]
            if checkpoint.kind is not Kind.CHECKPOINT:
                return "the reader looks at the base", state._replace(
                    misread=f"base {base} is a {checkpoint.kind.value}"
                )
            folded = Folded(decided=checkpoint.decided, acknowledged=checkpoint.acknowledged)
        reader = Reader(max(base, 0), len(state.log), folded)
        return f"a reader with an empty disk begins at {reader.position}", state._replace(reader=reader)

    def _meet_trim(self, state: State, reader: Reader) -> tuple[str, State]:
        """What it was about to read is gone: begin again. A client that resets goes on elsewhere in silence."""
        if self._flaw is Flaw.RESET_TO_LATEST:
            on = reader._replace(position=reader.end)
            return "the client resets to the end", state._replace(reader=on)
        return "the reader begins again, since the log was trimmed", state._replace(reader=None)

    def _compare(self, state: State, reader: Reader) -> State:
        truth, found = fold(state.log[: reader.end]), reader.folded
        wrong = ""
        if dict(found.whole) != dict(truth.whole):
            wrong = f"the reader has {_counts(found.whole)}, and the truth is {_counts(truth.whole)}"
        elif (found.decided, found.acknowledged) != (truth.decided, truth.acknowledged):
            counts = f"{found.acknowledged} of {found.decided} sends acknowledged"
            wrong = f"the reader counts {counts}, and the truth is {truth.acknowledged} of {truth.decided}"
        elif not set(range(truth.acknowledged + 1, truth.decided + 1)) <= found.known:
            wrong = "a send that was not acknowledged is unknown to the reader"
        return state._replace(reader=None, misread=wrong)


def _begins_after(log: tuple[Record, ...], offset: int, name: str) -> bool:
    """Is the whole history of `name` at or after `offset`?"""
    return any(
        record.instance == name and (record.kind is Kind.CARRIED or (record.kind is Kind.TURN and record.count == 1))
        for record in log[offset:]
    )


def _append(state: State, record: Record) -> State:
    return state._replace(log=(*state.log, record))


def _counts(whole: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    return dict(whole)


def _say(record: Record) -> str:
    match record.kind:
        case Kind.TURN | Kind.CARRIED:
            return f"{record.kind.value} {record.count} of {record.instance}"
        case Kind.CHECKPOINT:
            base = f", base {record.base}" if record.base >= 0 else ""
            return f"a checkpoint ({record.acknowledged} of {record.decided} sends acknowledged{base})"
        case _:
            return f"{record.kind.value} {record.instance}".strip()
