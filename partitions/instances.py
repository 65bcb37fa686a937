"""Instances of one partition on the tip: hot ones in memory, cold ones folded from the store (R5).

Rules of this file: a slot with unconfirmed turns is never evicted, since the store does not have them yet; evicting a slot
closes its code, which records nothing.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from perdure.actors.errors import TurnInterrupted
from perdure.actors.executor import Executor, InstanceHeld, RecordedTurn
from perdure.actors.instance import InstanceState, apply_turn
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_turn
from perdure.schemas.events import HistoryEvent
from perdure.schemas.records import CarriedTurn, TurnBody

from .header import InstanceHeader, read_header
from .keys import carried_key, end_of, history_key, history_prefix
from .ledger import decode_stored_turn
from .ports import Store

T = TypeVar("T")
EVICTED_AT_ONCE_MAX = 100


class Watch(Protocol):
    """Runs author's code, so that what has no end is interrupted."""

    def __call__(self, act: Callable[[], T], /) -> T: ...


def unwatched(act: Callable[[], T], /) -> T:
    """Run it as it is."""
    return act()


class Unconfirmed(NamedTuple):
    """A record of an instance that is on its way; `body` is None for a history that is carried forward."""

    offset: int
    body: TurnBody | None
    encoded: bytes
    format: int


@dataclass(frozen=True, slots=True)
class SlotBounds:
    """How many instances are kept in memory, and how many bytes of history theirs may be together."""

    count: int
    bytes: int


class Slot:
    """One instance on the tip. `state` is None where there is none; `header` is what the store has of it, but for its progress, and
    `standing` that as bytes, once they are needed; `bytes` are those of the execution's history, which is about what it takes in memory."""

    __slots__ = ("_watch", "bytes", "executor", "header", "held", "instance_id", "standing", "state", "unconfirmed")

    def __init__(
        self, instance_id: str, state: InstanceState | None, header: InstanceHeader | None, watch: Watch = unwatched
    ) -> None:
        self._watch = watch
        self.instance_id = instance_id
        self.state = state
        self.bytes = 0
        self.show(header)
        self.executor: Executor | None = None
        self.held: InstanceHeld | None = None
        self.unconfirmed: deque[Unconfirmed] = deque()

    def show(self, header: InstanceHeader | None) -> None:
        """The store has this header of it now."""
        self.header = header
        self.standing = b""

    def close(self) -> None:
        """Let the live code go. It may do anything on its way out, so it is watched as in a turn."""
        executor, self.executor = self.executor, None
        if executor is not None:
            with suppress(TurnInterrupted):
                self._watch(executor.close)


