"""PartitionOwner: from assignment to hand-over. Claim, recover, own; and again when the epoch ends (R2, R4, R6).

Rules of this file: the group decides who tries, the log decides who is; the claim comes first and the reading after it; no call
blocks for longer than one batch of recovery. PHASE -> step is a table.
"""

from collections.abc import Callable, Generator, Sequence
from enum import Enum, auto

import structlog

from perdure.schemas.codec import UnknownFormat, WireError, decode_claim, decode_envelope, encode_claim, encode_envelope
from perdure.schemas.records import FIRST_LEVEL, LEVEL, NO_DIGEST, Claim, Envelope, RecordKind

from .confirmation import Decided
from .epoch import Epoch, EpochEnded, Run
from .holdings import Counts, Holdings, OwnerParts, OwnerSettings
from .ports import BufferFull, HistoryWriter, LogRecord, LogSpan, LogTruncated, LogUnavailable, beyond_end
from .recovery import Claimed, Recovered, restore
from .skew import lead_ms
from .state import NO_BASE
from .tenure import Tenure

_log = structlog.get_logger("perdure.partitions")
AWAY_SECONDS_MIN = 0.5
# A paused inbox is read on when it is half empty, so that it does not stop and go with every record.
RESUME_LOAD = 0.5
AWAY_SECONDS_MAX = 5.0
_TRIMMED_SINCE = "an owner that has trimmed since"


class Phase(Enum):
    """Where an owner is between assignment and hand-over."""

    WAITING = auto()
    CLAIMING = auto()
    RECOVERING = auto()
    OWNING = auto()
    STANDBY = auto()
    RELEASING = auto()
    RELEASED = auto()
    FENCED = auto()
    CLOSED = auto()


