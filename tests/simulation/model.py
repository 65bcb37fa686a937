"""The counter model: what must come of a plan, known from the plan alone.

Rules of this file: nothing of the engine is used; where a race decides, every outcome of the race is right and nothing else is.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .plans import Job, Plan, Step, Trouble, steps_of

CANCELED = {"!": "canceled"}
TIMEOUT = {"!": "timeout"}
TIMED_OUT = {"!": "ActivityTimedOut"}
CRASHED = {"!": "ActivityCrashed"}
LOST_MAX = 3
"""An activity whose process died so often is not tried again."""


@dataclass(frozen=True, slots=True)
class End:
    """What became of an instance: its status by name, its result and failure type, and the custom status. No status: there is none."""

    status: str = ""
    result: Any = None
    failure: str = ""
    custom_status: Any = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a run may do to its instances beyond their plans: activities whose processes died again and again, children that another
    life of their parent left behind, times that come late, so that a result is there before them; a second build; `real`: times are
    those of a busy machine, so that what takes too long may be in time and what does not may be late."""

    crashed: bool = False
    orphans: bool = False
    late: bool = False
    builds: int = 1
    real: bool = False


class Model:
    """Says what is wrong with the end of a plan's instance."""

    def __init__(self, plan: Plan, allowance: Allowance) -> None:
        self._plan = plan
        self._allow = allowance
        # What was sent arrives in that order, whoever waits.
        self._events = [value for name, value in plan.given if name == "go"]
        self._events += [value for _, name, value in plan.raised if name == "go"]

    def problems(self, end: End) -> Iterator[str]:
        plan = self._plan
        if plan.is_endless:
            if end.status != "RUNNING":
                yield f"it waits for ever, and is {end.status or 'gone'}"
            return
        if plan.is_killer:
            if end.status not in ("PENDING", "RUNNING"):
                yield f"it kills whoever runs it, and is {end.status or 'gone'}"
            return
        stopped = {
            Trouble.CANCEL: "CANCELED",
            Trouble.TERMINATE: "TERMINATED",
            Trouble.HELD: "TERMINATED",
            Trouble.FORCE: "",
        }.get(plan.trouble)
        if stopped == end.status:
            return
        if plan.trouble is Trouble.CANCEL and isinstance(end.result, dict) and plan.job["guard"]:
            compensated = end.result.get("compensated")
            if not (isinstance(compensated, int) or self._is_crash(compensated)):
                yield f"it compensated with {compensated}"
            return
        yield from self._problems_of_end(end)

    def _problems_of_end(self, end: End) -> Iterator[str]:
        job = self._plan.job
        if job["end"][0] == "raise":
            if (end.status, end.failure) != ("FAILED", "PlannedFailure"):
                yield f"it was to fail, and is {end.status or 'gone'} with {end.failure or end.result}"
        elif end.status != "COMPLETED":
            yield f"it was to complete, and is {end.status or 'gone'} ({end.failure})"
        else:
            yield from self._problems_of_job(job, end.result)
        shown = [step[1] for steps in job["rounds"] for step in steps if step[0] == "status"]
        if end.custom_status != (shown[-1] if shown else None):
            yield f"its custom status is {end.custom_status!r}, and the last one set was {shown[-1:]}"

    def _problems_of_job(self, job: Job, result: Any) -> Iterator[str]:
        rounds = job["rounds"]
        if not isinstance(result, list) or [len(values) for values in result] != [len(steps) for steps in rounds]:
            yield f"it returned {result}, which does not have the shape of its rounds"
            return
        for number, (steps, values) in enumerate(zip(rounds, result, strict=True)):
            for step, value in zip(steps, values, strict=True):
                if not self.fits(step, value):
                    yield f"round {number}: {step} came to {value}"

    def _is_crash(self, value: Any) -> bool:
        return self._allow.crashed and value == CRASHED

    def fits(self, step: Step, value: Any) -> bool:
        """Whether a step of a job may come to `value`."""
        name, *parameters = step
        if name in _ACTIVITIES and self._is_crash(value):
            return True
        return _FITS[name](self, value, *parameters)

    def _is_orphan(self, value: Any) -> bool:
        """A child of the same name that an earlier life of the parent left running."""
        return self._allow.orphans and value == {"!": "InstanceAlreadyExists"}

    def _fits_call(self, value: Any, token: int) -> bool:
        return value == token

    def _fits_flaky(self, value: Any, token: int, fails: int, attempts: int, _backoff: float) -> bool:
        return value == ({"!": "Flaky"} if fails >= attempts else token)

    def _fits_fatal(self, value: Any, _token: int) -> bool:
        return value == {"!": "Fatal"}

    def _fits_slow(self, value: Any, token: int, takes: int, limit: int, _attempts: int) -> bool:
        return value == (TIMED_OUT if takes > limit else token) or (self._allow.real and value in (TIMED_OUT, token))

    def _fits_deadline(self, value: Any, token: int, takes: int, limit: int) -> bool:
        return value == TIMED_OUT or (value == token and (takes <= limit or self._allow.late))

    def _fits_deadly(self, value: Any, token: int, deaths: int) -> bool:
        return value == (CRASHED if deaths >= LOST_MAX else token)

    def _fits_lethal(self, value: Any, _deaths: int) -> bool:
        return value == "survived"

    def _fits_sleep(self, value: Any, _ms: int) -> bool:
        return value in ("slept", None)

    def _fits_taken(self, value: Any, _name: str) -> bool:
        return value == {"!": "InstanceAlreadyExists"}

    def _fits_count(self, value: Any, token: int, times: int) -> bool:
        crash = self._allow.crashed and value == {"!": "TaskFailedError"}
        return value == token * times + times * (times - 1) // 2 or crash or self._is_orphan(value)

    def _fits_wait(self, value: Any, _name: str) -> bool:
        return bool(self._events) and value == self._events.pop(0)

    def _fits_expect(self, value: Any, name: str, _ms: int, sent: bool) -> bool:
        return value == TIMEOUT or (sent and value == int(name.rpartition("-")[2]))

    def _fits_child(self, value: Any, job: Job, _name: str, _attempts: int) -> bool:
        if self._is_orphan(value) or (self._allow.crashed and value == {"!": "TaskFailedError"}):
            return True
        if job["end"][0] == "raise":
            return value == {"!": "PlannedFailure"}
        return not any(self._problems_of_job(job, value))

    def _fits_all(self, value: Any, steps: list[Step]) -> bool:
        return isinstance(value, list) and len(value) == len(steps) and all(map(self.fits, steps, value))

    def _fits_drop(self, value: Any, dropped: Step, ms: int) -> bool:
        return value == CANCELED or (ms > 0 and self.fits(dropped, value))

    def _fits_send(self, value: Any, *_: Any) -> bool:
        return value == "sent"

    def _fits_status(self, value: Any, _text: str) -> bool:
        return value == "shown"

    def _fits_patch(self, value: Any, token: int) -> bool:
        match value:
            case [str(version), came] if came == token or self._is_crash(came):
                return version == "old" or (version == "new" and self._allow.builds > 1)
        return False

    def _fits_uuid(self, value: Any) -> bool:
        return value == "same" or self._is_crash(value)

    def _fits_any(self, value: Any, steps: list[Step], rest: str) -> bool:
        match value:
            case [int(winner), dict(values)] if 0 <= winner < len(steps):
                pass
            case _:
                return False
        if sorted(values) != [str(number) for number in range(len(steps))]:
            return False
        return all(
            self.fits(step, values[str(number)])
            or (rest == "cancel" and number != winner and values[str(number)] == CANCELED)
            for number, step in enumerate(steps)
        )


