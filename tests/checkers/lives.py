"""C3, C4, C5, C9 and C20: what the history of every instance must look like, event by event."""

from collections.abc import Callable, Iterator
from typing import Any

from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, HistoryEvent, Parent, RescheduleReason, RetryOptions, Status
from perdure.schemas.records import RecordKind

from .evidence import Violation
from .folding import NUMBERED, Activity, Child, Folding, Life
from .reading import Entry

AHEAD_MS_MAX = 120_000
"""A minute that a clock may be off when its owner claims, and one that it may gain while it owns."""
CONTINUED = Status.CONTINUED_AS_NEW
# What a parent is told where there is no child of it, or it was forgotten while it ran.
_OF_NO_CHILD = ("InstanceAlreadyExists", "OrchestrationTerminated", "MessageTooLarge")
_RESULTS = (
    ev.TaskCompleted,
    ev.TaskFailed,
    ev.SubOrchestrationInstanceCompleted,
    ev.SubOrchestrationInstanceFailed,
)


class Lives:
    """All instances of all partitions, folded record by record. `found` are violations; `departed` has what was forgotten last
    of each instance."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.foldings: dict[str, Folding] = {}
        self.departed: dict[str, Life] = {}
        self._ends: dict[Parent, tuple[bytes | None, str]] = {}
        self._told: list[tuple[Entry, Parent, tuple[bytes | None, str]]] = []
        self.executions: set[tuple[str, str]] = set()
        self._entry: Entry | None = None
        self._time: dict[int, int] = {}
        self._owner: dict[int, str] = {}
        self._released: dict[int, bool] = {}
        self._alive_since: dict[int, int] = {}
        self._based: set[int] = set()

    def take(self, entry: Entry) -> None:
        """The next record of a partition."""
        self._entry = entry
        self._take_owner(entry)
        if entry.carried is not None:
            self._carry(entry)
        if entry.checkpoint is not None:
            self._time[entry.partition] = max(self._time.get(entry.partition, 0), entry.checkpoint.time_ms)
        if entry.turn is None:
            return
        self._check_time(entry)
        if entry.kind == RecordKind.FORGOTTEN:
            folding = self.foldings.get(entry.instance_id)
            if folding is None or folding.life is None:
                self._report("C3", "an instance is forgotten that is not there")
            else:
                self.departed[entry.instance_id] = folding.life
            self.foldings.pop(entry.instance_id, None)
        elif entry.kind == RecordKind.TURN:
            self._take_turn(entry)
        elif entry.turn.events:
            self._report("C3", "a record of no instance has events")

    def _take_owner(self, entry: Entry) -> None:
        """An owner has died where another claims and it had not stopped in order. Who begins to read at a base knows of none before."""
        partition, claim, checkpoint = entry.partition, entry.claim, entry.checkpoint
        if claim is not None:
            if not self._released.get(partition, True) and self._owner.get(partition) != claim.owner:
                self._alive_since[partition] = entry.offset
            self._owner[partition] = claim.owner
        if checkpoint is not None:
            if partition not in self._owner:
                self._owner[partition], self._alive_since[partition] = checkpoint.owner, entry.epoch
            if checkpoint.base >= 0:
                self._based.add(partition)
        if entry.turn is not None:
            self._released[partition] = entry.turn.released

    def life(self, instance_id: str) -> Life | None:
        folding = self.foldings.get(instance_id)
        return folding.life if folding is not None else None

    def _carry(self, entry: Entry) -> None:
        life = self.life(entry.instance_id)
        if life is None:
            self._report("C23", "a history is carried forward of an instance that is not there")
        else:
            life.begins_at = life.carried_at = entry.first

    def _report(self, checker: str, text: str) -> None:
        assert self._entry is not None
        self.found.append(Violation(checker, f"{self._entry.where} {self._entry.instance_id}: {text}"))

    def _check_time(self, entry: Entry) -> None:
        """C20: partition time never goes back, and follows no clock that is wrong (R11)."""
        assert entry.turn is not None
        before = self._time.get(entry.partition, 0)
        if entry.turn.time_ms < before:
            self._report("C20", f"partition time goes back from {before} to {entry.turn.time_ms}")
        if entry.turn.time_ms - entry.time_ms > AHEAD_MS_MAX:
            self._report("C20", f"partition time is {entry.turn.time_ms - entry.time_ms} ms ahead of the log's")
        self._time[entry.partition] = max(before, entry.turn.time_ms)

    def _take_turn(self, entry: Entry) -> None:
        name, turn = entry.instance_id, entry.turn
        assert turn is not None
        folding = self.foldings.get(name)
        if folding is None:
            folding = self.foldings[name] = Folding(name)
        life = folding.life
        if life is None and not (turn.events and isinstance(turn.events[0], ev.ExecutionStarted)):
            self._report("C3", "a turn of an instance that was never started")
            del self.foldings[name]
            return
        if life is not None and turn.decided:
            self._check_decides(life, entry)
        folding.take(turn, entry.first, self._witness)
        if folding.life is not None and folding.life.status == CONTINUED:
            self._report("C3", "it continued as new, and nothing new began")

    def _check_decides(self, life: Life, entry: Entry) -> None:
        """The code may decide when it is not suspended, due, and has something to see."""
        assert entry.turn is not None
        if life.started.start_at_ms > entry.turn.time_ms:
            self._report("C5", f"decided at {entry.turn.time_ms}, before its start at {life.started.start_at_ms}")

    # Every event, with the instance as it was right before.

    def _witness(self, life: Life | None, event: HistoryEvent) -> None:
        if isinstance(event, ev.ExecutionStarted):
            self._see_start(life, event)
            return
        assert life is not None
        if life.over or life.status == CONTINUED:
            self._report("C3", f"{type(event).__name__} after it had ended as {life.status.name}")
        if life.started.parent is not None and isinstance(event, ev.ExecutionCompleted | ev.ExecutionTerminated):
            self._note_end(life.started.parent, event)
        for kinds, see in _SEE:
            if isinstance(event, kinds):
                see(self, life, event)

    def _see_new(self, life: Life, event: Any) -> None:
        if event.task_id <= life.last_task:
            self._report("C4", f"task id {event.task_id} was given before")

    def _see_canceled(self, life: Life, event: ev.TaskCanceled) -> None:
        known = event.task_id in life.activities or event.task_id in life.children
        if not known and event.task_id not in life.answered:
            self._report("C4", f"task {event.task_id} is cancelled and was not pending")

    def _see_start(self, life: Life | None, event: ev.ExecutionStarted) -> None:
        assert self._entry is not None
        name = self._entry.instance_id
        if life is not None and not life.over and life.status != CONTINUED:
            self._report("C3", f"{event.execution_id} begins while {life.started.execution_id} is {life.status.name}")
        if (name, event.execution_id) in self.executions:
            self._report("C3", f"execution {event.execution_id} begins a second time")
        self.executions.add((name, event.execution_id))
        expected = 1 if life is None else life.started.generation + 1
        if event.generation != expected:
            self._report("C3", f"generation {event.generation} after {expected - 1}")
        if life is not None and life.status == CONTINUED:
            kept = (life.started.name, life.started.parent, life.started.created_at_ms, dict(life.started.tags))
            if kept != (event.name, event.parent, event.created_at_ms, dict(event.tags)):
                self._report("C3", "continue-as-new did not keep what an instance keeps")

    def _see_result(self, life: Life, event: Any) -> None:
        """C4: a result names the one attempt that is out."""
        of_child = isinstance(event, ev.SubOrchestrationInstanceCompleted | ev.SubOrchestrationInstanceFailed)
        pending: Activity | Child | None = (life.children if of_child else life.activities).get(event.task_id)
        what = f"{type(event).__name__} of task {event.task_id}, attempt {event.attempt}"
        if pending is None:
            self._report("C4", f"{what}, which is not pending")
            return
        if of_child:
            self._note_told(life, event)
        if pending.attempt != event.attempt:
            self._report("C4", f"{what}, while attempt {pending.attempt} is pending")
        timed_out = isinstance(pending, Activity) and self._is_timed_out(pending, event)
        if pending.retry_at_ms != NEVER and not timed_out:
            self._report("C4", f"{what}, while it waits for its next attempt")
        if isinstance(event, ev.TaskFailed | ev.SubOrchestrationInstanceFailed):
            self._see_failure(pending, event, timed_out=timed_out)

    def _note_end(self, parent: Parent, event: ev.ExecutionCompleted | ev.ExecutionTerminated) -> None:
        """What a child came to, for the task that waits for it."""
        if isinstance(event, ev.ExecutionTerminated):
            self._ends[parent] = (None, "OrchestrationTerminated")
        elif event.status != CONTINUED:
            self._ends[parent] = (None, event.failure.type) if event.failure is not None else (event.result, "")

    def _note_told(self, life: Life, event: Any) -> None:
        assert self._entry is not None
        parent = Parent(life.instance_id, life.started.execution_id, event.task_id, event.attempt)
        failed = isinstance(event, ev.SubOrchestrationInstanceFailed)
        told = (None, event.failure.type) if failed else (event.result, "")
        self._told.append((self._entry, parent, told))

    def check_children(self) -> Iterator[Violation]:
        """C4: a parent was told what the child of that very task and attempt came to."""
        for entry, parent, told in self._told:
            if told[1] in _OF_NO_CHILD:
                continue
            came = self._ends.get(parent)
            if came != told:
                what = f"attempt {parent.attempt} of task {parent.task_id} of {parent.execution_id}"
                yield Violation(
                    "C4", f"{entry.where} {entry.instance_id}: {what} is told {told}, its child came to {came}"
                )

    def _is_timed_out(self, pending: Activity, event: Any) -> bool:
        deadline = pending.deadline_ms
        return isinstance(event, ev.TaskFailed) and deadline != NEVER and self._now >= deadline

    @property
    def _now(self) -> int:
        assert self._entry is not None
        assert self._entry.turn is not None
        return self._entry.turn.time_ms

    def _see_failure(self, pending: Activity | Child, event: Any, *, timed_out: bool) -> None:
        """C4, C9: as many attempts as the policy allows, and the pauses that it asks for."""
        policy = pending.scheduled.retry if isinstance(pending, Activity) else pending.created.retry
        if event.failure.type == "ActivityCrashed" and isinstance(pending, Activity) and pending.lost < 2:
            self._report("C9", f"task {event.task_id} is called crashed after {pending.lost} lost dispatches")
        last = policy is None or not event.failure.retriable or pending.failures + 1 >= policy.attempts_max
        if event.retry_at_ms == NEVER:
            overdue = isinstance(pending, Activity) and pending.deadline_ms != NEVER
            if not last and not timed_out and not overdue:
                self._report("C9", f"task {event.task_id} is not tried again after {pending.failures + 1} failures")
            return
        if last or policy is None:
            self._report("C9", f"task {event.task_id} is tried again beyond its policy")
        elif event.retry_at_ms != self._now + pause_ms(policy, pending.failures):
            self._report("C9", f"task {event.task_id} is tried again at {event.retry_at_ms}, failed at {self._now}")

    def _see_timer(self, life: Life, event: Any) -> None:
        """C5: fired once and never early, or cancelled, never both."""
        due = life.timers.get(event.task_id)
        if due is None and isinstance(event, ev.TimerCanceled) and event.task_id in life.answered:
            return
        if due is None:
            self._report("C5", f"{type(event).__name__} of timer {event.task_id}, which is not pending")
        elif isinstance(event, ev.TimerFired) and (event.fire_at_ms != due or self._now < due):
            self._report(
                "C5", f"timer {event.task_id} is due at {due}, and fires at {self._now} for {event.fire_at_ms}"
            )

    def _see_again(self, life: Life, event: Any) -> None:
        """C9: one attempt after another, for a reason that holds."""
        again = isinstance(event, ev.TaskRescheduled)
        pending: Activity | Child | None = (life.activities if again else life.children).get(event.task_id)
        if pending is None:
            self._report("C9", f"task {event.task_id} is tried again and is not pending")
            return
        if event.attempt != pending.attempt + 1:
            self._report("C9", f"attempt {event.attempt} of task {event.task_id} follows {pending.attempt}")
        if not again or event.reason == RescheduleReason.RETRY:
            if pending.retry_at_ms == NEVER or self._now < pending.retry_at_ms:
                self._report("C5", f"task {event.task_id} is tried again at {self._now}, due {pending.retry_at_ms}")
        elif pending.retry_at_ms != NEVER:
            self._report("C9", f"task {event.task_id} was not out, and is called lost")
        elif isinstance(pending, Activity):
            self._check_lost(pending, event)

    def _check_lost(self, pending: Activity, event: ev.TaskRescheduled) -> None:
        """C9: a dispatch is lost where an owner has died since, else it was given up."""
        entry = self._entry
        assert entry is not None
        alive = pending.dispatched_at >= self._alive_since.get(entry.partition, 0)
        at_this_owner = pending.dispatched_at > entry.epoch
        if event.reason == RescheduleReason.RELEASE and not alive:
            self._report("C9", f"task {event.task_id} is called given up, and an owner has died since its dispatch")
        elif (
            event.reason == RescheduleReason.RECOVERY
            and alive
            and (at_this_owner or entry.partition not in self._based)
        ):
            self._report("C9", f"task {event.task_id} is called lost, and no owner has died since its dispatch")


def pause_ms(policy: RetryOptions, failures: int) -> int:
    """How long a policy waits after so many failures and one more."""
    pause = policy.first_interval_ms * policy.backoff**failures
    return int(pause if policy.interval_max_ms == NEVER else min(pause, policy.interval_max_ms))


_SEE: tuple[tuple[Any, Callable[[Lives, Life, Any], None]], ...] = (
    (NUMBERED, Lives._see_new),
    (_RESULTS, Lives._see_result),
    ((ev.TimerFired, ev.TimerCanceled), Lives._see_timer),
    ((ev.TaskRescheduled, ev.SubOrchestrationInstanceRecreated), Lives._see_again),
    (ev.TaskCanceled, Lives._see_canceled),
)
