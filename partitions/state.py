"""PartitionState: where a partition is, apart from its instances. An owner holds it twice, as tip and as confirmed (R5).

Rules of this file: `apply_body` is the only way in which it changes, live and in recovery alike.
"""

from collections.abc import Iterable
from dataclasses import field
from typing import Any

import orjson

from perdure.schemas.frozen import dataclass
from perdure.schemas.records import FIRST_LEVEL, NO_DIGEST, Checkpoint, SourceMark, TargetState, TurnBody

from .deaths import DEATHS, Deaths, decode_deaths, encode_deaths
from .shape import Shape, has_shape

NO_BASE = -1


@dataclass(slots=True)
class PartitionState:
    """Dense sequences, marks and time of one partition (R7, R8, R11).

    `decided` and `acked` are by target: the highest sequence sent and up to which all is delivered; the own partition and
    DEAD_LETTER are targets too. `sources` is the highest sequence taken, by (history topic id, partition).
    `released`: the last owner stopped in order. `alive_since`: no owner has died since that claim; each has stopped in order, or is the
    very process that claimed next, so that nothing dispatched since then is lost. `base` is the highest one named, or NO_BASE (R15).
    `address`: where the last owner is reached.
    """

    inbox_mark: int = 0
    consumed_above: set[int] = field(default_factory=set)
    sources: dict[tuple[str, int], int] = field(default_factory=dict)
    decided: dict[int, int] = field(default_factory=dict)
    acked: dict[int, int] = field(default_factory=dict)
    time_ms: int = 0
    level: int = FIRST_LEVEL
    released: bool = True
    alive_since: int = 0
    base: int = NO_BASE
    address: str = ""
    deaths: Deaths = field(default_factory=Deaths)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> "PartitionState":
        """The state that a base states, for a reader that begins there (R15)."""
        return cls(
            checkpoint.inbox_mark,
            set(checkpoint.consumed_above),
            {(mark.topic_id, mark.partition): mark.sequence for mark in checkpoint.sources},
            {target.target: target.decided for target in checkpoint.targets},
            {target.target: target.acked for target in checkpoint.targets if target.acked},
            checkpoint.time_ms,
            checkpoint.level,
            released=False,
            base=checkpoint.base,
            address=checkpoint.address,
            deaths=Deaths.of_checkpoint(checkpoint.owner, checkpoint.tried),
        )

    def apply_body(self, body: TurnBody) -> None:
        """What one accepted TURN, PARTITION or FORGOTTEN record changes."""
        self.time_ms = body.time_ms
        self.apply_consumed(body.consumed, body.inbox_mark)
        for source in body.sources:
            self.sources[source.topic_id, source.partition] = source.sequence
        for send in body.sends:
            self.decided[send.target] = send.sequence
        for cursor in body.cursors:
            self.acked[cursor.target] = cursor.acked
        self.released = body.released

    def apply_consumed(self, offsets: Iterable[int], mark: int) -> None:
        """Move the inbox position; the mark closes the holes below it (R8)."""
        if mark > self.inbox_mark:
            self.inbox_mark = mark
            if self.consumed_above:
                self.consumed_above = {offset for offset in self.consumed_above if offset >= mark}
        for offset in offsets:
            if offset >= self.inbox_mark:
                self.consumed_above.add(offset)

    def checkpoint(self, base: int = NO_BASE) -> Checkpoint:
        """This state as a checkpoint record states it (R15). Its time is that of the last record: set it first to state another."""
        targets = tuple(
            TargetState(target, self.decided[target], self.acked.get(target, 0)) for target in sorted(self.decided)
        )
        sources = tuple(
            SourceMark(topic, source, sequence) for (topic, source), sequence in sorted(self.sources.items())
        )
        above = tuple(sorted(self.consumed_above))
        return Checkpoint(
            self.time_ms,
            self.inbox_mark,
            above,
            sources,
            targets,
            self.level,
            base,
            self.deaths.owner,
            self.address,
            self.deaths.tried(),
        )

    def copy(self) -> "PartitionState":
        return PartitionState(
            self.inbox_mark,
            set(self.consumed_above),
            dict(self.sources),
            dict(self.decided),
            dict(self.acked),
            self.time_ms,
            self.level,
            self.released,
            self.alive_since,
            self.base,
            self.address,
            self.deaths.copy(),
        )


@dataclass(frozen=True, slots=True)
class Anchor:
    """The place in the log that a store is the fold of (R14): `previous` and `digest` are the running digests before and
    after the record at `offset`, whose last `record_bytes` they cover."""

    cluster_id: str
    topic_id: str
    partition: int
    epoch: int
    offset: int
    previous: bytes
    digest: bytes


STORE_FORMAT = 5


def encode_anchor(anchor: Anchor, state: PartitionState) -> bytes:
    """The store's own record of where it is; a local format, not a wire format."""
    return orjson.dumps(
        [
            STORE_FORMAT,
            [
                anchor.cluster_id,
                anchor.topic_id,
                anchor.partition,
                anchor.epoch,
                anchor.offset,
                anchor.previous.hex(),
                anchor.digest.hex(),
            ],
            state.inbox_mark,
            sorted(state.consumed_above),
            [[topic, source, sequence] for (topic, source), sequence in state.sources.items()],
            list(state.decided.items()),
            list(state.acked.items()),
            state.time_ms,
            state.level,
            state.released,
            state.alive_since,
            state.base,
            state.address,
            encode_deaths(state.deaths),
        ]
    )


_ANCHOR: Shape = (
    int,
    (str, str, int, int, int, str, str),
    int,
    [int],
    [(str, int, int)],
    [(int, int)],
    [(int, int)],
    int,
    int,
    bool,
    int,
    int,
    str,
    DEATHS,
)


def decode_anchor(value: bytes) -> tuple[Anchor, PartitionState] | None:
    """The reverse; None if it is not what this build writes, and the store is to be rebuilt."""
    try:
        fields: list[Any] = orjson.loads(value)
        if not has_shape(fields, _ANCHOR) or fields[0] != STORE_FORMAT:
            return None
        cluster, topic, partition, epoch, offset, previous, digest = fields[1]
        anchor = Anchor(cluster, topic, partition, epoch, offset, bytes.fromhex(previous), bytes.fromhex(digest))
    except ValueError:
        return None
    state = PartitionState(
        fields[2],
        set(fields[3]),
        {(topic_id, source): sequence for topic_id, source, sequence in fields[4]},
        dict(fields[5]),
        dict(fields[6]),
        fields[7],
        fields[8],
        fields[9],
        fields[10],
        fields[11],
        fields[12],
        decode_deaths(fields[13]),
    )
    return anchor, state


NOWHERE = Anchor("", "", -1, -1, -1, NO_DIGEST, NO_DIGEST)
