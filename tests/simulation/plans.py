"""Plans: what clients start and do in one run, as data. The interpreter runs a plan's job on the engine; the model says what must
come of it.

A job is JSON: rounds of steps, joined by continue-as-new, and how it ends. A step is a list: its name, then its parameters.

| step     | parameters                           | comes to                                                     |
|----------|--------------------------------------|--------------------------------------------------------------|
| call     | token                                | the token                                                    |
| flaky    | token, fails, attempts, backoff      | the token, or the failure if it fails too often              |
| fatal    | token                                | a failure that no policy retries                             |
| slow     | token, takes ms, limit ms, attempts  | the token, or a time-out if it takes longer than it may      |
| deadline | token, takes ms, limit ms            | the same for all attempts together                           |
| sleep    | ms                                   | "slept"                                                      |
| child    | job, id, attempts                    | what the child came to                                       |
| taken    | instance                             | the failure of a child whose id somebody else has            |
| count    | token, times                         | a generator's sum of so many calls                           |
| wait     | name                                 | the next event of that name                                  |
| expect   | name, ms, sent                       | the event, or a time-out                                     |
| all      | steps                                | what each came to                                            |
| any      | steps, rest                          | which was first, and what it came to; `rest`: cancel or keep |
| drop     | step, ms                             | what a task comes to that is cancelled after so long         |
| send     | instance, name, token                | "sent"                                                       |
| status   | text                                 | "shown"                                                      |
| patch    | token                                | which of two versions of the code ran                        |
| lethal   | deaths                               | "survived", once it has killed so many processes             |
| deadly   | token, deaths                        | the token, or the failure if its processes die too often     |
| uuid     |                                      | whether an activity gave the same back                       |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

MAILBOX = "box"
ENDLESS = "endless"
KILLER = "killer"
Step = list[Any]
Job = dict[str, Any]


class Trouble(Enum):
    """What somebody outside does to an instance beyond starting it and sending it events."""

    NONE = "nothing"
    PAUSE = "suspends and resumes it"
    CANCEL = "cancels it"
    TERMINATE = "terminates it"
    PURGE = "purges it when it has ended, and starts it again"
    FORCE = "purges it while it runs"
    CONTEST = "starts it as well, under another policy"
    REPLACE = "starts it again in its place when it has ended"
    HELD = "starts what nobody knows, and terminates it"
    STRANGER = "starts it with plain JSON, on any partition"


@dataclass(frozen=True, slots=True)
class Plan:
    """One instance: when it is started, with what, and what is done to it. Times count from the beginning of the run.

    `given` are the events that the start brings along, `raised` those that a client raises afterwards, in order, each some
    milliseconds after the one before.
    """

    instance_id: str
    job: Job
    start_ms: int
    trouble: Trouble = Trouble.NONE
    trouble_ms: int = 0
    delay_ms: int = 0
    given: tuple[tuple[str, Any], ...] = ()
    raised: tuple[tuple[int, str, Any], ...] = ()
    tags: Mapping[str, str] | None = None
    watched: bool = False

    @property
    def is_mailbox(self) -> bool:
        """It counts what others send to it."""
        return self.instance_id.startswith(MAILBOX)

    @property
    def is_endless(self) -> bool:
        """It waits for ever."""
        return self.instance_id == ENDLESS

    @property
    def is_killer(self) -> bool:
        """It kills every process that runs it, and is held in the end."""
        return self.instance_id == KILLER

    @property
    def is_landmark(self) -> bool:
        """It is there before all others."""
        return self.is_mailbox or self.is_endless


def job_of(*rounds: list[Step], end: Step | None = None, guard: bool = False) -> Job:
    """A job from its beginning."""
    return {"rounds": list(rounds), "at": 0, "done": [], "end": end or ["return"], "guard": guard}


def steps_of(job: Job) -> list[Step]:
    """All steps of a job itself, those inside others included; not those of its children."""
    found: list[Step] = []
    waiting = [step for steps in job["rounds"] for step in steps]
    while waiting:
        step = waiting.pop()
        found.append(step)
        if step[0] in ("all", "any"):
            waiting.extend(step[1])
        elif step[0] == "drop":
            waiting.append(step[1])
    return found
