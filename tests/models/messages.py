"""Messages between partitions (R7, R8) in small: partition P decides sends, publishes them to Q's inbox, and Q consumes them by turns.

A send is published again until its landing is reported; it may be lost, land with the report lost, or land after P's process is
gone. Q takes messages of several instances in turns that confirm in their own order, so that what is consumed has holes. A crash
takes either process back to what was confirmed.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple


class Flaw(Enum):
    """A rule weakened. The search must find where each leads."""

    NONE = auto()
    HIGHEST_INSTEAD_OF_NEXT = auto()
    SEQUENCES_NOT_DENSE = auto()
    ONLY_THE_LOST_SENT_AGAIN = auto()
    PUBLISHED_BEFORE_CONFIRMATION = auto()
    MARK_ALONE_AT_THE_HIGHEST = auto()
    MARK_ALONE_AT_THE_LOWEST = auto()
    SOURCE_AHEAD_OF_THE_MARK = auto()


class Message(NamedTuple):
    """`content` is what P decided; an odd one is for instance x, an even one for y."""

    sequence: int
    content: int


class Sender(NamedTuple):
    """P. `sends` is confirmed, `deciding` not yet; `acknowledged` sends have landed, `published` are out or have landed.

    `counter` is the last sequence given out, `told` what the reports in flight say, in order (None: not yet).
    """

    sends: tuple[Message, ...] = ()
    deciding: Message | None = None
    acknowledged: int = 0
    published: int = 0
    told: tuple[bool | None, ...] = ()
    counter: int = 0
    life: int = 0


class Taken(NamedTuple):
    """What Q has consumed: all offsets below `mark` and those in `above`; `source` is P's highest sequence as of the mark."""

    mark: int = 0
    above: frozenset[int] = frozenset()
    source: int = 0
    delivered: tuple[int, ...] = ()


class Receiver(NamedTuple):
    """Q. `position` is the next offset to read, `highest` the last sequence taken, `pending` what is read and in no turn."""

    confirmed: Taken = Taken()
    turn: Taken | None = None
    position: int = 0
    highest: int = 0
    pending: tuple[tuple[int, Message], ...] = ()


class State(NamedTuple):
    """`flying` holds (life of P, place among its sends, message) in the order of sending."""

    sender: Sender
    flying: tuple[tuple[int, int, Message], ...]
    inbox: tuple[Message, ...]
    receiver: Receiver
    crashes: int = 0
    losses: int = 0
    decided: int = 0


class Bounds(NamedTuple):
    """How far the search goes. `losses` counts what is lost, and what lands and is reported as failed."""

    sends: int = 3
    inbox: int = 4
    losses: int = 1
    crashes: int = 1


