"""From a seed to a scenario: programs made of every feature, and the faults that they must outlive.

Rules of this file: every job has one right answer, or one for each outcome of a race; what is counted (events to a mailbox) is sent by
jobs that nobody stops, so that the count is known.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any

from .faults import NETWORK, Fault, Rates, Strike, Turmoil
from .plans import ENDLESS, KILLER, MAILBOX, Job, Plan, Step, Trouble, job_of, steps_of

MAILBOX_ROUND = 4
LETHAL_RUNS = 0.07


@dataclass(frozen=True, slots=True)
class Tuning:
    """Limits of the engine that are small now and then, so that they are met."""

    slots_max: int = 10_000
    checkpoint_turns_max: int = 200
    inbox_depth_max: int = 5_000
    in_flight_max: int = 5_000
    round_messages_max: int = 500
    record_bytes_max: int = 1_000_000
    replay_always: bool = False
    retention_seconds: float | None = None
    snapshot_records_min: int = 50_000
    standbys: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run, whole. `patience_ms`: how long it may take to come to its end once it is healed. `only`: which faults of the network may happen, by number; None: all that the dice say."""

    seed: int
    partitions: int
    machines: int
    plans: tuple[Plan, ...]
    strikes: tuple[Strike, ...] = ()
    turmoil: tuple[Turmoil, ...] = ()
    rates: Rates = Rates()
    tuning: Tuning = Tuning()
    window_ms: int = 12_000
    builds: int = 1
    patience_ms: int = 400_000
    only: frozenset[int] | None = None


