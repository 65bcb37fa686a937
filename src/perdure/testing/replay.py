"""Replay of a saved history: would this code decide today what was decided then?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perdure.actors.app import App
from perdure.audit.decisions import Decisions
from perdure.client.views import decode_json
from perdure.errors import PerdureError
from perdure.schemas import events as ev
from perdure.schemas.records import TurnBody
from perdure.schemas.views import turn_from_json


class ReplayFailed(PerdureError, AssertionError):
    """The code decides otherwise than the history, or is not there. `findings` pairs each with the history offset of its turn."""

    code = "replay-failed"

    def __init__(self, findings: tuple[tuple[int, str], ...]) -> None:
        super().__init__("\n".join(f"offset {offset}: {message}" for offset, message in findings))
        self.findings = findings


def replay(app: App, source: str | Path | Mapping[str, Any]) -> None:
    """Run `app` over a history that `perdure history ID --json` saved: a file, or what it holds. Every decision is compared, its
    input too. Raises ReplayFailed, and ValueError where the source is no history."""
    saved: Any = source if isinstance(source, Mapping) else _read(Path(source))
    name = "this" if isinstance(source, Mapping) else source
    try:
        instance_id = saved["instance"]["instance_id"]
        turns = [turn_from_json(turn) for turn in saved["turns"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name} is no history as `perdure history ID --json` saves it: {error!r}") from error
    # Where it continued as new, the turn that began it ends the execution before.
    if not turns or not any(isinstance(event, ev.ExecutionStarted) for event in turns[0].events):
        raise ValueError(f"{name} is no whole history: there is no ExecutionStarted in its first turn")
    decisions = Decisions(app)
    for turn in turns:
        decisions.take(instance_id, turn.offset, TurnBody(turn.time_ms, decided=turn.decided, events=turn.events))
    decisions.finish()
    if decisions.found:
        raise ReplayFailed(tuple((offset, message) for offset, message, _ in decisions.found))


def _read(file: Path) -> Any:
    try:
        return decode_json(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is no history as `perdure history ID --json` saves it: {error}") from error
