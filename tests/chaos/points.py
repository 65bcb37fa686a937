"""Crash points: named places in the life of a partition at which a worker process ends itself with SIGKILL, at the n-th time that it
comes there.

Rules of this file: a name says what is about to happen (`turn.append`) or has just happened (`turn.appended`); the places are
calls of ports, which `wrapping` puts between engine and world, and the two ends of an activity; a process has one point at most.
"""

import os
import signal
from dataclasses import dataclass
from functools import cache

VARIABLE = "CHAOS_POINT"

CLAIM = {
    "claim.append": "the claim is about to be sent",
    "claim.appended": "it is sent",
    "claim.landed": "it has landed, and its owner does not know",
    "recovery.read": "the first record of the history is read",
    "recovery.write": "a batch of what was read is about to be written to the store",
    "recovery.written": "it is written",
    "recovery.end": "the history is read up to the claim, and nothing is decided yet",
}
APPEND = {
    "turn.append": "a turn is about to be sent",
    "turn.appended": "it is sent",
    "turn.landed": "it has landed, and its owner does not know",
    "turn.write": "it is confirmed and about to be written to the store",
    "turn.written": "it is in the store, and nothing has followed from it",
    "partition.appended": "a record that changes no instance is sent",
}
ACT = {
    "task.dispatch": "an activity is about to be dispatched",
    "task.dispatched": "it is dispatched",
    "activity.begun": "it runs, and has done nothing",
    "activity.done": "it has had its effect, and nobody knows",
    "result.taken": "its result is about to become a fact",
    "send.publish": "a message to another partition is about to be sent",
    "send.published": "it is sent",
    "send.delivered": "it has landed, and its sender does not know",
    "reply.publish": "an answer is about to be given",
    "reply.published": "it is given",
    "letter.publish": "a dead letter is about to be sent",
}
SNAPSHOT = {
    "checkpoint.append": "a checkpoint is about to be sent",
    "checkpoint.appended": "it is sent",
    "checkpoint.landed": "it has landed, and its owner does not know",
    "store.flush": "the store is about to be made durable as of it",
    "store.flushed": "it is durable",
    "snapshot.chunk": "a piece of a snapshot is about to go to the hub's topic",
    "snapshot.manifest": "all pieces are there, the manifest is not",
    "snapshot.manifested": "the manifest is there",
    "snapshot.delete": "a piece of an older snapshot is about to be deleted",
    "snapshot.load": "a snapshot is being loaded into an empty store",
}
CARRY = {
    "forget.append": "a record that forgets an instance is about to be sent",
    "forget.appended": "it is sent",
    "carry.append": "a history is about to be carried forward",
    "carry.appended": "it is sent",
    "carry.landed": "it has landed, and its owner does not know",
}
TRIM = {
    "inbox.trim": "the inbox is about to be trimmed",
    "inbox.trimmed": "the brokers are asked to",
    "history.trim": "the history is about to be trimmed to its base",
    "history.trimmed": "the brokers are asked to",
}
HAND_OVER = {
    "release.append": "all is done, and the record that says so is about to be sent",
    "release.appended": "it is sent",
    "release.landed": "it has landed, and its owner does not know",
    "store.close": "the store is about to be closed",
    "store.closed": "it is closed",
    "revoked.told": "the group wants a partition to move, and its owner hears of it",
    "revoked.acknowledge": "it is handed over, and the group is about to hear of that",
    "revoked.acknowledged": "the group knows",
    "group.leave": "the process is about to leave the group",
    "group.leaving": "it has said so, and its stores are open",
    "group.left": "it has left",
}
POINTS = {**CLAIM, **APPEND, **ACT, **SNAPSHOT, **CARRY, **TRIM, **HAND_OVER}


@dataclass(frozen=True, slots=True)
class Point:
    """A place, and the how-manieth time there is the last."""

    name: str
    hit: int = 1

    def __str__(self) -> str:
        return f"{self.name}:{self.hit}"

    @classmethod
    def parse(cls, text: str) -> "Point":
        name, _, hit = text.partition(":")
        if name not in POINTS:
            raise ValueError(f"there is no crash point {name!r}; there are {', '.join(POINTS)}")
        return cls(name, int(hit or 1))


class _Armed:
    """The point of this process, if it has one. Only one thread comes to a port; activities come from others, and one of them is
    the last one whichever it is."""

    def __init__(self) -> None:
        text = os.environ.get(VARIABLE, "")
        self._point = Point.parse(text) if text else None
        self._left = self._point.hit if self._point is not None else 0

    def come_to(self, name: str) -> None:
        if self._point is None or self._point.name != name:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


@cache
def _armed() -> _Armed:
    return _Armed()


def strike(name: str) -> None:
    """The process is at this place."""
    assert name in POINTS, name
    _armed().come_to(name)
