"""C23: what is carried forward, what is named as a base, and what is let go of (R15).

Rules of this file: whoever names a base tells the truth, also in a record that does not count; so every record that names one is
held to what the log said when it was written.
"""

from collections.abc import Iterator, Mapping, Sequence

from perdure.partitions.ports import LogRecord
from perdure.schemas.codec import WireError, decode_checkpoint, decode_claim, decode_envelope
from perdure.schemas.records import RecordKind

from .evidence import Evidence, Violation
from .folding import Folding
from .marks import Marks
from .reading import Entry, Reading
from .stores import Turns

NO_BASE = -1
Fold = tuple[Mapping[str, Folding], Marks, Turns]


class Bases:
    """The bases of one partition, each judged where it is named."""

    def __init__(self, records: Sequence[LogRecord]) -> None:
        self.found: list[Violation] = []
        self._named = [(record.offset, base) for record in records if (base := _base_of(record)) != NO_BASE]
        self._at = 0
        self._checkpoints: dict[int, Entry] = {}

    def take(self, entry: Entry, next_offset: int, fold: Fold) -> None:
        """The fold is at `entry`, and stays so until `next_offset`."""
        if entry.checkpoint is not None:
            self._checkpoints[entry.first] = entry
        if entry.carried is not None:
            self._check_carried(entry, fold)
        while self._at < len(self._named) and self._named[self._at][0] < next_offset:
            offset, base = self._named[self._at]
            self._at += 1
            self._check_base(offset, base, entry, fold)

    def _check_carried(self, entry: Entry, fold: Fold) -> None:
        """It is the whole history as of this place: every turn of it, byte for byte, where it stood."""
        assert entry.carried is not None
        carried, known = entry.carried, fold[2].of.get(entry.instance_id, [])
        found = [(turn.offset, turn.body) for turn in carried.turns]
        if found != known:
            stated, expected = [offset for offset, _ in found], [offset for offset, _ in known]
            text = f"the history of {entry.instance_id} is carried with turns {stated}, and it has {expected}"
            self.found.append(Violation("C23", f"{entry.where}: {text}"))
        if carried.as_of >= entry.first or (known and carried.as_of < known[-1][0]):
            text = f"the history of {entry.instance_id} is carried as of {carried.as_of}"
            self.found.append(Violation("C23", f"{entry.where}: {text}"))

    def _check_base(self, offset: int, base: int, entry: Entry, fold: Fold) -> None:
        lives, marks, _ = fold
        where = f"{entry.partition}:{offset} names base {base}"
        checkpoint = self._checkpoints.get(base)
        if checkpoint is None or checkpoint.checkpoint is None:
            self.found.append(Violation("C23", f"{where}, where no checkpoint counts"))
            return
        for name, folding in lives.items():
            if folding.life is not None and folding.life.begins_at < base:
                text = f"the history of {name} begins at {folding.life.begins_at}"
                self.found.append(Violation("C23", f"{where}, and {text}"))
        for target in checkpoint.checkpoint.targets:
            if target.target == marks.partition:
                left = [sequence for sequence in marks.waiting if sequence <= target.decided]
            else:
                left = list(range(marks.acked.get(target.target, 0) + 1, target.decided + 1))
            if left:
                text = f"sends {left} to {target.target}, decided before it, are not acknowledged"
                self.found.append(Violation("C23", f"{where}, and {text}"))


def _base_of(record: LogRecord) -> int:
    """The base that a record names, whether it counts or not."""
    try:
        envelope = decode_envelope(record.value or b"")
        if envelope.kind == RecordKind.CLAIM:
            return decode_claim(envelope.body, envelope.format).base
        if envelope.kind == RecordKind.CHECKPOINT and envelope.parts == 1:
            return decode_checkpoint(envelope.body, envelope.format).base
    except WireError:
        pass
    return NO_BASE


def check_trims(evidence: Evidence, reading: Reading) -> Iterator[Violation]:
    """Only what stands before a base that a record named is let go of; of the inbox only what a checkpoint says was consumed."""
    for trim in evidence.trims:
        entries = [entry for entry in reading.entries[trim.partition] if entry.time_ms <= trim.time_ms]
        if trim.of_inbox:
            allowed = max((each.checkpoint.inbox_mark for each in entries if each.checkpoint is not None), default=0)
        else:
            allowed = max((_named_by(entry) for entry in entries), default=NO_BASE)
        if trim.before > allowed:
            what = "inbox" if trim.of_inbox else "history"
            text = f"{what} {trim.partition} is trimmed to {trim.before}, and the log allows {allowed} at that time"
            yield Violation("C23", text)


def _named_by(entry: Entry) -> int:
    if entry.claim is not None:
        return entry.claim.base
    return entry.checkpoint.base if entry.checkpoint is not None else NO_BASE