_ACTIVITIES = ("call", "flaky", "fatal", "slow", "deadline", "deadly")
_FITS: dict[str, Callable[..., bool]] = {
    "call": Model._fits_call,
    "flaky": Model._fits_flaky,
    "fatal": Model._fits_fatal,
    "slow": Model._fits_slow,
    "deadline": Model._fits_deadline,
    "deadly": Model._fits_deadly,
    "lethal": Model._fits_lethal,
    "sleep": Model._fits_sleep,
    "child": Model._fits_child,
    "taken": Model._fits_taken,
    "count": Model._fits_count,
    "wait": Model._fits_wait,
    "expect": Model._fits_expect,
    "all": Model._fits_all,
    "any": Model._fits_any,
    "drop": Model._fits_drop,
    "send": Model._fits_send,
    "status": Model._fits_status,
    "patch": Model._fits_patch,
    "uuid": Model._fits_uuid,
}


def mail_problems(plans: Mapping[str, Plan], ends: Mapping[str, End], again: Collection[str]) -> Iterator[str]:
    """Every mailbox got what was sent to it: each once, and what one sender sent in the order in which it was sent. Who ran `again`
    sent again, and what its mailboxes got is not known."""
    for box, end in ends.items():
        if not plans[box].is_mailbox or any(_sends(plans[name], box) for name in again if name in plans):
            continue
        got = [value for values in end.result or () for value in values]
        sent: list[int] = []
        for plan in plans.values():
            mine = [step[3] for step in _sends(plan, box)]
            sent += mine
            if [value for value in got if value in set(mine)] != mine:
                yield f"{box} got {[value for value in got if value in set(mine)]} of what {plan.instance_id} sent as {mine}"
        if sorted(got) != sorted(sent):
            yield f"{box} got {sorted(got)}, and {sorted(sent)} was sent"


def _sends(plan: Plan, box: str) -> list[Step]:
    return sorted(
        (step for step in steps_of(plan.job) if step[0] == "send" and step[1] == box), key=lambda step: step[3]
    )
