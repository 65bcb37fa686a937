"""Mail: what waits for the instances of an owned partition, sorted for one round.

Rules of this file: results come first, since they free what running work holds; then due times, ourselves, and the inbox; every
inbox record becomes mail, a letter, an answer or a count, and none is dropped without one of these (R8, R9).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import field, replace

from perdure.actors.outgoing import Answer
from perdure.schemas import messages as ms
from perdure.schemas.frozen import dataclass
from perdure.schemas.messages import Inbound
from perdure.schemas.records import DEAD_LETTER

from .confirmation import Confirmation
from .due_turns import DueTurns
from .holdings import Holdings
from .intake import Kind, Taken
from .outbox import encode_dead_letter
from .partitioner import partition_of
from .ports import LogRecord
from .suspects import Lost, Suspects


@dataclass(frozen=True, slots=True)
class Mail:
    """A message for an instance and what is consumed with it: an inbox offset, or the sequence of a send to ourselves.

    `value` is the inbox record as it came, for the dead letters.
    """

    message: Inbound
    offset: int = -1
    local: int = 0
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A send before it has its sequence: a message, or for DEAD_LETTER the bytes of `encode_dead_letter`."""

    target: int
    key: str
    content: Inbound | bytes


@dataclass(slots=True)
class Round:
    """One round's mail by instance, and what is consumed without a turn."""

    mail: dict[str, list[Mail]] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)
    idle_locals: list[int] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    watchers: list[Inbound] = field(default_factory=list)
    levels: list[Inbound] = field(default_factory=list)

    def add(self, mail: Mail) -> None:
        self.mail.setdefault(mail.message.instance_id, []).append(mail)


class Mailbox:
    """All that waits for the instances of one partition. At a limit on what drains without the inbox (sends that nobody has taken
    yet), inbox and timers wait; results still come in (R10)."""

    def __init__(self, holdings: Holdings, confirmation: Confirmation) -> None:
        self._home = holdings
        self._confirmation = confirmation
        self._inbox: deque[LogRecord] = deque()
        self._inbox_bytes = 0
        self._locals = deque(Mail(message, local=sequence) for sequence, message in holdings.read_locals())
        lost = holdings.read_lost()
        self._lost = deque(lost.at_once)
        self._suspects = Suspects(lost, holdings.parts.solitude, holdings.partition)
        self.due_turns = DueTurns(holdings.store, holdings.settings.slots_max)

    @property
    def inbox_load(self) -> float:
        """How full the inbox in memory is; 1 and above: no more of it should be read."""
        settings = self._home.settings
        return max(len(self._inbox) / settings.inbox_depth_max, self._inbox_bytes / settings.inbox_bytes_max)

    @property
    def any_waiting(self) -> bool:
        """Whether there is mail that no report, no result and no time is needed for."""
        if self._locals or self._lost or self.due_turns.any_ready:
            return True
        if self._inbox and not self._home.outbox_is_full:
            return True
        return self.due_turns.any_deferred and not self._confirmation.saturated

    def receive(self, records: Sequence[LogRecord]) -> None:
        """Take inbox records, in order."""
        self._inbox.extend(records)
        self._inbox_bytes += sum(map(_size_of, records))

    def send_local(self, message: Inbound, sequence: int) -> None:
        """Keep a send to ourselves for the next round."""
        self._locals.append(Mail(message, local=sequence))

    def try_again(self, lost: Lost) -> None:
        """Have these dispatches made again."""
        self._lost.extend(lost.at_once)
        self._suspects.add(lost)

    def take(self, now_ms: int, *, draining: bool) -> Round:
        """What there is for this round. While draining: results only."""
        mail, home = Round(), self._home
        for result in self._confirmation.take_results():
            mail.add(Mail(result))
        if draining:
            return mail
        room = home.settings.round_messages_max
        self._take_lost(mail, room)
        if not home.outbox_is_full:
            self._take_timers(mail, now_ms, room)
        for _ in range(min(len(self._locals), room)):
            mail.add(self._locals.popleft())
        if not home.outbox_is_full:
            self._take_inbox(mail, room)
        if not self._confirmation.saturated:
            self.due_turns.take_deferred(quiet=self._confirmation.quiet)
        return mail

    def _take_timers(self, mail: Round, now_ms: int, room: int) -> None:
        for timer in self._home.timers.take_due(now_ms, room):
            due = ms.TimerDue(timer.execution_id, timer.task_id, timer.purpose, timer.due_ms)
            mail.add(Mail(Inbound(timer.instance_id, due)))
            self._home.counts.timers_fired += 1
            self._home.counts.timer_lateness.add((now_ms - timer.due_ms) / 1000)

    def _take_inbox(self, mail: Round, room: int) -> None:
        for _ in range(min(len(self._inbox), room)):
            record = self._inbox.popleft()
            self._inbox_bytes -= _size_of(record)
            taken = self._home.intake.take(record)
            if taken is not None:
                self._sort(taken, mail)

    def _take_lost(self, mail: Round, room: int) -> None:
        """Dispatches that never came back: as they are, but the suspects when they may."""
        for _ in range(min(len(self._lost), room)):
            mail.add(Mail(self._lost.popleft()))
        for suspect in self._suspects.take(self._home.parts.clock.monotonic(), room, self._confirmation.is_out):
            mail.add(Mail(suspect))

    def _sort(self, taken: Taken, mail: Round) -> None:
        """What one inbox record is to this round."""
        inbound, counts = taken.inbound, self._home.counts
        if taken.kind == Kind.MESSAGE and inbound is not None:
            mail.add(Mail(inbound, taken.offset, value=taken.record.value))
            return
        if taken.kind == Kind.QUERY and inbound is not None:
            mail.reads.append(taken.offset)
            self._home.queries.ask(inbound, self._confirmation.offset)
            return
        mail.idle.append(taken.offset)
        if taken.kind == Kind.LEVEL and inbound is not None:
            mail.levels.append(inbound)
        elif taken.kind == Kind.FORWARD and inbound is not None:
            counts.forwarded += 1
            target = partition_of(inbound.instance_id, self._home.identity.partition_count)
            mail.letters.append(
                Letter(target, inbound.instance_id, replace(inbound, origin=None, forwards=inbound.forwards + 1))
            )
        elif taken.kind == Kind.UNREADABLE:
            name = inbound.instance_id if inbound is not None else ""
            mail.letters.append(self.dead_letter(taken.reason, taken.record.value, taken.offset, name))
            if inbound is not None and inbound.reply_to is not None:
                code = ms.ReplyCode.REFUSED
                mail.answers.append(Answer(inbound.reply_to, inbound.request_id, code, taken.reason, instance_id=name))
        elif taken.kind == Kind.DUPLICATE:
            counts.duplicates += 1
        else:
            counts.out_of_order += 1

    def dead_letter(self, reason: str, value: bytes | None, offset: int, instance_id: str) -> Letter:
        """The letter that keeps what could not be read or routed; counted."""
        self._home.counts.dead_letters += 1
        self._tell(reason, offset, instance_id)
        headers = {"partition": str(self._home.partition), "offset": str(offset), "instance": instance_id}
        return Letter(DEAD_LETTER, instance_id, encode_dead_letter(reason, value, headers))

    def _tell(self, reason: str, offset: int, instance_id: str) -> None:
        fields: dict[str, str | int] = {"reason": reason}
        if offset >= 0:  # else it was never in the inbox
            fields["offset"] = offset
        if instance_id:
            fields["instance"] = instance_id
        self._home.notices.tell("message.dead_lettered", **fields)


def _size_of(record: LogRecord) -> int:
    return len(record.value or b"")
