"""The sum of many verdicts: what was lost, done twice or stuck, and which faults fired how often."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.checkers.evidence import Violation

from .verdict import SHOWN, Verdict

TWICE = frozenset({"C2", "C3", "C4", "C5", "C9"})
LOST = frozenset({"C1", "C15", "C19", "C21", "C23"})
STUCK = frozenset({"C14", "C17"})
_TIMES = (" came ", " times")


def kind_of(violation: Violation) -> str:
    """What a violation means to a user. Events and messages may be lost or doubled, and what is said of them tells."""
    if violation.checker in STUCK or "got no answer" in violation.message or "not ended" in violation.message:
        return "stuck"
    if violation.checker in TWICE:
        return "twice"
    if violation.checker in LOST:
        return "lost"
    if violation.checker in ("C6", "C11"):
        doubled = all(word in violation.message for word in _TIMES) and " came 0 times" not in violation.message
        return "twice" if doubled else "lost"
    return "otherwise wrong"


@dataclass(slots=True)
class Tally:
    """All runs so far."""

    began: float
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)

    def take(self, chapter: str, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if chapter != "points":  # whose cases tell of themselves as they come
                print("\n".join(verdict.lines()), flush=True)
            self.verdicts.append((chapter, verdict))

    @property
    def good(self) -> bool:
        return bool(self.verdicts) and all(verdict.good for _, verdict in self.verdicts)

    def lines(self) -> Iterator[str]:
        """For people, with the verdict at the end."""
        for chapter in dict.fromkeys(chapter for chapter, _ in self.verdicts):
            of = [verdict for each, verdict in self.verdicts if each == chapter]
            figures = sum((verdict.figures for verdict in of), Counter[str]())
            faults = sum((verdict.faults for verdict in of), Counter[str]())
            yield f"{chapter}: {len(of)} runs: {', '.join(f'{figures[name]} {name}' for name in SHOWN)}"
            yield f"  {', '.join(f'{fault} {times}' for fault, times in sorted(faults.items()))}"
        yield from self._wrong()
        yield self.verdict()

    def _wrong(self) -> Iterator[str]:
        for _, verdict in self.verdicts:
            yield from (f"{verdict.name}: {violation}" for violation in verdict.violations)
            never = [fault for fault, times in verdict.faults.items() if not times]
            yield from (f"{verdict.name}: fault {fault} never happened" for fault in never)

    def verdict(self) -> str:
        """The one line."""
        violations = [violation for _, verdict in self.verdicts for violation in verdict.violations]
        kinds = Counter(map(kind_of, violations))
        fired = sum((verdict.faults for _, verdict in self.verdicts), Counter[str]())
        never = sum(not times for _, verdict in self.verdicts for times in verdict.faults.values())
        told = ", ".join(f"{kinds[kind]} {kind}" for kind in ("lost", "twice", "stuck", "otherwise wrong"))
        return (
            f"{told}; {fired.total()} faults of {len(+fired)} kinds fired, {never} planned ones never did; "
            f"{time.monotonic() - self.began:.0f} s"
        )
