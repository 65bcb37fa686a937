"""Audit: a hub's history checked against the rules of the log protocol, and its decisions against the code.

The digest is unkeyed: it shows accidents and edits, not a chain that was rewritten to its end; and a tail that was cut off, or
a last record that was changed, shows only against a head that was kept elsewhere.
"""

from collections.abc import Iterable

from perdure.partitions.ports import LogRecord, LogTruncated

from .decisions import Decisions, ReplayedCode
from .export import (
    ExportError,
    ExportTrimmed,
    History,
    Living,
    NotAnExport,
    Records,
    find_beginning,
    read_export,
    read_log,
    write_export,
)
from .partition import PartitionAudit, Scope
from .report import AuditReport, Blame, Counts, Finding, Head

__all__ = [
    "AuditReport",
    "Blame",
    "Counts",
    "ExportError",
    "ExportTrimmed",
    "Finding",
    "Head",
    "History",
    "Living",
    "NotAnExport",
    "Records",
    "ReplayedCode",
    "audit_records",
    "read_export",
    "read_log",
    "write_export",
]


def audit_records(
    records: Records, code: ReplayedCode | None = None, *, heads: Iterable[Head] = (), only: str | None = None
) -> AuditReport:
    """Audit every partition in `records`.

    Without `code`, decisions are not run again. `heads` are what the log must hold at least; `only` names the one instance
    whose turns are looked at.
    """
    heads = tuple(heads)
    audits: list[PartitionAudit] = []
    for partition in sorted({*records, *(head.partition for head in heads)}):
        own = tuple(head for head in heads if head.partition == partition)
        audits.append(_audit_partition(partition, records.get(partition, ()), code, (own, only)))
    counts = Counts()
    for audit in audits:
        counts.add(audit.counts)
    return AuditReport(
        findings=tuple(finding for audit in audits for finding in audit.findings),
        counts=counts,
        counts_by_partition={audit.partition: audit.counts for audit in audits},
        heads=tuple(audit.head for audit in audits if audit.head is not None),
        begins_at={audit.partition: audit.begins_at for audit in audits if audit.begins_at},
    )


def _audit_partition(
    partition: int, stretch: Iterable[LogRecord], code: ReplayedCode | None, wanted: tuple[tuple[Head, ...], str | None]
) -> PartitionAudit:
    """One partition, from a beginning that is still there at the end: where its owner trims it meanwhile (R15), all of it anew."""
    while True:
        try:
            scope = Scope(*wanted, find_beginning(stretch))
            audit = PartitionAudit(partition, Decisions(code) if code is not None else None, scope)
            for record in stretch:
                audit.take(record)
        except LogTruncated:
            if not isinstance(stretch, Living) or not stretch.look_again():
                raise
        else:
            audit.finish()
            return audit
