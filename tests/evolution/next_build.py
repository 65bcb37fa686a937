"""The next build: this one with an event more, at format level 2, made by the changes that such a build would make."""

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

SCHEMA = {
    "type": "record",
    "name": "TaskPraised",
    "namespace": "perdure",
    "fields": [{"name": "task_id", "type": "long"}, {"name": "by", "type": "string"}],
}
EVENT = """
@dataclass(frozen=True, slots=True)
class TaskPraised:
    KIND: ClassVar[int] = 99
    task_id: int
    by: str


"""
PRAISE = '''
    def praise(self, by: str) -> None:
        """What only the next build can do."""
        self._execution.record(ev.TaskPraised(self._execution.next_task_id(), by))

    def patched('''

# Each change of a file, as (what stands there, what stands there then).
CHANGES: dict[str, list[tuple[str, str]]] = {
    "schemas/records.py": [("\nLEVEL = 1\n", "\nLEVEL = 2\n")],
    "schemas/events.py": [
        ("@dataclass(frozen=True, slots=True)\nclass UnknownEvent:", EVENT + "@dataclass(frozen=True, slots=True)\nclass UnknownEvent:"),
        ("    | PatchMarked\n", "    | PatchMarked\n    | TaskPraised\n"),
    ],
    "schemas/vocabulary.py": [
        ("from .events import HistoryEvent, UnknownEvent", "from .events import HistoryEvent, TaskPraised, UnknownEvent"),
        (
            "{1: tuple(cls for cls in get_args(HistoryEvent) if cls is not UnknownEvent)}",
            "{1: tuple(cls for cls in get_args(HistoryEvent) if cls not in (UnknownEvent, TaskPraised)), 2: (TaskPraised,)}",
        ),
    ],
    "actors/instance.py": [("ev.PatchMarked: _apply_nothing,", "ev.PatchMarked: _apply_nothing, ev.TaskPraised: _apply_nothing,")],
    "actors/comparison.py": [("    ev.TimerCanceled: attr", "    ev.TaskPraised: attrgetter('task_id', 'by'),\n    ev.TimerCanceled: attr")],
    "actors/context.py": [("\n    def patched(", PRAISE)],
    "src/perdure/audit/instances.py": [("    ev.PatchMarked,\n", "    ev.PatchMarked,\n    ev.TaskPraised,\n")],
}  # fmt: skip


def make_next_build(into: Path) -> Path:
    """Copy this build's package to `into` and make it the next one; return the folder for PYTHONPATH."""
    package = into / "perdure"
    shutil.copytree(ROOT / "src" / "perdure", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in CHANGES.items():
        path = package / name.removeprefix("src/perdure/")
        text = path.read_text(encoding="utf-8")
        for before, after in changes:
            assert 1 == text.count(before), (
                f"{name} does not hold {before!r} once: the next build is made otherwise now"
            )
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")
    (package / "schemas" / "v2").mkdir()
    (package / "schemas" / "v2" / "TaskPraised.avsc").write_text(json.dumps(SCHEMA), encoding="utf-8")
    return into
