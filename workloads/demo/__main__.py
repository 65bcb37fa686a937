"""`make demo`: both workloads on one hub, killed in the middle, and what came of it by the log's own account.

    python -m workloads.demo [--kafka | --brokers SERVERS --hub HUB] [--directory DIR]

Exit 1 unless every claim of `verdict` holds.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.markup import escape

from perdure.client import Client, Handle
from perdure.errors import NoAnswer, PerdureError
from workloads.memory_index.orchestrations import Counts, IngestRequest, ingest
from workloads.memory_index.sources import Source, SourceKind
from workloads.scheduled_tasks import commands
from workloads.scheduled_tasks.schedule import Schedule
from workloads.scheduled_tasks.task import ScheduledTask

from .hubs import APP, DemoHub, EmbeddedDemo, GivenHub, KafkaDemo, MortalHub
from .inputs import CONVERSATIONS, CONVERSATIONS_PERSON, write_feed
from .processes import DemoFailed, own_environment, run_command
from .progress import Display, Standing
from .verdict import Asked, Check, Tally, ask_all, check_index, check_kill, check_log
from .walk import expected_ids

UNFINISHED_MIN = 20
RUNS_EACH = 3
PATIENCE_SECONDS = 100.0
_GLANCE_SECONDS = 0.25
_PROMPTS = (
    "What is new in asyncio?",
    "Which module compresses data?",
    "How are decorators written?",
    "What does the with statement do?",
    "Which modules speak HTTP?",
    "How does garbage collection work?",
)


@dataclass(frozen=True, slots=True)
class Work:
    """What the demo started."""

    ingest: Handle[Counts]
    schedules: tuple[Handle[Schedule], ...]


class Demo:
    """One run, from an empty directory until everything has ended."""

    def __init__(self, root: Path, hub: DemoHub, display: Display) -> None:
        self._root = root
        self._hub = hub
        self._display = display
        self._wanted = len(expected_ids())
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        self._began = datetime.now(UTC)
        # A hub that was there may remember an earlier run.
        self._tasks = tasks(f"{uuid4().hex[:6]}-" if isinstance(hub, GivenHub) else "")

    def run(self, victim: MortalHub | None) -> None:
        """Start everything, kill `victim` in the middle, and wait until everything has ended."""
        write_feed(self._root / "feed")
        with self._hub.start() as client:
            work = self._begin(client)
            self._display.say("Indexing Python's own documentation while six scheduled tasks run.")
            if victim is not None:
                unfinished = self._wait_for_the_moment(client, work, victim)
                done = victim.kill()
                self._display.say(f"[bold red]{unfinished} instances were unfinished and activities ran:[/] {done}.")
            self._wait_for_documents(client, work)
            for schedule, task in zip(work.schedules, self._tasks, strict=True):
                self._wait_for_runs(client, work, task)
                commands.delete(client, task.id)
                schedule.wait(self._seconds_left())
            self._look(client, work)
        self._hub.stop()

    def _begin(self, client: Client) -> Work:
        feed = self._root / "feed"
        sources = (
            Source(str(feed / "topics.jsonl")),
            Source(str(feed / "modules.jsonl")),
            Source(str(CONVERSATIONS), SourceKind.CHATGPT, CONVERSATIONS_PERSON),
        )
        schedules = tuple(commands.create(client, task) for task in self._tasks)
        request = IngestRequest(str(self._root / "index"), sources, lines_each=8)
        return Work(
            client.start(ingest, request, instance_id=self._tasks[0].id.replace("question-1", "ingest")), schedules
        )

    def _wait_for_the_moment(self, client: Client, work: Work, victim: MortalHub) -> int:
        while True:
            standing = self._look(client, work)
            unfinished = standing.started - standing.finished
            if unfinished >= UNFINISHED_MIN and victim.activities_running():
                return unfinished
            if work.ingest.get().status.terminal:
                raise DemoFailed("everything was done before the moment to kill came")

    def _wait_for_documents(self, client: Client, work: Work) -> None:
        while not work.ingest.get().status.terminal:
            self._look(client, work)
            time.sleep(_GLANCE_SECONDS)

    def _wait_for_runs(self, client: Client, work: Work, task: ScheduledTask) -> None:
        while (commands.status(client, task.id) or {}).get("completed", 0) < RUNS_EACH:
            self._look(client, work)
            time.sleep(_GLANCE_SECONDS)

    def _look(self, client: Client, work: Work) -> Standing:
        """Ask the hub where things stand, and show it. What a partition cannot say now counts as before."""
        if not self._seconds_left():
            raise DemoFailed(f"not everything was done within {PATIENCE_SECONDS:g} s")
        try:
            instances = list(client.list_all(limit=1000, created_from=self._began))
        except NoAnswer:
            return Standing(0, self._wanted, 0, 0, 0, 0)
        by_id = {instance.instance_id: instance for instance in instances}
        mine = by_id.get(work.ingest.id)
        indexed = (mine.custom_status or {}).get("documents", 0) if mine is not None else 0
        runs = [instance for instance in instances if instance.name == "scheduled_run"]
        finished = sum(instance.status.terminal for instance in instances)
        ran = sum(run.status.terminal for run in runs)
        wanted = max(ran, RUNS_EACH * len(work.schedules))
        standing = Standing(indexed, self._wanted, finished, len(instances), ran, wanted)
        self._display.show(standing)
        return standing

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def tasks(prefix: str = "") -> tuple[ScheduledTask, ...]:
    """Six tasks that run every two seconds."""
    return tuple(
        ScheduledTask(f"{prefix}question-{number}", "ada", prompt, "*/2 * * * * *")
        for number, prompt in enumerate(_PROMPTS, 1)
    )


def audit(root: Path, look: Sequence[str]) -> Tally:
    """Let `perdure audit` count what the log tells, and keep the log for later audits."""
    export = root / "history.jsonl"
    export.unlink(missing_ok=True)
    run_command("audit", *look, "--export", str(export))
    command = [sys.executable, "-m", "perdure", "audit", "--from", str(export), "--app", APP, "--json"]
    audited = subprocess.run(command, env=own_environment(), stdout=subprocess.PIPE, text=True, check=False)
    try:
        return Tally.read(json.loads(audited.stdout), audited.returncode)
    except ValueError:
        raise DemoFailed(f"perdure audit said nothing and exited {audited.returncode}") from None


def show_outcome(console: Console, tally: Tally, asked: Sequence[Asked], checks: Sequence[Check]) -> None:
    console.print(
        f"\n[bold]{tally.started}[/] started, [bold]{tally.finished}[/] finished, "
        f"[bold]{tally.retried + tally.redispatched}[/] activities tried again "
        f"([bold]{tally.redispatched}[/] because of the kill), [bold]{tally.replayed}[/] executions replayed by audit"
    )
    for each in asked:
        console.print(f"\n[bold]{escape(each.question.text)}[/]")
        console.print(f"  {escape(each.answer.text[:300] or '(no sentence answers it)')}")
        places = ", ".join(hit.passage.document_id for hit in each.answer.hits)
        console.print(f"  [dim]{escape(places)}[/]")
    console.print()
    for check in checks:
        mark = "[green]✓[/]" if check.holds else "[bold red]✗[/]"
        console.print(f"{mark} {escape(check.claim)}: {escape(check.found)}")


def show_more(console: Console, root: Path, *, embedded: bool) -> None:
    """Say how to look further; all of it works when the demo is over."""
    python, place = shlex.quote(os.path.relpath(sys.executable)), os.path.relpath(root)
    console.print("\nLook further:")
    if embedded:
        console.print(f"  {python} -m perdure list --dir '{place}/hub'", highlight=False)
        console.print(f"  {python} -m perdure history ingest --dir '{place}/hub'", highlight=False)
    console.print(f"  {python} -m perdure audit --from '{place}/history.jsonl' --app {APP}", highlight=False)
    console.print(f"  {python} -m workloads.memory_index '{place}/index' 'What is a heap?'", highlight=False)


def judge(root: Path, hub: DemoHub, console: Console) -> bool:
    """Show what came of it and whether every claim holds."""
    tally, asked = audit(root, hub.look()), ask_all(root / "index")
    killed = () if isinstance(hub, GivenHub) else check_kill(tally)
    checks = (*check_log(tally), *killed, *check_index(root / "index", asked))
    show_outcome(console, tally, asked, checks)
    show_more(console, root, embedded=isinstance(hub, EmbeddedDemo))
    return all(check.holds for check in checks)


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workloads.demo", description="Both workloads, through a SIGKILL.")
    parser.add_argument("--kafka", action="store_true", help="on a real broker, with two workers")
    parser.add_argument("--brokers", help="on a hub that is there, with workers that others run (and may kill)")
    parser.add_argument("--hub", default="demo", help="with --brokers: the hub's name; default: demo")
    parser.add_argument("--directory", type=Path, help="where its files go; emptied first")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    given = read_arguments(words)
    root = (given.directory or Path("build") / ("demo-kafka" if given.kafka else "demo")).absolute()
    root.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    console = Console(highlight=False, soft_wrap=True)
    mine: MortalHub = KafkaDemo(root) if given.kafka else EmbeddedDemo(root)
    hub: DemoHub = GivenHub(given.hub, given.brokers) if given.brokers else mine
    began = time.monotonic()
    try:
        with Display(console) as display:
            Demo(root, hub, display).run(None if given.brokers else mine)
        holds = judge(root, hub, console)
    except (DemoFailed, PerdureError) as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
        return 1
    finally:
        hub.stop()
        hub.close()
    console.print(f"\n{time.monotonic() - began:.0f} s in all")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