class Instances:
    """The slots of one partition, within bounds but for those with unconfirmed turns. `watch` runs author's code.

    Of a held instance that is not in memory only the reason stays: after a deploy of the wrong code that may be very many.
    """

    def __init__(self, store: Store, bounds: SlotBounds, watch: Watch = unwatched) -> None:
        self._store = store
        self._watch = watch
        self._bounds = bounds
        self._bytes = 0
        self._slots: OrderedDict[str, Slot] = OrderedDict()
        self._held: dict[str, InstanceHeld] = {}

    @property
    def held_count(self) -> int:
        return len(self._held)

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, instance_id: str) -> Slot:
        """The slot of an instance, from memory or folded from the store."""
        slot = self._slots.get(instance_id)
        if slot is None:
            header = read_header(self._store, instance_id)
            state, size = (None, 0) if header is None else _read_sized(self._store, instance_id)
            slot = Slot(instance_id, state, header, self._watch)
            slot.held = self._held.get(instance_id)
            self._slots[instance_id] = slot
            self._add_bytes(slot, size)
            self._evict()
        else:
            self._slots.move_to_end(instance_id)
        return slot

    def append(self, slot: Slot, record: Unconfirmed) -> None:
        """A record of this instance is on its way."""
        slot.unconfirmed.append(record)
        if record.body is not None and (slot.state is None or slot.state.turns_count <= 1):
            self._add_bytes(slot, -slot.bytes)
        self._add_bytes(slot, len(record.encoded))

    def _add_bytes(self, slot: Slot, size: int) -> None:
        slot.bytes += size
        if self._slots.get(slot.instance_id) is slot:
            self._bytes += size

    def _evict(self) -> None:
        """Drop the coldest slots; the newest is the one asked for, and stays."""
        excess = len(self._slots) - self._bounds.count
        if self._bytes > self._bounds.bytes:
            excess = max(excess, min(EVICTED_AT_ONCE_MAX, len(self._slots) - 1))
        for instance_id in list(islice(self._slots, max(excess, 0))):
            if len(self._slots) <= self._bounds.count and self._bytes <= self._bounds.bytes:
                return
            self.drop(self._slots[instance_id])

    def drop(self, slot: Slot) -> None:
        """Forget a slot that will not be needed soon; a pinned one stays."""
        if not slot.unconfirmed and self._slots.get(slot.instance_id) is slot:
            slot.close()
            self._add_bytes(slot, -slot.bytes)
            del self._slots[slot.instance_id]

    def hold(self, slot: Slot, held: InstanceHeld | None) -> None:
        """Mark an instance held, or no longer."""
        if held is None:
            slot.held = None
            self._held.pop(slot.instance_id, None)
        else:
            # Its traceback would hold the frames of the author's code, and all that is in them.
            self._held[slot.instance_id] = slot.held = InstanceHeld(held.reason, kind=held.kind)
            slot.close()

    def history(self, slot: Slot) -> list[RecordedTurn]:
        """All turns of the slot's execution, on the tip: those in the store, then those not confirmed yet."""
        turns = [recorded for _, recorded in read_turns(self._store, slot.instance_id)]
        for record in slot.unconfirmed:
            if record.body is not None:
                if begins_execution(record.body):
                    turns.clear()
                turns.append(recorded_turn(record.body))
        return turns

    def carried_turns(self, slot: Slot) -> tuple[CarriedTurn, ...]:
        """The same turns as their own records had them (R15)."""
        prefix = history_prefix(slot.instance_id)
        stored = self._store.scan(history_key(slot.instance_id, 1), end_of(prefix))
        turns = [CarriedTurn(*decode_stored_turn(value)) for _, value in stored]
        for record in slot.unconfirmed:
            if record.body is not None:
                if begins_execution(record.body):
                    turns.clear()
                turns.append(CarriedTurn(record.offset, record.format, record.encoded))
        return tuple(turns)

    def close(self) -> None:
        for slot in self._slots.values():
            slot.close()
        self._slots.clear()
        self._bytes = 0


def begins_execution(body: TurnBody) -> bool:
    return any(isinstance(event, ev.ExecutionStarted) for event in body.events)


def recorded_turn(body: TurnBody) -> RecordedTurn:
    """A record's part in the newest execution: where one execution ends and another begins in it, only what begins."""
    decided, events = execution_part(body.decided, body.events)
    return RecordedTurn(body.time_ms, decided, events)


def execution_part(decided: bool, events: tuple[HistoryEvent, ...]) -> tuple[bool, tuple[HistoryEvent, ...]]:
    """The events from the last start on; the turn that begins an execution after another does not decide it."""
    for index in range(len(events) - 1, 0, -1):
        if type(events[index]) is ev.ExecutionStarted:
            return False, events[index:]
    return decided, events


def read_turns(store: Store, instance_id: str) -> Iterator[tuple[int, RecordedTurn]]:
    """The turns of the instance's newest execution in the store, with their offsets."""
    for offset, turn, _ in _read_turns_sized(store, instance_id):
        yield offset, turn


def _read_turns_sized(store: Store, instance_id: str) -> Iterator[tuple[int, RecordedTurn, int]]:
    for _, value in store.scan(history_key(instance_id, 1), end_of(history_prefix(instance_id))):
        offset, level, encoded = decode_stored_turn(value)
        yield offset, recorded_turn(decode_turn(encoded, level)), len(encoded)


def read_state(store: Store, instance_id: str) -> InstanceState:
    """The fold of the instance's newest execution (I4)."""
    return _read_sized(store, instance_id)[0]


def _read_sized(store: Store, instance_id: str) -> tuple[InstanceState, int]:
    """The same with the bytes of the history."""
    state: InstanceState | None = None
    size = 0
    for _, turn, turn_bytes in _read_turns_sized(store, instance_id):
        state = apply_turn(state, turn.events, instance_id=instance_id, time_ms=turn.time_ms, decided=turn.decided)
        size += turn_bytes
    assert state is not None, f"{instance_id!r} has a header and no history"
    carried = store.get(carried_key(instance_id))
    if carried is not None:
        state = replace(state, carried_at=int.from_bytes(carried, "big"))
    return state, size
