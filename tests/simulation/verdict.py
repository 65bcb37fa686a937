"""What a run came to: the checkers' findings, the model's, and the figures."""

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from perdure.audit import Blame, audit_records
from perdure.partitions.holdings import Code
from perdure.schemas import events as ev
from tests.checkers.evidence import Evidence, Violation
from tests.checkers.folding import Life
from tests.checkers.judge import Case, judge

from .faults import Fault
from .generate import Scenario
from .interpreter import CODE
from .model import Allowance, End, Model, mail_problems
from .plans import Plan, Trouble
from .run import run_scenario

AUDITED_EVERY = 25
"""One run in so many is audited as well: every decision of its histories is made again by the code."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run's outcome. `digest` is of everything that happened."""

    scenario: Scenario
    violations: tuple[Violation, ...]
    faults: Counter[Fault]
    figures: Counter[str]
    digest: str
    network_faults: tuple[int, ...]
    trace: tuple[tuple[object, ...], ...]

    @property
    def checkers(self) -> frozenset[str]:
        """The numbers of the checkers that found something."""
        return frozenset(each.checker for each in self.violations)


def try_scenario(scenario: Scenario) -> Verdict:
    """Run a scenario and judge it. What neither engine nor judge expects is a finding like any other: it has a seed, and a story."""
    try:
        return _judge(scenario)
    except Exception as error:  # noqa: BLE001 (whatever it is)
        said = "".join(traceback.format_exception(error))
        found = Violation("C18", f"the run broke: {said}")
        digest = blake2b(said.encode(), digest_size=12).hexdigest()
        return Verdict(scenario, (found,), Counter(), Counter(runs=1), digest, (), ())


def _judge(scenario: Scenario) -> Verdict:
    run, evidence, digest = run_scenario(scenario)
    case = judge(evidence)
    allowance = allowance_of(case, late=run.world.counts.total() > 0, builds=scenario.builds)
    violations = [*case.violations, *check_ends(scenario.plans, case, allowance)]
    if scenario.seed % AUDITED_EVERY == 0:
        violations += check_audit(evidence, CODE[scenario.builds])
    figures = count_figures(scenario.plans, evidence, case)
    figures["virtual_ms"] = run.world.clock.now
    network = tuple(run.world.network.happened)
    return Verdict(scenario, tuple(violations), run.world.counts, figures, digest, network, tuple(run.world.trace))


def check_ends(planned: Sequence[Plan], case: Case, allowance: Allowance) -> Iterator[Violation]:
    """C16: every program comes to its right answer."""
    plans = {plan.instance_id: plan for plan in planned}
    ends = {name: _end_of(_last_life(plan, case)) for name, plan in plans.items()}
    # A start that comes again after a retention let go of its instance is another one: who forgets, forgets its requests too.
    again = {name for (name, _), entries in case.facts.starts.items() if len(entries) > 1}
    for name, plan in plans.items():
        if not plan.is_mailbox and name not in again:
            for problem in Model(plan, allowance).problems(ends[name]):
                yield Violation("C16", f"{name}: {problem}")
    for problem in mail_problems(plans, ends, again):
        yield Violation("C16", problem)


def _last_life(plan: Plan, case: Case) -> Life | None:
    """What is there of an instance, or was before a retention let go of it."""
    life = case.alive.get(plan.instance_id)
    if life is not None or plan.trouble is Trouble.FORCE:
        return life
    return case.lives.departed.get(plan.instance_id)


def _end_of(life: Life | None) -> End:
    if life is None:
        return End()
    failure = life.failure.type.rpartition(".")[2] if life.failure is not None else ""
    return End(life.shown.name, orjson.loads(life.result), failure, orjson.loads(life.custom_status))


def allowance_of(case: Case, *, late: bool, builds: int = 1, real: bool = False) -> Allowance:
    """What the log says of this run that no plan could foresee."""
    crashed = any(
        isinstance(event, ev.TaskFailed) and event.failure.type == "ActivityCrashed"
        for entry in case.reading.all()
        if entry.turn is not None
        for event in entry.turn.events
    )
    return Allowance(crashed=crashed, orphans=bool(case.facts.forgotten), late=late, builds=builds, real=real)


def check_audit(evidence: Evidence, code: Code) -> Iterator[Violation]:
    """The product's own audit must find nothing in an honest log."""
    for finding in audit_records(evidence.history, code).findings:
        if finding.blame is not Blame.CODE:  # some instances are of an orchestration that nobody has
            yield Violation("C3", f"audit: {finding}")


def count_figures(plans: Sequence[Plan], evidence: Evidence, case: Case) -> Counter[str]:
    """How much there was to be judged."""
    figures: Counter[str] = Counter(
        runs=1,
        programs=len(plans),
        instances=len(case.facts.lived),
        executions=len(case.lives.executions),
        records=sum(map(len, evidence.history.values())),
        void=sum(map(len, case.reading.void.values())),
        attempts=len(evidence.attempts or ()),
        calls=len(evidence.calls),
        answered=sum(call.completed_ms >= 0 for call in evidence.calls),
        replies=len(evidence.replies or ()),
        stores=sum(bool(image.content) for image in evidence.stores),
    )
    for entry in case.reading.all():
        figures["claims"] += entry.claim is not None
        figures["turns"] += entry.turn is not None and bool(entry.instance_id)
        figures["checkpoints"] += entry.checkpoint is not None
    for life in ({**case.lives.departed, **case.alive}).values():
        figures[f"ended as {life.shown.name}"] += 1
    return figures
