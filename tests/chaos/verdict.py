"""What a run came to: everything that the checkers, the model and the audit say of its evidence, and how much there was of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.checkers.evidence import Evidence, Violation
from tests.checkers.judge import Case, judge
from tests.simulation.interpreter import StrictCode, make_app
from tests.simulation.plans import Plan
from tests.simulation.verdict import allowance_of, check_audit, check_ends, count_figures

SHOWN = ("instances", "turns", "claims", "void", "attempts", "calls", "checkpoints", "stores")


@dataclass(slots=True)
class Verdict:
    """`faults`: how often each was made to happen, zero for one that was planned and did not."""

    name: str
    violations: list[Violation]
    figures: Counter[str]
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        # A store that cannot be read is passed over; where none can, nothing was judged of them.
        judged = self.figures["instances"] > 0 and self.figures["stores"] > 0
        return not self.violations and all(self.faults.values()) and judged

    def keep(self, file: Path) -> None:
        """Leave word of what is wrong beside what processes said."""
        if not self.good:
            file.write_text("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """What there is to say, in order of weight."""
        wrong = [f"  {violation}" for violation in self.violations]
        wrong += [f"  no {name} to judge" for name in ("instances", "stores") if not self.figures[name]]
        wrong += [f"  fault {fault} never happened" for fault, times in self.faults.items() if not times]
        told = ", ".join(f"{self.figures[name]} {name}" for name in SHOWN)
        fired = ", ".join(f"{fault} {times}" for fault, times in sorted(self.faults.items()))
        return [f"{self.name}: {'ok' if self.good else 'WRONG'}: {told}", f"  faults: {fired or 'none'}", *wrong]


def judge_run(name: str, evidence: Evidence, plans: Sequence[Plan], faults: Mapping[str, int]) -> Verdict:
    """Judge all that there is evidence of."""
    case: Case = judge(evidence)
    allowance = allowance_of(case, late=True, real=True)
    violations = [*case.violations, *check_ends(plans, case, allowance)]
    violations += check_audit(evidence, StrictCode(make_app(1)))
    return Verdict(name, violations, count_figures(plans, evidence, case), Counter(dict(faults)))