class Programs:
    """Makes the plans of one scenario."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._tokens = count(1)

    def token(self) -> int:
        return next(self._tokens)

    # Steps.

    def leaf(self) -> Step:
        """A step that is one task."""
        dice, token = self._dice, self.token()
        match dice.choices(
            ("call", "flaky", "fatal", "slow", "deadline", "sleep", "count", "never"), (8, 3, 1, 2, 1, 3, 1, 1)
        )[0]:
            case "flaky":
                attempts = dice.randint(2, 4)
                return ["flaky", token, dice.choice((1, attempts - 1, 99)), attempts, dice.choice((1.0, 2.0))]
            case "fatal":
                return ["fatal", token]
            case "slow":
                takes = dice.choice((30, 400, 1_500))
                return ["slow", token, takes, dice.choice((20, 3_000)), dice.randint(1, 2)]
            case "deadline":
                return ["deadline", token, dice.choice((30, 900)), dice.choice((300, 5_000))]
            case "sleep":
                return ["sleep", dice.choice((1, 30, 500, 2_500))]
            case "count":
                return ["count", token, dice.randint(1, 3)]
            case "never":
                return ["expect", f"never-{token}", dice.choice((50, 800)), False]
            case _:
                return ["call", token]

    def child(self, depth: int) -> Step:
        """A sub-orchestration; now and then one that fails, or fails at first."""
        dice, token = self._dice, self.token()
        end, attempts = ["return"], 1
        match dice.randrange(5):
            case 0:
                end = ["raise", "as planned"]
                attempts = dice.randint(1, 2)
            case 1:
                end, attempts = ["first", dice.randint(1, 2)], 3
            case _:
                pass
        rounds = [self.steps(depth + 1, dice.randint(1, 2)) for _ in range(dice.choice((1, 1, 2)))]
        name = f"c{token}" if dice.random() < 0.5 else ""
        return ["child", job_of(*rounds, end=end), name, attempts]

    def step(self, depth: int) -> Step:
        dice = self._dice
        kinds = ("leaf", "all", "any", "drop", "child", "status", "patch", "uuid")
        match dice.choices(kinds, (10, 2, 3, 2, 3 if depth < 2 else 0, 1, 1, 1))[0]:
            case "all":
                return ["all", [self.part(depth) for _ in range(dice.randint(2, 3))]]
            case "any":
                return ["any", [self.part(depth) for _ in range(2)], dice.choice(("cancel", "keep"))]
            case "drop":
                return ["drop", self.part(depth), dice.choice((0, 0, 20, 300))]
            case "child":
                return self.child(depth)
            case "status":
                return ["status", f"at {self.token()}"]
            case "patch":
                return ["patch", self.token()]
            case "uuid":
                return ["uuid"]
            case _:
                return self.leaf()

    def part(self, depth: int) -> Step:
        """A task inside another step."""
        if depth < 1 and self._dice.random() < 0.04:
            return ["taken", ENDLESS]
        return self.child(depth) if depth < 1 and self._dice.random() < 0.2 else self.leaf()

    def steps(self, depth: int, number: int) -> list[Step]:
        return [self.step(depth) for _ in range(number)]

    def job(self, **more: Any) -> Job:
        dice = self._dice
        rounds = [self.steps(0, dice.randint(1, 3)) for _ in range(dice.choice((1, 1, 1, 2)))]
        return job_of(*rounds, end=["raise", "as planned"] if dice.random() < 0.08 else None, **more)

    # Plans.

    def plan(self, number: int, span_ms: int) -> Plan:
        dice = self._dice
        plan = Plan(f"p{number}", self.job(guard=dice.random() < 0.5), dice.randint(0, span_ms))
        if dice.random() < 0.1:
            plan = replace(plan, delay_ms=dice.choice((300, 3_000)))
        if dice.random() < 0.3:
            plan = replace(plan, tags={"kind": dice.choice("ab")})
        match dice.randrange(10):
            case 0 | 1 | 2:
                return self._with_events(plan)
            case 3 | 4:
                return self._with_mail(plan)
            case 5 | 6 | 7:
                return self._with_trouble(plan)
            case _:
                return replace(plan, watched=dice.random() < 0.3)

    def _with_events(self, plan: Plan) -> Plan:
        """Waits of one name get what was sent, in order: early, late, and over continue-as-new; and a wait that may time out."""
        dice, job = self._dice, plan.job
        sent = dice.randint(1, 4)
        rounds = [list(steps) for steps in job["rounds"]]
        values = [self.token() for _ in range(sent)]
        for _ in range(sent):
            steps = rounds[dice.randrange(len(rounds))]
            steps.insert(dice.randint(0, len(steps)), ["wait", "go"])
        raised = [(dice.choice((0, 5, 100, 900)), "go", value) for value in values]
        given: list[tuple[str, Any]] = []
        if dice.random() < 0.3:
            given = [(name, value) for _, name, value in raised[:1]]
            raised = raised[1:]
        if dice.random() < 0.4:
            token = self.token()
            name = f"race-{token}"
            rounds[0].append(["expect", name, dice.choice((100, 1_000, 4_000)), True])
            raised.append((dice.choice((0, 300)), name, token))
        return replace(plan, job={**job, "rounds": rounds}, raised=tuple(raised), given=tuple(given))

    def _with_mail(self, plan: Plan) -> Plan:
        """Send numbered events to a mailbox."""
        dice = self._dice
        steps = plan.job["rounds"][-1]
        for _ in range(dice.randint(1, 3)):
            box = f"{MAILBOX}{dice.randrange(2)}"
            steps.insert(dice.randint(0, len(steps)), ["send", box, "mail", self.token()])
        # In the order of the steps, so that what one sender sends has a known order.
        sends = [step for step in steps if step[0] == "send"]
        for step, token in zip(sends, sorted(step[3] for step in sends), strict=True):
            step[3] = token
        return plan

    def _with_trouble(self, plan: Plan) -> Plan:
        dice = self._dice
        trouble = dice.choice([each for each in Trouble if each is not Trouble.NONE])
        at = dice.choice((0, 5, 60, 400, 2_000))
        if trouble is Trouble.STRANGER:
            plan = replace(plan, delay_ms=0, tags=None)
        if trouble is Trouble.HELD:
            plan = replace(plan, delay_ms=0)
        return replace(plan, trouble=trouble, trouble_ms=at)


def _killer(dice: Random, programs: Programs, span_ms: int) -> Plan:
    """What kills its process for ever, some times, or by an activity."""
    before: list[Step] = [["call", programs.token()] for _ in range(dice.randint(0, 1))]
    match dice.randrange(3):
        case 0:
            return Plan(KILLER, job_of([*before, ["lethal", 1_000]]), dice.randint(0, span_ms))
        case 1:
            survives = ["lethal", dice.randint(1, 2)]
            return Plan("survivor", job_of([*before, survives, ["call", programs.token()]]), dice.randint(0, span_ms))
        case _:
            deadly = ["deadly", programs.token(), dice.choice((1, 1_000))]
            return Plan("deadly", job_of([*before, deadly]), dice.randint(0, span_ms))


def with_landmarks(plans: Iterable[Plan]) -> tuple[Plan, ...]:
    """These plans, the mailboxes to which they send, each waiting for exactly what is sent to it, some at a time, and the instance
    that waits for ever, if there was one or a plan names it."""
    given = tuple(plans)
    senders = [plan for plan in given if not plan.is_landmark]
    steps = [step for plan in senders for step in steps_of(plan.job)]
    mail = Counter(step[1] for step in steps if step[0] == "send")
    landmarks = []
    for name, number in sorted(mail.items()):
        waits: list[Step] = [["wait", "mail"]] * number
        rounds = [waits[at : at + MAILBOX_ROUND] for at in range(0, number, MAILBOX_ROUND)]
        landmarks.append(Plan(name, job_of(*rounds), 0))
    if any(step[0] == "taken" for step in steps) or any(plan.is_endless for plan in given):
        landmarks.append(Plan(ENDLESS, job_of([["call", 0], ["wait", "that never comes"]]), 0))
    return (*senders, *landmarks)


def make_scenario(seed: int, instances: int = 24, lethal: float = LETHAL_RUNS) -> Scenario:
    """The scenario of a seed. `lethal`: how likely one of its programs kills its process."""
    dice = Random(seed)
    programs = Programs(dice)
    partitions, machines = dice.choice((1, 2, 3, 4)), dice.choice((1, 2, 2, 3, 3))
    window = dice.choice((4_000, 8_000, 15_000))
    tuning = _tuning(dice)
    plans = [programs.plan(number, window * 2 // 3) for number in range(instances)]
    killers = Random(f"{seed}/killers")
    if killers.random() < lethal:
        plans.append(_killer(killers, programs, window * 2 // 3))
    return Scenario(
        seed,
        partitions,
        machines,
        with_landmarks(plans),
        _strikes(dice, machines),
        _turmoil(dice, machines, window, tuning),
        _rates(dice),
        tuning,
        window,
        dice.choice((1, 1, 2)),
    )


def _strikes(dice: Random, machines: int) -> tuple[Strike, ...]:
    strikes = []
    for machine in range(machines):
        gap, call = dice.choice((0, 400, 1_500, 5_000)), 0
        for _ in range(dice.randint(0, 4) if gap else 0):
            call += 1 + int(dice.expovariate(1 / gap))
            if dice.random() < 0.7:
                kept = dice.choice((0, 0, 1, 3, 1_000))
                strikes.append(Strike(machine, call, Fault.CRASH, kept))
            elif dice.random() < 0.7:
                strikes.append(Strike(machine, call, Fault.PAUSE, dice.choice((1, 50, 800))))
            else:
                strikes.append(Strike(machine, call, Fault.FREEZE, dice.choice((2_500, 6_000))))
    return tuple(strikes)


_LASTING: dict[Fault, tuple[int, ...]] = {
    Fault.KILL: (0,),
    Fault.STOP: (0,),
    Fault.DEPLOY: (0,),
    Fault.CLOCK_FORWARD: (500, 20_000, 55_000),
    Fault.CLOCK_BACKWARD: (500, 20_000, 55_000),
    Fault.CLOCK_WRONG: (3_600_000,),
    Fault.MOVE: (0,),
    Fault.STEAL: (50, 1_500, 6_000),
    Fault.STORM: (2_000, 4_000),
    Fault.OUTAGE: (100, 1_000, 4_500),
    Fault.DISK_LOST: (0,),
    Fault.DISK_STALE: (0,),
    Fault.DISK_SWAPPED: (0,),
    Fault.DISK_CORRUPT: (0,),
    Fault.DISK_FULL: (300, 3_000),
    Fault.ACTIVITIES_SLOW: (1_000, 5_000),
    Fault.SATURATED: (300, 2_000),
    Fault.SNAPSHOT_BROKEN: (0,),
    Fault.SNAPSHOT_LOST: (0,),
    Fault.COMPACTION: (0,),
    Fault.TRIM_FORGOTTEN: (0,),
    Fault.JUNK: (0,),
    Fault.MISPLACED: (0,),
}


def _turmoil(dice: Random, machines: int, window_ms: int, tuning: Tuning) -> tuple[Turmoil, ...]:
    events = []
    # What harms snapshots and trimmed logs matters where they are, and shows when a disk is gone after it.
    harm = []
    if tuning.snapshot_records_min < 1_000:
        harm += [Fault.SNAPSHOT_BROKEN, Fault.SNAPSHOT_LOST, Fault.COMPACTION]
    if tuning.retention_seconds is not None:
        harm.append(Fault.TRIM_FORGOTTEN)
    if tuning.standbys:
        events.append(Turmoil(dice.randint(50, window_ms), Fault.PEER_CUT, dice.randrange(machines)))
    for kind in harm:
        at = dice.randint(window_ms // 3, window_ms)
        if dice.random() < 0.4:
            events.append(Turmoil(at, kind))
            then = min(at + dice.randint(1, 2_000), window_ms - 1)
            events.append(Turmoil(then, Fault.DISK_LOST, dice.randrange(machines)))
    for _ in range(dice.choice((0, 2, 4, 7))):
        kind = dice.choice(list(_LASTING))
        at = dice.randint(50, window_ms)
        events.append(Turmoil(at, kind, dice.randrange(machines), dice.choice(_LASTING[kind])))
    return tuple(sorted(events, key=lambda event: event.at_ms))


def _rates(dice: Random) -> Rates:
    level = dice.choice((0.0, 0.003, 0.01, 0.03))
    others = (Fault.HASTE, Fault.RESULT_DOUBLED, Fault.RESULT_FORGED)
    kinds = sorted((*NETWORK, *others), key=lambda kind: kind.name)
    chosen = {kind: level * dice.choice((0.5, 1, 2)) for kind in kinds if dice.random() < 0.4}
    if Fault.LATE_LANDING in chosen:
        chosen[Fault.LATE_LANDING] = 0.5
    return Rates(chosen if level else {})


def _tuning(dice: Random) -> Tuning:
    return Tuning(
        slots_max=dice.choice((10_000, 10_000, 3)),
        checkpoint_turns_max=dice.choice((8, 40, 200)),
        inbox_depth_max=dice.choice((5_000, 5_000, 4)),
        in_flight_max=dice.choice((5_000, 5_000, 2)),
        round_messages_max=dice.choice((500, 500, 1)),
        record_bytes_max=dice.choice((1_000_000, 1_000_000, 1_500)),
        replay_always=dice.random() < 0.1,
        retention_seconds=dice.choice((None, None, None, 1.0, 6.0)),
        snapshot_records_min=dice.choice((50_000, 50_000, 15)),
        standbys=dice.random() < 0.3,
    )
