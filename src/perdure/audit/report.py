"""What an audit found: findings by partition and offset, counts of what the log tells, and the heads to remember."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Blame(Enum):
    """What a finding says is wrong; the value is the exit code of `perdure audit` when nothing graver was found."""

    LOG = 2
    DECISION = 3
    CODE = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `rule` is a rule of the log protocol, or `instance`, `head`, `code`."""

    partition: int
    offset: int
    rule: str
    message: str
    blame: Blame = Blame.LOG

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset} {self.rule}: {self.message}"


@dataclass(frozen=True, slots=True)
class Head:
    """The last accepted record of a partition and the digest up to it. Kept elsewhere, it shows a tail that was cut off."""

    partition: int
    offset: int
    digest: bytes

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Read `partition:offset:digest`. Raises ValueError."""
        try:
            partition, offset, digest = text.split(":")
            return cls(int(partition), int(offset), bytes.fromhex(digest))
        except ValueError:
            raise ValueError(
                f"a head is partition:offset:digest, as `perdure audit` prints it; found {text!r}"
            ) from None


@dataclass(slots=True)
class Counts:
    """What the accepted records tell. `spanning_instances` have turns on both sides of a later claim."""

    records: int = 0
    accepted: int = 0
    void: int = 0
    claims: int = 0
    turns: int = 0
    started: int = 0
    continued: int = 0
    forgotten: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    activities_completed: int = 0
    activities_failed: int = 0
    activities_retried: int = 0
    activities_redispatched: int = 0
    timers_fired: int = 0
    spanning_instances: int = 0
    executions_replayed: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of another partition."""
        for name in self.__slots__:
            mine, more = getattr(self, name), getattr(other, name)
            setattr(self, name, mine + more)

    def as_json(self) -> dict[str, Any]:
        return {
            name: dict(value) if isinstance(value := getattr(self, name), Counter) else value for name in self.__slots__
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The outcome. Findings are in order of partition and offset. `begins_at` is where the evidence of a partition that was trimmed
    begins: a base; what was before it is gone."""

    findings: tuple[Finding, ...]
    counts: Counts
    counts_by_partition: Mapping[int, Counts]
    heads: tuple[Head, ...]
    begins_at: Mapping[int, int] = field(default_factory=dict[int, int])

    @property
    def exit_code(self) -> int:
        """0 clean, 2 the log is broken, 3 the code decides otherwise, 4 the code is not there; the gravest wins."""
        return min((finding.blame.value for finding in self.findings), default=0)

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "exit_code": self.exit_code,
            "findings": [
                {
                    "partition": f.partition,
                    "offset": f.offset,
                    "rule": f.rule,
                    "message": f.message,
                    "blame": f.blame.name.lower(),
                }
                for f in self.findings
            ],
            "counts": self.counts.as_json(),
            "counts_by_partition": {
                str(partition): counts.as_json() for partition, counts in self.counts_by_partition.items()
            },
            "heads": [str(head) for head in self.heads],
            "evidence_begins_at": {str(partition): offset for partition, offset in self.begins_at.items()},
        }
