"""The steps as activities. Each is plain, and safe to repeat: it replaces what an earlier attempt left."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perdure import ActivityContext, App

from . import generations, steps
from .directory import IndexDirectory
from .feed import Freshness, find_new_lines, measure_freshness
from .sources import LineRange, Source
from .writing import count_passages, forget_person, rewrite_generations

app = App()


@dataclass(frozen=True, slots=True)
class WriteRequest:
    batch: steps.Batch
    embedder: str


@dataclass(frozen=True, slots=True)
class Person:
    """One person in one index."""

    index: str
    name: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of one index."""

    index: str
    name: str


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """A feed's folder, and up to which byte of each file it is indexed."""

    folder: str
    done: dict[str, int]


@dataclass(frozen=True, slots=True)
class Staging:
    index: str
    ingest: str


@app.activity
def plan_page(request: steps.PageRequest) -> steps.Page:
    return steps.plan_page(request)


@app.activity
def chunk_batch(batch: steps.Batch) -> steps.Chunked:
    return steps.chunk(batch)


@app.activity
def embed_batch(batch: steps.Batch) -> str:
    return steps.embed(batch)


@app.activity
def write_batch(ctx: ActivityContext, request: WriteRequest) -> int:
    """Commit a batch under the writer's lock; whoever waits for the lock lets go when its instance does."""
    return steps.write(request.batch, request.embedder, lambda: ctx.cancelled)


@app.activity
def clear_up(staging: Staging) -> None:
    steps.clear_up(staging.index, staging.ingest)


@app.activity
def begin_generation(generation: Generation) -> tuple[Source, ...]:
    return generations.begin(_at(generation.index), generation.name)


@app.activity
def finish_generation(generation: Generation) -> int:
    return generations.finish(_at(generation.index), generation.name)


@app.activity
def abandon_generation(generation: Generation) -> None:
    generations.abandon(_at(generation.index), generation.name)


@app.activity
def forget(ctx: ActivityContext, person: Person) -> int:
    """Take a person out of the index; return how many passages went in this attempt."""
    return forget_person(_at(person.index), person.name, lambda: ctx.cancelled)


@app.activity
def rewrite(ctx: ActivityContext, index: str) -> None:
    """Write the index anew without what is deleted in it."""
    rewrite_generations(_at(index), lambda: ctx.cancelled)


@app.activity
def count_remaining(person: Person) -> int:
    """Count what a search could still find of a person."""
    return count_passages(_at(person.index), person.name)


@app.activity
def look_for_new(position: FeedPosition) -> tuple[LineRange, ...]:
    """Find what was appended to a feed."""
    return find_new_lines(Path(position.folder), position.done)


@app.activity
def look_how_fresh(position: FeedPosition) -> Freshness:
    """Say how long the messages have waited that are not indexed."""
    return measure_freshness(Path(position.folder), position.done, datetime.now(UTC))


def _at(index: str) -> IndexDirectory:
    return IndexDirectory(Path(index))
