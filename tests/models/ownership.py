"""Ownership and chains (R1 to R6) in small: would-be owners on one history partition, over a network that delays and loses.

A turn is named by a number and carries what its decider believed to be accepted before it; a reader that accepts a turn on another
belief has lost or doubled one. A send is delivered in the order of its producer, or lost, or lands with its report lost, or lands
long after its process is gone (what a real broker was seen to do).
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

NAMES = "ABC"
FLYING, FAILED = -1, -2  # what a send's report says, until it says an offset


class Flaw(Enum):
    """A rule weakened. The search must find where each leads."""

    NONE = auto()
    EPOCH_FROM_A_COUNTER = auto()
    EPOCH_WITHOUT_OFFSET = auto()
    OFFSET_WITHOUT_EPOCH = auto()
    NO_UNBROKEN_RUN = auto()
    REPORTS_OUT_OF_ORDER = auto()
    EFFECTS_BEFORE_CONFIRMATION = auto()
    END_READ_BEFORE_THE_CLAIM = auto()
    FIRST_PART_COUNTS = auto()


class Record(NamedTuple):
    """A claim (`turn` 0) or one part of a turn. `epoch` of a claim is 0, or with a counter the new epoch."""

    turn: int
    epoch: int
    offset: int
    part: int = 0
    parts: int = 1
    belief: tuple[int, ...] = ()


class Owner(NamedTuple):
    """One process. `sent` pairs what it sent with what it was told of it, in order; `epoch` 0 means that it owns nothing."""

    life: int = 0
    claiming: bool = False
    epoch: int = 0
    next_offset: int = 0
    tip: tuple[int, ...] = ()
    sent: tuple[tuple[Record, int], ...] = ()
    seen: tuple[int, ...] = ()


class State(NamedTuple):
    """`flying` holds (owner, life, record) in the order of sending. `effects` are turns that acted on the world."""

    log: tuple[Record, ...]
    flying: tuple[tuple[int, int, Record], ...]
    owners: tuple[Owner, ...]
    effects: tuple[int, ...]
    claims: int = 0
    turns: int = 0
    crashes: int = 0


class Bounds(NamedTuple):
    """How far the search goes. `parts` is into how many records the last turn is cut."""

    owners: int = 2
    claims: int = 3
    turns: int = 3
    records: int = 8
    crashes: int = 1
    parts: int = 1


class Ownership:
    """`search.Model` of the rules, one of them weakened by `flaw`."""

    def __init__(self, bounds: Bounds, flaw: Flaw = Flaw.NONE) -> None:
        self._bounds = bounds
        self._flaw = flaw

    def initial(self) -> State:
        # An offset of -1 in front of the log is nobody's; offset 0 is a record of an older time, so that epochs are above 0.
        return State((Record(0, 0, 0),), (), (Owner(),) * self._bounds.owners, ())

    # What a reader makes of the log (R3).

    def accepted(self, log: tuple[Record, ...]) -> tuple[tuple[int, ...], str | None]:
        """The turns that count, and what is wrong with them."""
        turns: tuple[int, ...] = ()
        epoch, following, parts = 0, 0, 0
        for offset, record in enumerate(log):
            if record.turn == 0:
                epoch = record.epoch if self._flaw is Flaw.EPOCH_FROM_A_COUNTER else offset
                following, parts = offset + 1, 0
                continue
            if not self._fits(record, epoch, following, offset):
                if self._flaw is not Flaw.NO_UNBROKEN_RUN:
                    epoch = 0
                parts = 0
                continue
            following, parts = offset + 1, parts + 1 if record.part == parts else 0
            complete = record.part + 1 == record.parts == parts
            if complete or (self._flaw is Flaw.FIRST_PART_COUNTS and record.part == 0):
                if not complete:
                    return turns, f"turn {record.turn} counts, and {parts} of its {record.parts} parts are there"
                if record.belief != turns:
                    return (
                        turns,
                        f"turn {record.turn} was decided on {list(record.belief)}, but {list(turns)} had happened",
                    )
                turns, parts = (*turns, record.turn), 0
        return turns, None

    def _fits(self, record: Record, epoch: int, following: int, offset: int) -> bool:
        """Is this the next record of the epoch's owner?"""
        same_epoch, same_place = record.epoch == epoch != 0, record.offset == offset == following
        match self._flaw:
            case Flaw.EPOCH_WITHOUT_OFFSET:
                return same_epoch
            case Flaw.OFFSET_WITHOUT_EPOCH:
                return record.offset == offset
            case Flaw.NO_UNBROKEN_RUN:
                return same_epoch and record.offset == offset
            case _:
                return same_epoch and same_place

    def fault(self, state: State) -> str | None:
        turns, wrong = self.accepted(state.log)
        if wrong is not None:
            return wrong
        for turn in state.effects:
            if turn not in turns:
                return f"turn {turn} acted on the world and is void"
        return None

    # What can happen.

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number, owner in enumerate(state.owners):
            yield from self._owner_steps(state, number, owner)
        yield from self._network_steps(state)

    def _owner_steps(self, state: State, number: int, owner: Owner) -> Iterator[tuple[str, State]]:
        name = NAMES[number]
        if not owner.claiming and not owner.epoch and state.claims < self._bounds.claims:
            yield f"{name} claims", self._claim(state, number, owner)
        if owner.epoch and state.turns < self._bounds.turns:
            after = self._decide(state, number, owner)
            yield f"{name} decides turn {after.turns} as if {list(owner.tip)} had happened", after
        if owner.sent:
            yield from self._take_report(state, number, owner)
            if owner.sent[0][1] == FLYING:
                yield f"{name} gives up waiting for a report", _with(state, number, Owner(owner.life + 1))
        if state.crashes < self._bounds.crashes and (owner.claiming or owner.epoch):
            dead = _with(state, number, Owner(owner.life + 1))
            yield f"{name} crashes and starts again", dead._replace(crashes=state.crashes + 1)

    def _claim(self, state: State, number: int, owner: Owner) -> State:
        counter = 1 + max((record.epoch for record in state.log if record.turn == 0), default=0)
        claim = Record(0, counter if self._flaw is Flaw.EPOCH_FROM_A_COUNTER else 0, -1)
        seen = self.accepted(state.log)[0]
        return self._send(state, number, owner._replace(claiming=True, seen=seen), claim)._replace(
            claims=state.claims + 1
        )

    def _decide(self, state: State, number: int, owner: Owner) -> State:
        turn = state.turns + 1
        parts = self._bounds.parts if turn == self._bounds.turns else 1
        for part in range(parts):
            record = Record(turn, owner.epoch, owner.next_offset, part, parts, owner.tip)
            owner = owner._replace(next_offset=owner.next_offset + 1)
            state = self._send(state, number, owner, record)
            owner = state.owners[number]
        state = _with(state, number, owner._replace(tip=(*owner.tip, turn)))._replace(turns=turn)
        return _act(state, turn) if self._flaw is Flaw.EFFECTS_BEFORE_CONFIRMATION else state

    def _send(self, state: State, number: int, owner: Owner, record: Record) -> State:
        state = _with(state, number, owner._replace(sent=(*owner.sent, (record, FLYING))))
        return state._replace(flying=(*state.flying, (number, owner.life, record)))

    def _take_report(self, state: State, number: int, owner: Owner) -> Iterator[tuple[str, State]]:
        """R4: in order, and the first that does not say what was expected ends the epoch."""
        name = NAMES[number]
        places = range(len(owner.sent)) if self._flaw is Flaw.REPORTS_OUT_OF_ORDER else (0,)
        for place in places:
            record, told = owner.sent[place]
            if told == FLYING:
                continue
            rest = owner._replace(sent=owner.sent[:place] + owner.sent[place + 1 :])
            if record.turn == 0 and told != FAILED:
                yield (
                    f"{name} hears that its claim is at {told}",
                    _with(state, number, self._own(state, rest, record, told)),
                )
            elif told == record.offset:
                last = record.part + 1 == record.parts
                after = _with(state, number, rest)
                yield f"{name} hears that turn {record.turn} is at {told}", _act(after, record.turn) if last else after
            else:
                what = "failed" if told == FAILED else f"is at {told}"
                yield (
                    f"{name} hears that a record {what}: its epoch is over",
                    _with(state, number, Owner(owner.life + 1)),
                )

    def _own(self, state: State, owner: Owner, claim: Record, offset: int) -> Owner:
        """R6: claim first, then read to the claim."""
        counted = self._flaw is Flaw.EPOCH_FROM_A_COUNTER
        early = self._flaw is Flaw.END_READ_BEFORE_THE_CLAIM
        tip = owner.seen if early else self.accepted(state.log[: offset + 1])[0]
        epoch = claim.epoch if counted else offset
        return owner._replace(claiming=False, epoch=epoch, next_offset=offset + 1, tip=tip, seen=())

    def _network_steps(self, state: State) -> Iterator[tuple[str, State]]:
        first_of: set[tuple[int, int]] = set()
        for place, (number, life, record) in enumerate(state.flying):
            left = state._replace(flying=state.flying[:place] + state.flying[place + 1 :])
            what = f"{NAMES[number]}'s {'claim' if record.turn == 0 else f'turn {record.turn}'}"
            yield f"{what} is lost", self._tell(left, number, life, record, FAILED)
            if (number, life) not in first_of and len(state.log) < self._bounds.records:
                landed = left._replace(log=(*left.log, record))
                offset = len(state.log)
                yield f"{what} lands at {offset}", self._tell(landed, number, life, record, offset)
                yield f"{what} lands at {offset}, reported as failed", self._tell(landed, number, life, record, FAILED)
            first_of.add((number, life))

    def _tell(self, state: State, number: int, life: int, record: Record, told: int) -> State:
        owner = state.owners[number]
        if owner.life != life:
            return state  # the process that sent it is gone
        sent = list(owner.sent)
        sent[sent.index((record, FLYING))] = (record, told)
        return _with(state, number, owner._replace(sent=tuple(sent)))


def _with(state: State, number: int, owner: Owner) -> State:
    return state._replace(owners=(*state.owners[:number], owner, *state.owners[number + 1 :]))


def _act(state: State, turn: int) -> State:
    return state._replace(effects=tuple(sorted({*state.effects, turn})))