class Messages:
    """`search.Model` of the rules, one of them weakened by `flaw`."""

    def __init__(self, bounds: Bounds, flaw: Flaw = Flaw.NONE) -> None:
        self._bounds = bounds
        self._flaw = flaw

    def initial(self) -> State:
        return State(Sender(), (), (), Receiver())

    def fault(self, state: State) -> str | None:
        delivered = state.receiver.confirmed.delivered
        sent = [message.content for message in state.sender.sends]
        for name, parity in (("x", 1), ("y", 0)):
            mine = [content for content in delivered if content % 2 == parity]
            wanted = [content for content in sent if content % 2 == parity]
            if mine != wanted[: len(mine)]:
                return f"{name} was delivered {mine}, and was sent {wanted}"
        if self._is_quiet(state) and len(delivered) < len(sent):
            return f"all is quiet, {sorted(delivered)} was delivered, and {sent} was sent"
        return None

    def _is_quiet(self, state: State) -> bool:
        sender, receiver = state.sender, state.receiver
        settled = sender.deciding is None and sender.acknowledged == len(sender.sends) and not state.flying
        return settled and receiver.turn is None and not receiver.pending and receiver.position == len(state.inbox)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        yield from self._decide(state)
        yield from self._publish(state)
        yield from self._fly(state)
        yield from self._receive(state)
        if state.crashes < self._bounds.crashes:
            yield from self._crash(state)

    # P.

    def _decide(self, state: State) -> Iterator[tuple[str, State]]:
        sender = state.sender
        if sender.deciding is None and state.decided < self._bounds.sends:
            message = Message(sender.counter + 1, state.decided + 1)
            after = sender._replace(deciding=message, counter=message.sequence)
            yield f"P decides {_say(message)}", state._replace(sender=after, decided=state.decided + 1)
        if sender.deciding is not None:
            confirmed = sender._replace(sends=(*sender.sends, sender.deciding), deciding=None)
            yield f"P's {_say(sender.deciding)} is confirmed", state._replace(sender=confirmed)

    def _publish(self, state: State) -> Iterator[tuple[str, State]]:
        sender = state.sender
        early = self._flaw is Flaw.PUBLISHED_BEFORE_CONFIRMATION and sender.deciding is not None
        ready = (*sender.sends, sender.deciding) if early and sender.deciding else sender.sends
        if sender.published < len(ready):
            message = ready[sender.published]
            flying = (*state.flying, (sender.life, sender.published, message))
            after = sender._replace(published=sender.published + 1, told=(*sender.told, None))
            yield f"P publishes {_say(message)}", state._replace(sender=after, flying=flying)
        if sender.told and sender.told[0] is not None:
            yield self._take_report(state)

    def _take_report(self, state: State) -> tuple[str, State]:
        sender = state.sender
        acknowledged, rest = sender.acknowledged + 1, sender.told[1:]
        if sender.told[0]:
            after = sender._replace(acknowledged=acknowledged, told=rest)
            return f"P hears that send {acknowledged} has landed", state._replace(sender=after)
        if self._flaw is Flaw.ONLY_THE_LOST_SENT_AGAIN:
            again = (sender.life, sender.acknowledged, sender.sends[sender.acknowledged])
            after = sender._replace(told=(None, *rest))
            return f"P publishes send {acknowledged} again", state._replace(sender=after, flying=(*state.flying, again))
        # Go back N: with the one that failed go all after it, and reports of the earlier sending mean nothing any more.
        after = sender._replace(published=sender.acknowledged, told=(), life=sender.life + 1)
        return f"P hears that send {acknowledged} failed, and goes back to it", state._replace(sender=after)

    # The way to Q's inbox.

    def _fly(self, state: State) -> Iterator[tuple[str, State]]:
        first_of: set[int] = set()
        for at, (life, place, message) in enumerate(state.flying):
            left = state._replace(flying=state.flying[:at] + state.flying[at + 1 :])
            current = life == state.sender.life
            may_fail = state.losses < self._bounds.losses
            lost = left._replace(losses=state.losses + 1)
            if not current:
                yield f"{_say(message)} of an earlier sending is lost", left
            elif may_fail:
                yield f"{_say(message)} is lost", self._tell(lost, place, landed=False)
            if life not in first_of and len(state.inbox) < self._bounds.inbox:
                landed = left._replace(inbox=(*state.inbox, message))
                where = f"{_say(message)} lands at {len(state.inbox)}"
                yield where, self._tell(landed, place, landed=True) if current else landed
                if current and may_fail:
                    unheard = landed._replace(losses=state.losses + 1)
                    yield f"{where}, reported as failed", self._tell(unheard, place, landed=False)
            first_of.add(life)

    def _tell(self, state: State, place: int, *, landed: bool) -> State:
        sender = state.sender
        told = list(sender.told)
        told[place - sender.acknowledged] = landed
        return state._replace(sender=sender._replace(told=tuple(told)))

    # Q.

    def _receive(self, state: State) -> Iterator[tuple[str, State]]:
        receiver = state.receiver
        if receiver.position < len(state.inbox):
            yield self._read(state)
        if receiver.turn is None:
            for name, parity in (("x", 1), ("y", 0)):
                mine = [each for each in receiver.pending if each[1].content % 2 == parity]
                if mine:
                    contents = [message.content for _, message in mine]
                    yield f"Q decides a turn of {name} with {contents}", self._take_turn(state, mine)
        else:
            confirmed = receiver._replace(confirmed=receiver.turn, turn=None)
            yield "Q's turn is confirmed", state._replace(receiver=confirmed)

    def _read(self, state: State) -> tuple[str, State]:
        """R7: the next one of its source only. What was consumed before a crash moves the sequence, and is not pending again."""
        receiver = state.receiver
        offset, message = receiver.position, state.inbox[receiver.position]
        following = receiver.highest + 1
        fits = (
            message.sequence >= following
            if self._flaw is Flaw.HIGHEST_INSTEAD_OF_NEXT
            else message.sequence == following
        )
        after = receiver._replace(position=offset + 1)
        if not fits:
            return f"Q drops {_say(message)}", state._replace(receiver=after)
        after = after._replace(highest=message.sequence)
        if offset not in receiver.confirmed.above:
            after = after._replace(pending=(*receiver.pending, (offset, message)))
        return f"Q reads {_say(message)}", state._replace(receiver=after)

    def _take_turn(self, state: State, mine: list[tuple[int, Message]]) -> State:
        """R8: the turn states the offsets consumed, and a mark below which all is."""
        receiver = state.receiver
        pending = tuple(each for each in receiver.pending if each not in mine)
        above = receiver.confirmed.above | {offset for offset, _ in mine}
        mark = pending[0][0] if pending else receiver.position
        source = receiver.highest if not pending else pending[0][1].sequence - 1
        match self._flaw:
            case Flaw.MARK_ALONE_AT_THE_HIGHEST:
                mark, above = max(offset for offset, _ in mine) + 1, frozenset()
                source = max(message.sequence for _, message in mine)
            case Flaw.MARK_ALONE_AT_THE_LOWEST:
                above = frozenset()
            case Flaw.SOURCE_AHEAD_OF_THE_MARK:
                source = receiver.highest
            case _:
                pass
        delivered = (*receiver.confirmed.delivered, *(message.content for _, message in mine))
        turn = Taken(mark, frozenset(offset for offset in above if offset >= mark), source, delivered)
        return state._replace(receiver=receiver._replace(turn=turn, pending=pending))

    # Crashes.

    def _crash(self, state: State) -> Iterator[tuple[str, State]]:
        crashed = state._replace(crashes=state.crashes + 1)
        sender, receiver = state.sender, state.receiver
        counter = sender.counter if self._flaw is Flaw.SEQUENCES_NOT_DENSE else len(sender.sends)
        again = Sender(sender.sends, None, sender.acknowledged, sender.acknowledged, (), counter, sender.life + 1)
        yield "P crashes; what it was deciding is void", crashed._replace(sender=again)
        taken = receiver.confirmed
        yield "Q crashes", crashed._replace(receiver=Receiver(taken, None, taken.mark, taken.source))


def _say(message: Message) -> str:
    return f"message {message.content} as number {message.sequence}"
