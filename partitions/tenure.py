"""Tenure: one owner's time on a partition, from a confirmed claim until the epoch ends. `round` is the loop (R5).

Rules of this file: decisions are made on the tip; the store, readers and the world see only what is confirmed; when the epoch
ends the whole Tenure is dropped, and with it every decision that was not confirmed.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from time import perf_counter

import structlog

from perdure.actors.errors import TurnInterrupted
from perdure.actors.executor import Executor, turn_too_long
from perdure.actors.instance import InstanceState
from perdure.actors.outgoing import Answer, Outgoing
from perdure.actors.setting import Setting
from perdure.actors.turn import Turn, may_decide, take_turn
from perdure.schemas import messages as ms
from perdure.schemas.codec import encode_attempt, encode_carried, encode_checkpoint, encode_inbound, encode_level
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.messages import Inbound, Origin
from perdure.schemas.records import LEVEL, Attempt, CarriedHistory, LevelRaised, RecordKind, Send, TurnBody

from .care import Care, find_poison
from .confirmation import Confirmation, Decided
from .epoch import Epoch, EpochEnded
from .holdings import Holdings
from .instances import Slot, Unconfirmed
from .levels import WrittenLevel, why_not_raised
from .mail import Letter, Mail, Mailbox, Round
from .oversize import describe_oversize, sent_instead
from .partitioner import partition_of
from .place import PLACE
from .ports import LogRecord
from .retention import Retention
from .state import NO_BASE

_log = structlog.get_logger("perdure.partitions")
NO_OFFSET = -1


UNSTATED_RECORDS_MAX = 1_000
"""Inbox records that were only read from, and of which no history record says that they are consumed."""


class Tenure:
    """The owned partition. `round` never blocks."""

    def __init__(self, holdings: Holdings, epoch: "Epoch[Decided]") -> None:
        self._home = holdings
        self._epoch = epoch
        self._tip = holdings.fold.state.copy()
        self._level = WrittenLevel(self._tip.level)
        self._confirmation = Confirmation(holdings, epoch)
        self._mailbox = Mailbox(holdings, self._confirmation)
        self._retention = self._make_retention()
        self._confirmation.trim_history()
        self._confirmation.release_readable()
        deaths = holdings.fold.state.deaths
        self._poison = find_poison(deaths)
        self._care = self._take_care(deaths.suspects) if deaths.careful else None
        self._hold_poison()
        self._progress_at = holdings.parts.clock.monotonic()
        self.draining = False

    def _take_care(self, suspects: Collection[str]) -> Care:
        return Care(suspects, self._poison, self._home.parts.clock.monotonic())

    def _hold_poison(self) -> None:
        """What killed its owners is not tried again by this one (R13)."""
        for name, held in self._poison.items():
            slot = self._home.instances.get(name)
            if slot.state is not None and not slot.state.status.terminal:
                self._confirmation.hold(slot, held)

    def _make_retention(self) -> Retention | None:
        home, seconds = self._home, self._home.settings.retention_seconds
        if seconds is None:
            return None
        return Retention(home.fold, self._tip, home.instances.get, int(seconds * 1000))

    def receive(self, records: Sequence[LogRecord]) -> None:
        """Take inbox records, in order."""
        self._mailbox.receive(records)

    @property
    def inbox_load(self) -> float:
        """How full the inbox in memory is; 1 and above: no more of it should be read."""
        return self._mailbox.inbox_load

    @property
    def checkpoint_age_seconds(self) -> float:
        """Time since the checkpoint that recovery would start from; 0 while nothing happened after it."""
        return self._confirmation.checkpoint_age_seconds

    @property
    def checkpoint_late(self) -> bool:
        """Whether that is longer ago than it should ever be."""
        return self._confirmation.checkpoint_late

    @property
    def next_offset(self) -> int:
        """Where the next record is to land."""
        return self._epoch.next_offset

    @property
    def confirmed_offset(self) -> int:
        """The last record that is known to stand where it should."""
        return self._epoch.confirmed_offset

    @property
    def quiet(self) -> bool:
        """Nothing is on its way: all that was decided is confirmed."""
        return self._epoch.quiet

    def round(self) -> bool:
        """One round; true if another one would find something to do by now. Raises EpochEnded."""
        now_ms = self._now_ms()
        # 1. Reports in order; what they confirm becomes visible: store, then effects, then replies (R4, R5).
        worked = self._confirmation.take(self._epoch.take_confirmed())
        self._check_progress(worked)
        # 2. Back-pressure: while appends wait, decide nothing more; what frees them comes in by step 1 (R10).
        self._epoch.send()
        if self._epoch.full or self._is_full():
            return worked
        # 3. Mail; with care a part of it, once the log says what is tried (R13).
        mail = self._take_mail(now_ms) if self._care is None else self._take_portion(self._care, now_ms)
        # 4. A turn on the tip for each instance that has mail, or has facts that its code may see now.
        for name, waiting in mail.mail.items():
            self._take_turns(name, waiting, mail, now_ms)
        self._raise_level(mail, now_ms)
        # 5. What changed no instance is consumed by a partition record, so every round closes its holes (R8).
        self._close_round(mail, now_ms)
        # 6. What outlives the retention is carried forward (R15).
        self._carry_forward(now_ms)
        # 7. The checkpoint, if it is due; all that was decided leaves (R4, R15). Confirmed sends and snapshots go out (R7, R14).
        if self._confirmation.checkpoint_due or (self._retention is not None and self._retention.ready != NO_BASE):
            self.append_checkpoint()
        self._epoch.send()
        sent = self._home.outbox.step(now_ms) | self._home.archive.step()
        if self._care is not None:
            return worked or sent or bool(mail.mail or mail.idle or mail.reads)
        return sent or bool(mail.idle or mail.reads) or (self._mailbox.any_waiting and not self.draining)

    def _is_full(self) -> bool:
        """So much is on its way that nothing more is decided until some of it is confirmed."""
        epoch, settings = self._epoch, self._home.settings
        return epoch.in_flight >= settings.appends_in_flight_max or epoch.in_flight_bytes >= settings.appends_bytes_max

    def _check_progress(self, worked: bool) -> None:
        """A report that does not come in time ends the epoch: the record may be there or not, and recovery will see (R4)."""
        now, limit = self._home.parts.clock.monotonic(), self._home.settings.append_seconds_max
        if worked or not self._epoch.in_flight:
            self._progress_at = now
        elif now - self._progress_at > limit:
            raise EpochEnded(f"epoch {self._epoch.number}: an append was not reported within {limit} s")

    def _now_ms(self) -> int:
        """Partition time. A leap of the wall clock ends the epoch: whoever claims next asks the log whether it is true (R11)."""
        time = self._home.time
        now_ms = time.now_ms()
        if time.leap_ms:
            raise EpochEnded(f"epoch {self._epoch.number}: the clock of this machine has leapt {time.leap_ms} ms ahead")
        return now_ms

    def _take_mail(self, now_ms: int) -> Round:
        mail = self._mailbox.take(now_ms, draining=self.draining)
        if self.draining:
            return mail
        if self._retention is not None:
            for name in self._retention.take_expired(now_ms):
                mail.add(Mail(Inbound(name, ms.Purge())))
                self._home.counts.expired += 1
        for name in self._mailbox.due_turns.take():
            mail.mail.setdefault(name, [])
        return mail

    def _take_portion(self, care: Care, now_ms: int) -> Round:
        """The part of a round that may be taken now; an empty round while the log does not say yet what is tried (R13)."""
        if care.empty:
            care.fill(self._take_mail(now_ms))
        names = care.to_state()
        if names is not None:
            care.state(names, self._epoch.next_offset)
            self._tip.deaths.take_attempt(names)
            self._append(
                Decided(RecordKind.ATTEMPT, attempt=names), encode_attempt(Attempt(now_ms, names), self._level.number)
            )
        portion = care.take(self._epoch.confirmed_offset)
        if care.is_over(self._home.parts.clock.monotonic()):
            self._care = None
        return portion or Round()

    def _take_turns(self, name: str, waiting: Sequence[Mail], round_: Round, now_ms: int) -> None:
        """One turn, and another where a purge cut the first one short."""
        while True:
            taken = self._take_turn(name, waiting, round_, now_ms)
            waiting = waiting[taken:]
            if not waiting:
                return

    def _take_turn(self, name: str, mails: Sequence[Mail], round_: Round, now_ms: int) -> int:
        home, counts = self._home, self._home.counts
        PLACE.instance, PLACE.turn = name, self._epoch.next_offset
        slot = home.instances.get(name)
        before, since = slot.state, perf_counter()
        inbox = [mail.message for mail in mails]
        may = self._may_decide(slot, inbox)
        setting = Setting(
            now_ms,
            self._epoch.next_offset,
            lambda _, started: self._code(slot, started),
            home.settings.limits,
            may,
            self._level.flags,
        )
        turn = self._watched_turn(slot, inbox, setting)
        self._note_held(slot, turn, may)
        counts.turns += 1
        counts.results_dropped += turn.dropped
        taken = mails[: turn.taken]
        for message, reason in turn.unroutable:
            mail = next(mail for mail in taken if mail.message is message)
            round_.letters.append(
                self._mailbox.dead_letter(reason, mail.value or encode_inbound(message), mail.offset, name)
            )
        if turn.empty:
            round_.idle.extend(mail.offset for mail in taken if mail.offset >= 0)
            round_.idle_locals.extend(mail.local for mail in taken if mail.local)
            round_.answers.extend(turn.answers)
            round_.letters.extend(self._letter(outgoing) for outgoing in turn.sends)
            # What they wait for may be decided and not confirmed: they look after the round's own record (R5).
            round_.watchers.extend(turn.watchers)
        else:
            self._append_turn(slot, before, turn, taken, now_ms)
        self._follow_up(slot, turn, before, now_ms)
        counts.turn_times.add(perf_counter() - since)
        return turn.taken

    def _watched_turn(self, slot: Slot, inbox: Sequence[Inbound], setting: Setting) -> Turn:
        """The turn; where it was interrupted outside the author's code, or the code went on in spite of it, its facts alone."""
        try:
            return self._home.parts.watch_turn(lambda: take_turn(slot.instance_id, slot.state, inbox, setting))
        except TurnInterrupted:
            slot.close()
            turn = take_turn(slot.instance_id, slot.state, inbox, replace(setting, may_decide=False))
            undecided = turn.state is not None and may_decide(turn.state, setting.now_ms)
            return replace(turn, held=turn_too_long(setting.limits.turn_seconds_max) if undecided else None)

    def _may_decide(self, slot: Slot, inbox: Sequence[Inbound]) -> bool:
        """Facts only while draining, while held (unless resumed), and for new work at the limit on running work (R10)."""
        if self.draining:
            return False
        if slot.instance_id in self._poison:
            if _asks_to_resume(inbox):
                self._try_poison(slot)
            return False
        if slot.held is not None:
            if not _asks_to_resume(inbox):
                return False
            self._confirmation.release_held(slot)
            self._mailbox.try_again(self._confirmation.stranded_tasks(slot))
            return True
        new = slot.state is None or (slot.state.turns_count <= 1 and len(slot.state.undelivered) > 0)
        if new and self._confirmation.saturated:
            came_later = slot.state is not None and slot.state.started.start_at_ms > slot.state.updated_at_ms
            self._mailbox.due_turns.defer(slot.instance_id, only_here=came_later)
            return False
        return True

    def _try_poison(self, slot: Slot) -> None:
        """It was resumed. That is recorded before its code runs, alone, so that it kills once more at most (R13)."""
        del self._poison[slot.instance_id]
        self._confirmation.release_held(slot)
        self._care = self._care or self._take_care(())
        self._care.suspect(slot.instance_id)

    def _code(self, slot: Slot, started: ExecutionStarted) -> Executor:
        """The execution's live code: kept while hot, else replayed from history."""
        if slot.executor is None:
            executor = self._home.parts.code.executor(slot.instance_id, started)
            slot.executor = executor
            history = [] if slot.state is None else self._home.instances.history(slot)
            if history:
                executor.replay(history)
        return slot.executor

    def _note_held(self, slot: Slot, turn: Turn, tried: bool) -> None:
        if turn.held is not None:
            self._confirmation.hold(slot, turn.held)
        elif slot.held is not None and (tried or _is_over(slot.state, turn.state)):
            self._confirmation.release_held(slot)

    def _append_turn(
        self, slot: Slot, before: InstanceState | None, turn: Turn, mails: Sequence[Mail], now_ms: int
    ) -> None:
        kind = RecordKind.FORGOTTEN if turn.forgotten else RecordKind.TURN
        letters = [self._letter(outgoing) for outgoing in turn.sends]
        offsets = tuple([mail.offset for mail in mails if mail.offset >= 0])
        locals_ = tuple([mail.local for mail in mails if mail.local])
        body, numbered = self._body(turn, now_ms, (offsets, locals_), letters)
        slot.state = turn.state
        offset = self._epoch.next_offset
        decided = Decided(kind, slot.instance_id, body, before, turn.state, slot, turn.answers, turn.watchers, numbered)
        encoded = self._append_body(body, decided)
        self._home.instances.append(slot, Unconfirmed(offset, body, encoded, decided.format))

    def _letter(self, outgoing: Outgoing | Inbound) -> Letter:
        target = partition_of(outgoing.instance_id, self._home.identity.partition_count)
        return Letter(target, outgoing.instance_id, Inbound(outgoing.instance_id, outgoing.body, outgoing.request_id))

    def _body(
        self,
        turn: Turn | None,
        now_ms: int,
        consumed: tuple[tuple[int, ...], tuple[int, ...]],
        letters: Sequence[Letter],
    ) -> tuple[TurnBody, tuple[tuple[str, Send], ...]]:
        """A record's body, and its sends with their keys. Sequences are dense for each target, in order of the records (R7)."""
        home = self._home
        numbered: list[tuple[str, Send]] = []
        waiting = list(letters)
        for letter in waiting:
            send = self._number(letter)
            if isinstance(letter.content, Inbound) and self._is_oversize(send):
                reason = describe_oversize(len(send.message), home.parts.log.record_bytes_max)
                _log.error("message.too_large", target=send.target, to=letter.key, bytes=len(send.message))
                send = self._number(self._mailbox.dead_letter(reason, send.message, NO_OFFSET, letter.key))
                told = sent_instead(letter.content, reason)
                waiting.extend([] if told is None else [self._letter(told)])
            self._tip.decided[send.target] = send.sequence
            numbered.append((letter.key, send))
        offsets, locals_ = consumed
        home.intake.consume(offsets)
        mark, sources = home.intake.take_marks()
        events, decided = (turn.events, turn.decided) if turn is not None else ((), True)
        sends = tuple([send for _, send in numbered])
        body = TurnBody(now_ms, offsets, mark, locals_, decided, events, sends, home.outbox.take_cursors(), sources)
        return body, tuple(numbered)

    def _is_oversize(self, send: Send) -> bool:
        """Sends to ourselves need no message (R7)."""
        return send.target != self._home.partition and len(send.message) > self._home.parts.log.record_bytes_max

    def _number(self, letter: Letter) -> Send:
        """The letter as the next send to its target; one to ourselves is mail too."""
        home, content = self._home, letter.content
        sequence = self._tip.decided.get(letter.target, 0) + 1
        if isinstance(content, Inbound):
            if letter.target == home.partition:
                self._mailbox.send_local(content, sequence)
            else:
                content = replace(content, origin=Origin(home.identity.history_topic_id, home.partition, sequence))
            content = encode_inbound(content)
        return Send(letter.target, sequence, content)

    def _append_body(self, body: TurnBody, decided: Decided) -> bytes:
        """Append a TURN, PARTITION or FORGOTTEN record; return its body as on the wire."""
        decided.dispatches = self._confirmation.expect_dispatches(body)
        self._tip.apply_body(body)
        self._tip.deaths.take_body(decided.instance_id, body, forgotten=decided.kind == RecordKind.FORGOTTEN)
        return self._append(decided, self._level.encode_turn(body))

    def _append(self, decided: Decided, encoded: bytes) -> bytes:
        decided.encoded, decided.appended_at = encoded, self._home.parts.clock.monotonic()
        decided.format = self._level.format_of(decided.kind)
        self._epoch.append(decided.kind, decided.instance_id, encoded, decided, decided.format)
        self._home.counts.records += 1
        return encoded

    def _raise_level(self, mail: Round, now_ms: int) -> None:
        """Write at a higher level from here on, where somebody asks for it, or where no other worker can be there (R12)."""
        for asked in mail.levels:
            assert isinstance(asked.body, ms.RaiseLevel)
            reason = why_not_raised(asked.body.level, self._tip.level)
            if not reason:
                self._append_level(asked.body.level, now_ms)
            if asked.reply_to is not None:
                code = ms.ReplyCode.REFUSED if reason else ms.ReplyCode.OK
                mail.answers.append(Answer(asked.reply_to, asked.request_id, code, reason))
        if self._home.settings.alone and not self.draining:
            self._append_level(LEVEL, now_ms)

    def _append_level(self, level: int, now_ms: int) -> None:
        if level > self._tip.level:
            # It is written at the level before it, so that who does not know the new one can read that it is there.
            self._append(
                Decided(RecordKind.LEVEL, level=level), encode_level(LevelRaised(level, now_ms), self._level.number)
            )
            self._tip.level = level
            self._level = WrittenLevel(level)

    def _carry_forward(self, now_ms: int) -> None:
        """Append again the histories that are in a base's way, whole as of this place in the run (R15)."""
        retention = self._retention
        if retention is None or self.draining:
            return
        for slot in retention.take_uncarried(now_ms):
            before, offset = slot.state, self._epoch.next_offset
            assert before is not None
            carried = CarriedHistory(slot.instance_id, offset - 1, self._home.instances.carried_turns(slot))
            slot.state = replace(before, carried_at=offset)
            decided = Decided(RecordKind.CARRIED, slot.instance_id, before=before, after=slot.state, slot=slot)
            self._home.instances.append(slot, Unconfirmed(offset, None, b"", decided.format))
            self._append(decided, encode_carried(carried, self._level.number))
            self._home.counts.carried += 1
        if retention.waits_for_acks and self._home.outbox.moved:
            # Nobody else has anything to say, and the base waits for what this record says.
            self._append_partition(self._body(None, now_ms, ((), ()), ()))

    def _follow_up(self, slot: Slot, turn: Turn, before: InstanceState | None, now_ms: int) -> None:
        """After a turn: drop code that will not run again, and take another turn if facts wait for the code."""
        after = slot.state
        poison = self._poison.get(slot.instance_id)
        if poison is not None and after is not None and slot.held is None:
            self._confirmation.hold(slot, poison)  # it began only now: its start was what killed
        if (
            after is None
            or _begins_another(turn, before)
            or after.status.terminal
            or self._home.settings.replay_always
            or slot.held is not None
        ):
            slot.close()
        if after is None or not may_decide(after, now_ms) or slot.held is not None or turn.empty or self.draining:
            return
        if not self._mailbox.due_turns.is_deferred(slot.instance_id):
            self._mailbox.due_turns.add(slot.instance_id)

    def _close_round(self, mail: Round, now_ms: int) -> None:
        """One record for all that changed no instance. Reads write none: the next record moves the mark past them (R8), and if
        there is none for long, one of their own does, so that recovery does not read them all again."""
        self._home.intake.consume(mail.reads)
        barriers, self._home.queries.barriers = self._home.queries.barriers, []
        behind = self._home.intake.mark - self._tip.inbox_mark >= UNSTATED_RECORDS_MAX
        if not (mail.letters or mail.answers or barriers or mail.idle_locals or mail.idle or behind):
            return
        consumed = (tuple(mail.idle), tuple(mail.idle_locals))
        answers = (*mail.answers, *(Answer(b.reply_to, b.request_id, ms.ReplyCode.OK) for b in barriers if b.reply_to))
        self._append_partition(self._body(None, now_ms, consumed, mail.letters), answers, mail.watchers)

    def _append_partition(
        self,
        numbered_body: tuple[TurnBody, Sequence[tuple[str, Send]]],
        answers: Sequence[Answer] = (),
        watchers: Sequence[Inbound] = (),
    ) -> None:
        body, numbered = numbered_body
        decided = Decided(RecordKind.PARTITION, body=body, answers=answers, watchers=watchers, sends=numbered)
        self._append_body(body, decided)

    def append_checkpoint(self) -> None:
        """State the tip at this place in the run (R15)."""
        if self._retention is not None and self._retention.ready != NO_BASE:
            self._tip.base = self._retention.ready
            self._retention.take_base()
        # Its own time, not that of the last turn: how old it is decides when it may become a base.
        self._tip.time_ms = self._home.time.now_ms()
        checkpoint = self._tip.checkpoint(self._tip.base)
        self._confirmation.expect_checkpoint()
        self._append(Decided(RecordKind.CHECKPOINT, checkpoint=checkpoint), encode_checkpoint(checkpoint))

    def append_release(self) -> None:
        """The last record of an orderly stop: what runs no more was given up, not lost."""
        body, numbered = self._body(None, self._home.time.now_ms(), ((), ()), ())
        self._append_partition((replace(body, released=True), numbered))
        self._confirmation.leaving = True

    def finish(self) -> None:
        """Confirm what is on its way, and decide nothing more. Raises EpochEnded."""
        self._confirmation.take(self._epoch.take_confirmed())
        self._epoch.send()
        self._home.outbox.step(self._home.time.now_ms())

    def close(self) -> None:
        """Drop the tip and everything that was not confirmed."""
        try:
            self._epoch.close()
            self._confirmation.close()
            self._home.keep_tried()
        finally:
            self._home.close()


def _asks_to_resume(inbox: Sequence[Inbound]) -> bool:
    return any(isinstance(message.body, ms.Resume) for message in inbox)


def _is_over(before: InstanceState | None, after: InstanceState | None) -> bool:
    """True if the execution that was held is no longer there to be decided for."""
    if after is None or after.status.terminal:
        return True
    return before is not None and before.execution_id != after.execution_id


def _begins_another(turn: Turn, before: InstanceState | None) -> bool:
    """Whether an execution ended in this turn and another began; both may be of this turn, if the first one continued at once."""
    if before is not None:
        return turn.state is None or turn.state.started is not before.started
    return len([event for event in turn.events if isinstance(event, ExecutionStarted)]) > 1
