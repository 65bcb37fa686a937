"""What the demo shows while it runs: bars that move on a terminal, a line now and then without one."""

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 2.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the demo stands, as the hub tells it."""

    documents: int
    documents_wanted: int
    finished: int
    started: int
    runs: int
    runs_wanted: int


class Display:
    """Shows a standing, and sentences in between."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live = _bars(self._console) if self._console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._last: tuple[float, Standing | None] = (0.0, None)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        (self._live.console if self._live else self._console).print(sentence)
        sys.stdout.flush()

    def show(self, standing: Standing) -> None:
        """Show where things stand."""
        if self._live:
            self._move("documents indexed", standing.documents, standing.documents_wanted)
            self._move("instances finished", standing.finished, standing.started)
            self._move("scheduled runs", standing.runs, standing.runs_wanted)
            return
        at, shown = self._last
        if standing != shown and time.monotonic() - at >= _SECONDS_BETWEEN_LINES:
            self._last = (time.monotonic(), standing)
            self.say(
                f"  documents {standing.documents}/{standing.documents_wanted}"
                f" · instances finished {standing.finished}/{standing.started}"
                f" · scheduled runs {standing.runs}/{standing.runs_wanted}"
            )

    def _move(self, name: str, done: int, wanted: int) -> None:
        assert self._live is not None
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(name, total=wanted)
        self._live.update(self._tasks[name], completed=min(done, wanted), total=wanted)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<19}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