class PartitionOwner:
    """One partition that this process tries to own. Call `step` until it returns False, then wait and call again."""

    def __init__(self, partition: int, parts: OwnerParts, settings: OwnerSettings) -> None:
        self.partition = partition
        self.phase = Phase.WAITING
        self.counts = Counts()
        self.epoch_ended_by = ""
        self.left_to_recover = 0
        """Records, or entries of a snapshot, while it recovers; the most that it can be until that is known."""
        self._parts = parts
        self._settings = settings
        self._resume_at = 0.0
        self._claimed_at = 0.0
        self._lead_ms = 0
        self._writer: HistoryWriter | None = None
        self._claim_offset = -1
        self._log_start = 0
        self._ours_to = -1
        self._recovery: Generator[Recovered | int, None, None] | None = None
        self._tenure: Tenure | None = None
        self._holdings: Holdings | None = None
        self._paused = False
        self._log_end_seen = (-1, 0.0)
        self._away_seconds = 0.0
        self._draining = False
        self._base = NO_BASE

    def step(self) -> bool:
        """Do what can be done now; true if anything was. Raises PartitionRefused, StoreUnavailable, and any bug of ours: the
        partition is then to be closed, loudly."""
        try:
            worked = _STEP[self.phase](self)
        except LogUnavailable as error:
            self._wait_for_log(error)
            return False
        if self.phase == Phase.OWNING:
            self._away_seconds = 0.0
        return worked

    def receive(self, records: Sequence[LogRecord]) -> None:
        """Take records of this partition's inbox, in order."""
        if self._tenure is None:
            return  # they were read for a tenure that is over; the next one reads from its own mark
        self._tenure.receive(records)
        if not self._paused and self._tenure.inbox_load >= 1:
            self._paused = True
            self._parts.log.inbox.pause(self.partition)

    @property
    def holdings(self) -> Holdings | None:
        """What is owned now, for reads and metrics."""
        return self._holdings

    @property
    def tenure(self) -> Tenure | None:
        return self._tenure

    def next_due_ms(self) -> int | None:
        """Milliseconds until something is due without any message; None if nothing is known to be."""
        if self.phase in (Phase.WAITING, Phase.FENCED, Phase.STANDBY):
            return max(0, int((self._resume_at - self._parts.clock.monotonic()) * 1000))
        if self._holdings is None or self._draining or self._holdings.outbox_is_full:
            return None
        due = self._holdings.timers.next_due_ms()
        return None if due is None else max(0, due - self._holdings.time.now_ms())

    # Phases.

    def _step_waiting(self) -> bool:
        """A jittered pause, so that two contenders do not take it from each other for ever (R4)."""
        if self._parts.clock.monotonic() < self._resume_at:
            return False
        log = self._parts.log
        self._parts.admission.ask(log, self._parts.clock, self._settings.clock_skew_ms_max)
        self._writer = log.open_history(self.partition)
        self._lead_ms = lead_ms(self._parts.clock)
        claim = Claim(
            self._settings.owner,
            self._parts.clock.wall_ms(),
            self._settings.address,
            log.identity.partition_count,
            level=LEVEL,
            base=self._base,
        )
        value = encode_envelope(Envelope(RecordKind.CLAIM, FIRST_LEVEL, -1, -1, NO_DIGEST, "", encode_claim(claim)))
        try:
            self._writer.append(self._settings.owner, value)
        except BufferFull:
            self._try_again("the local queue was full")
            return True
        self._claimed_at = self._parts.clock.monotonic()
        self.phase = Phase.CLAIMING
        return True

    def _step_claiming(self) -> bool:
        """Where the claim landed is the epoch (R2)."""
        assert self._writer is not None
        reports = self._writer.take_reports()
        if not reports:
            if self._parts.clock.monotonic() - self._claimed_at > self._settings.append_seconds_max:
                self._try_again("the claim was not confirmed in time")
            return False
        if reports[0].offset is None:
            self._try_again(f"the claim failed: {reports[0].error}")
            return True
        self._claim_offset = self._ours_to = reports[0].offset
        self._begin_recovery()
        self.phase = Phase.RECOVERING
        return True

    def _begin_recovery(self) -> None:
        log, settings = self._parts.log, self._settings
        self._log_start = log.span_history(self.partition).start
        span = LogSpan(self._log_start, self._claim_offset + 1)
        claimed = Claimed(span, settings.clock_skew_ms_max, settings.snapshot_ahead_records)
        self.left_to_recover = self._claim_offset + 1
        self._recovery = restore(log, self._parts.stores, self.partition, claimed)

    def _step_recovering(self) -> bool:
        """Fold the history up to the claim (R6), a batch at a time."""
        assert self._recovery is not None
        try:
            recovered = next(self._recovery)
        except LogTruncated as error:
            self._meet_trim(error)
            return True
        if isinstance(recovered, int):
            self.left_to_recover = recovered
            return True
        self._recovery = None
        self.counts.recovered_records += recovered.records_read
        leap_ms = lead_ms(self._parts.clock) - self._lead_ms
        if leap_ms > self._settings.clock_skew_ms_max:
            # The log was asked before. Whoever claims anew asks again (R11).
            recovered.store.close()
            self._try_again(f"the clock of this machine has leapt {leap_ms} ms ahead since the claim")
        else:
            self._own(recovered)
        return True

    def _own(self, recovered: Recovered) -> None:
        """All that counts is folded: decide from here on."""
        assert self._writer is not None
        run = Run(self._claim_offset, recovered.digest, recovered.opening)
        epoch: Epoch[Decided] = Epoch(self._writer, run, self._parts.log.record_bytes_max)
        try:
            self._holdings = Holdings(self.partition, recovered, self._parts, self._settings, self.counts)
            self._tenure = Tenure(self._holdings, epoch)
        except BaseException:
            recovered.store.close()
            raise
        self._open_inbox(recovered.state.inbox_mark)
        self.phase = Phase.OWNING
        if self._draining:
            self.drain()

    def _meet_trim(self, error: LogTruncated) -> None:
        """Another owner has let go of what we were about to read (R15): one that claimed since, or the one before us, which does
        not know of us yet; then begin again at its base. Raises `error` if nobody has: what is missing is lost."""
        other = self._other_claim()
        if other is not None:
            self.epoch_ended_by = f"claimed by {other} during recovery"
            self._drop()
            self._stand_by()
        elif self._parts.log.span_history(self.partition).start > self._log_start:
            self._begin_recovery()
        else:
            raise error

    def _open_inbox(self, mark: int) -> None:
        """Go on where the history says that all is consumed (R8). Raises LogTruncated."""
        log, self._paused = self._parts.log, False
        span = log.span_inbox(self.partition)
        if mark > span.end:
            raise LogTruncated(beyond_end(f"inbox of partition {self.partition}", mark, span.end))
        if mark < span.start and self._other_claim() is None:
            # Only what is consumed is ever trimmed by an owner, and that is us: somebody else took these.
            _log.error("inbox.records_gone", partition=self.partition, start=mark, end=span.start)
        log.inbox.open(self.partition, mark)

    def _step_owning(self) -> bool:
        assert self._tenure is not None
        try:
            worked = self._tenure.round()
        except EpochEnded as end:
            self._lose(str(end))
            return True
        if self._paused and self._tenure.inbox_load < RESUME_LOAD:
            self._paused = False
            self._parts.log.inbox.resume(self.partition)
        return worked

    def _lose(self, reason: str) -> None:
        """The epoch is over: drop the tip; activities that run go on (R4)."""
        self.counts.epochs_lost += 1
        self.epoch_ended_by = reason
        self._drop()
        self._resume_at = self._parts.clock.monotonic()
        self.phase = Phase.CLOSED if self._draining else Phase.FENCED

    def notice_others(self) -> None:
        """Look whether anybody has written after us: an owner that has nothing to write would never hear of it. May take a moment.
        Raises LogUnavailable."""
        tenure = self._tenure
        if self.phase != Phase.OWNING or tenure is None or not tenure.quiet:
            return
        end = self._parts.log.span_history(self.partition).end
        if end > tenure.next_offset:
            self._lose(f"somebody has written up to offset {end}, after {tenure.next_offset - 1}, which was our last")

    def assign_again(self) -> None:
        """The group means us, who have tried already: claim at once where another has claimed since (R4). May take a moment. Raises
        LogUnavailable."""
        self.notice_others()
        if self.phase == Phase.FENCED and self._other_claim() is not None:
            self._stand_by()
        if self.phase == Phase.STANDBY:
            self.phase = Phase.WAITING

    def _step_fenced(self) -> bool:
        """Claim again, or stand by if another owner took it (R4)."""
        if self._parts.clock.monotonic() < self._resume_at:
            return False
        other = self._other_claim()
        if other is None:
            self._try_again(self.epoch_ended_by)
        else:
            self.epoch_ended_by = f"{self.epoch_ended_by}; claimed by {other}"
            self._stand_by()
        return True

    def _other_claim(self) -> str | None:
        """Who else claimed the partition after us, if anybody did: looked for behind the last record that we know to be ours, since
        an epoch may be long."""
        log = self._parts.log
        span = log.span_history(self.partition)
        # Who trims what we did not know to be let go of owns it, also where that claim is gone with it (R15).
        found = _TRIMMED_SINCE if span.start > max(self._claim_offset, self._base) else None
        try:
            for record in log.read_history(self.partition, max(self._ours_to + 1, span.start), span.end):
                found = _claimer_in(record) or found
        except LogTruncated:
            return _TRIMMED_SINCE  # in this very moment
        return None if found == self._settings.owner else found

    def _try_again(self, reason: str) -> None:
        self.epoch_ended_by = reason
        self._drop()
        pause = self._parts.random.uniform(0.1, 1.0) * self._settings.pause_seconds_max
        self._resume_at = self._parts.clock.monotonic() + pause
        self.phase = Phase.CLOSED if self._draining else Phase.WAITING

    def _wait_for_log(self, error: LogUnavailable) -> None:
        """Look again after a pause that grows. While the log is away nobody can take the partition from us, nor we decide."""
        self._away_seconds = min(max(2 * self._away_seconds, AWAY_SECONDS_MIN), AWAY_SECONDS_MAX)
        _log.warning("log.unavailable", partition=self.partition, again_in_seconds=self._away_seconds, error=str(error))
        if self.phase not in (Phase.FENCED, Phase.STANDBY):
            self._drop()
            self.phase = Phase.CLOSED if self._draining else Phase.WAITING
        self._resume_at = self._parts.clock.monotonic() + self._away_seconds

    def _stand_by(self) -> None:
        """Another owner dispatches again what runs here."""
        self._parts.give_up(self.partition)
        now = self._parts.clock.monotonic()
        self._log_end_seen = (-1, now)
        self._resume_at = now
        self.phase = Phase.CLOSED if self._draining else Phase.STANDBY

    def _step_standby(self) -> bool:
        """Still assigned: claim again once the other owner was silent for a whole session (R4)."""
        now = self._parts.clock.monotonic()
        if now < self._resume_at:
            return False
        end = self._parts.log.span_history(self.partition).end
        if end != self._log_end_seen[0]:
            self._log_end_seen = (end, now)
        elif now - self._log_end_seen[1] >= self._settings.session_seconds:
            self.phase = Phase.WAITING
            return True
        self._resume_at = now + self._settings.session_seconds / 4
        return False

    # Hand-over.

    def drain(self) -> None:
        """Take no new turns; results of running activities still become facts."""
        self._draining = True
        if self._tenure is not None:
            self._tenure.draining = True
        elif self.phase in (Phase.WAITING, Phase.FENCED, Phase.STANDBY):
            self.phase = Phase.CLOSED

    def release(self) -> None:
        """Hand over in order: from here `step` until the phase is CLOSED. From RELEASED on another may claim."""
        self.drain()
        if self._tenure is not None and self.phase == Phase.OWNING:
            self._tenure.append_checkpoint()
            self._tenure.append_release()
            self.phase = Phase.RELEASING
        elif self.phase != Phase.CLOSED:
            self.close()

    def _step_releasing(self) -> bool:
        assert self._tenure is not None
        try:
            self._tenure.finish()
        except EpochEnded as end:
            self.epoch_ended_by = str(end)
            self.close()
            return True
        if self._tenure.quiet:
            self.phase = Phase.RELEASED
            return True
        return False

    def _step_released(self) -> bool:
        self.close()
        return True

    def close(self) -> None:
        """Let go at once: what is not confirmed is dropped, what runs is cancelled. Safe in every phase."""
        self.abandon()
        self._parts.give_up(self.partition)

    def abandon(self) -> None:
        """Let go at once but of running activities, which are not at fault: the next try in this process finds them."""
        self.phase = Phase.CLOSED
        self._drop()

    def _drop(self) -> None:
        if self._holdings is not None:
            self._base = self._holdings.fold.state.base
        if self._tenure is not None:
            self._ours_to = self._tenure.confirmed_offset
            self._parts.log.inbox.close(self.partition)
            self._tenure.close()
        elif self._writer is not None:
            self._writer.close()
        if self._recovery is not None:
            self._recovery.close()
        self._tenure, self._holdings, self._writer, self._recovery = None, None, None, None

    def _step_closed(self) -> bool:
        return False


def _claimer_in(record: LogRecord) -> str | None:
    """Who claims in this record; None if it is no claim."""
    try:
        envelope = decode_envelope(record.value or b"")
        return decode_claim(envelope.body, envelope.format).owner if envelope.kind == RecordKind.CLAIM else None
    except (WireError, UnknownFormat):
        return None


_STEP: dict[Phase, Callable[[PartitionOwner], bool]] = {
    Phase.WAITING: PartitionOwner._step_waiting,
    Phase.CLAIMING: PartitionOwner._step_claiming,
    Phase.RECOVERING: PartitionOwner._step_recovering,
    Phase.OWNING: PartitionOwner._step_owning,
    Phase.STANDBY: PartitionOwner._step_standby,
    Phase.RELEASING: PartitionOwner._step_releasing,
    Phase.RELEASED: PartitionOwner._step_released,
    Phase.FENCED: PartitionOwner._step_fenced,
    Phase.CLOSED: PartitionOwner._step_closed,
}
