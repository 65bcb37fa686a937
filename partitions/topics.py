"""The topics of a hub: their names, and the settings that the protocol rests on (PROTOCOL.md, Topics)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,200}")

# What is read for years and trimmed by its owner alone (R8, R15): no time or size takes anything from it, its timestamps are
# the log's own (R11), and no election of a leader may take back what was acknowledged.
_STAMPED = {"message.timestamp.type": "LogAppendTime"}
_KEPT = {
    **_STAMPED,
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
}
# Anybody may write there. Unpacked by the broker a batch has no more than `max.message.bytes`; packed, 5 KB may come to gigabytes.
_UNPACKED = {"compression.type": "uncompressed"}
# A dead letter is a record of another topic, whole, and what is said of it.
LETTER_BYTES_MAX = 2 << 20
_DEAD_LETTERS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(LETTER_BYTES_MAX),
}
# Two snapshots of each partition are wanted, and nothing of older ones for long.
_SNAPSHOTS = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.2",
    "segment.bytes": "67108864",
    "delete.retention.ms": "3600000",
}
# A reply is of use only while its client waits; an hour is the log's smallest sensible unit of tidying.
_REPLIES = {"cleanup.policy": "delete", "retention.ms": "3600000", "segment.ms": "3600000", **_STAMPED}


class HubNameRefused(Exception):
    """The name cannot be part of a topic's name; the message says what can."""


@dataclass(frozen=True, slots=True)
class HubTopics:
    """The names of one hub's topics."""

    hub: str

    def __post_init__(self) -> None:
        if not _LEGAL.fullmatch(self.hub):
            raise HubNameRefused(f"a hub's name has 1 to 200 of a-z A-Z 0-9 . _ -, not {self.hub!r}")

    @property
    def inbox(self) -> str:
        return f"{self.hub}.inbox"

    @property
    def history(self) -> str:
        return f"{self.hub}.history"

    @property
    def snapshots(self) -> str:
        return f"{self.hub}.snapshots"

    @property
    def replies(self) -> str:
        return f"{self.hub}.replies"

    @property
    def dead_letter(self) -> str:
        return f"{self.hub}.dead-letter"

    @property
    def all(self) -> tuple[str, ...]:
        return (self.inbox, self.history, self.snapshots, self.replies, self.dead_letter)

    @property
    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """What each topic is created with."""
        return {
            self.inbox: {**_KEPT, **_UNPACKED},
            self.history: _KEPT,
            self.snapshots: _SNAPSHOTS,
            self.replies: _REPLIES,
            self.dead_letter: _DEAD_LETTERS,
        }

    @property
    def required(self) -> Mapping[str, Mapping[str, str]]:
        """What a worker insists on; where a topic differs it refuses to work."""
        return {
            self.inbox: _KEPT,
            self.history: _KEPT,
            self.snapshots: {"cleanup.policy": "compact"},
            self.replies: _STAMPED,
        }
