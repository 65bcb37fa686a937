"""What the records of one partition say of its inbox, its sends, its sources and its time, held to R7, R8, R11 and R12."""

from collections.abc import Iterator, Sequence

from perdure.partitions.partitioner import partition_of
from perdure.partitions.state import PartitionState
from perdure.schemas.codec import VOCABULARY, WireError, decode_inbound
from perdure.schemas.events import UnknownEvent
from perdure.schemas.records import DEAD_LETTER, Checkpoint, Claim, Send, TurnBody

Wrong = Iterator[tuple[str, str]]
"""Rule and message."""


class Marks:
    """The state of a partition apart from its instances, checked as it moves. `trimmed`: the first record is a base, which says how
    the partition stood."""

    def __init__(self, partition: int, *, trimmed: bool = False) -> None:
        self._partition = partition
        self._state = PartitionState()
        self._unseen = trimmed
        self._locals: set[int] = set()
        self._sent_before = 0
        self._taken_of_before: set[int] = set()
        self._sent: dict[int, dict[int, int]] = {}
        self.partition_count = 0

    def take_claim(self, claim: Claim) -> None:
        """Note who owns the partition now, and from where."""
        self._state.deaths.take_claim(claim.owner, claim.time_ms, released=self._state.released)
        self._state.address = claim.address

    def take_attempt(self, instances: Sequence[str]) -> None:
        """Note what an owner is about to try (R13)."""
        self._state.deaths.take_attempt(instances)

    def take_body(self, instance_id: str, body: TurnBody, *, forgotten: bool) -> Wrong:
        """Apply one TURN, PARTITION or FORGOTTEN record."""
        state = self._state
        if body.time_ms < state.time_ms:
            yield "R11", f"partition time went back from {state.time_ms} to {body.time_ms}"
        yield from self._check_consumed(body)
        yield from self._check_cursors(body)
        yield from self._check_sources(body)
        yield from self._check_locals(body)
        yield from self._check_sends(body)
        yield from self._check_levels(body)
        state.apply_body(body)
        state.deaths.take_body(instance_id, body, forgotten=forgotten)

    @property
    def base(self) -> int:
        """The highest base that was named, or NO_BASE."""
        return self._state.base

    def take_checkpoint(self, offset: int, checkpoint: Checkpoint) -> Wrong:
        """Compare what a checkpoint states with what the records before it say (R15)."""
        if self._unseen:
            self._unseen, self._state = False, PartitionState.of_checkpoint(checkpoint)
            self._sent_before = self._state.decided.get(self._partition, 0)
        yield from self._compare(checkpoint)
        self._sent[offset] = {target.target: target.decided for target in checkpoint.targets}

    def take_base(self, base: int) -> Wrong:
        """What it takes to name a base: a checkpoint that is there, and nothing decided before it that is still to be sent."""
        if base <= self._state.base:
            return
        sent = self._sent.get(base)
        if sent is None:
            yield "R15", f"base {base} is named, and no checkpoint is there"
        else:
            yield from self._check_sent(base, sent)
        self._sent = {offset: known for offset, known in self._sent.items() if offset > base}
        self._state.base = base

    def _check_sent(self, base: int, sent: dict[int, int]) -> Wrong:
        for target, decided in sent.items():
            acked = self._state.acked.get(target, 0)
            if target != self._partition and acked < decided:
                yield (
                    "R15",
                    f"base {base} is named, and of {decided} sends to target {target} before it {acked} are acknowledged",
                )
        if any(sequence <= sent.get(self._partition, 0) for sequence in self._locals):
            yield "R15", f"base {base} is named, and sends to the own partition before it wait to be taken"

    def _compare(self, checkpoint: Checkpoint) -> Wrong:
        if checkpoint.time_ms < self._state.time_ms:
            yield "R11", f"partition time went back from {self._state.time_ms} to {checkpoint.time_ms}"
        self._state.time_ms = checkpoint.time_ms
        expected = self._state.checkpoint(checkpoint.base)
        for name in Checkpoint.__slots__:
            stated, found = getattr(checkpoint, name), getattr(expected, name)
            if stated != found:
                yield "R15", f"the checkpoint's {name} is {stated}, the records before it say {found}"

    def take_level(self, level: int) -> Wrong:
        """Apply a raised format level (R12)."""
        if level <= self._state.level:
            yield "R12", f"the format level was raised from {self._state.level} to {level}"
        self._state.level = max(self._state.level, level)

    def _check_levels(self, body: TurnBody) -> Wrong:
        for event in body.events:
            level = VOCABULARY.level_of(event)
            if level > self._state.level:
                kind = f"an event of kind {event.kind}" if isinstance(event, UnknownEvent) else type(event).__name__
                yield "R12", f"{kind} is of format level {level}, and the partition's is {self._state.level}"

    def _check_consumed(self, body: TurnBody) -> Wrong:
        state, seen = self._state, set[int]()
        for offset in body.consumed:
            if offset < state.inbox_mark or offset in state.consumed_above or offset in seen:
                yield "R8", f"inbox offset {offset} was consumed twice"
            seen.add(offset)
        if body.inbox_mark < state.inbox_mark:
            yield "R8", f"the inbox mark went back from {state.inbox_mark} to {body.inbox_mark}"

    def _check_cursors(self, body: TurnBody) -> Wrong:
        state = self._state
        for cursor in body.cursors:
            decided, acked = state.decided.get(cursor.target, 0), state.acked.get(cursor.target, 0)
            if not acked < cursor.acked <= decided:
                yield (
                    "R7",
                    f"the cursor of target {cursor.target} moved from {acked} to {cursor.acked}, with {decided} sends decided",
                )

    def _check_sources(self, body: TurnBody) -> Wrong:
        state, taken = self._state, 0
        for source in body.sources:
            known = state.sources.get((source.topic_id, source.partition), 0)
            taken += source.sequence - known
            if source.sequence <= known:
                yield "R7", f"source {source.topic_id}/{source.partition} went from {known} to {source.sequence}"
        # The mark passes every message whose source it states, so a source cannot move further than the mark.
        if body.sources and taken > body.inbox_mark - state.inbox_mark:
            yield "R7", f"sources moved by {taken}, the inbox mark by {body.inbox_mark - state.inbox_mark}"

    def _check_locals(self, body: TurnBody) -> Wrong:
        for sequence in body.locals:
            if sequence <= self._sent_before and sequence not in self._taken_of_before:
                self._taken_of_before.add(sequence)  # its sending was trimmed away
            elif sequence not in self._locals:
                yield "R7", f"send {sequence} to the own partition was taken, but was not waiting"
            self._locals.discard(sequence)

    def _check_sends(self, body: TurnBody) -> Wrong:
        following = dict(self._state.decided)
        for send in body.sends:
            expected = following.get(send.target, 0) + 1
            following[send.target] = send.sequence
            if send.sequence != expected:
                yield "R7", f"send {send.sequence} to target {send.target}, expected {expected}"
            if send.target == self._partition:
                self._locals.add(send.sequence)
            if send.target != DEAD_LETTER:
                yield from self._check_message(send)

    def _check_message(self, send: Send) -> Wrong:
        """What is sent is a message for an instance of its target, and names where it comes from."""
        try:
            message = decode_inbound(send.message)
        except WireError as error:
            yield "R7", f"send {send.sequence} to target {send.target} is no message: {error}"
            return
        right = partition_of(message.instance_id, self.partition_count) if self.partition_count else send.target
        if right != send.target:
            yield (
                "R9",
                f"send {send.sequence} for {message.instance_id!r} goes to partition {send.target}, which is {right}'s",
            )
        origin = message.origin
        own = (None, None) if send.target == self._partition else (self._partition, send.sequence)
        if own != ((origin.partition, origin.sequence) if origin else (None, None)):
            yield "R7", f"send {send.sequence} to target {send.target} names another origin: {origin}"
