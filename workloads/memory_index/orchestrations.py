"""Index, follow, re-index, forget: the orchestrations of the memory index.

follow_feed ── for ever ──▶ ingest ── one for each batch ──▶ index_batch: chunk ▶ embed ▶ write
reindex ──────────────────▶ ingest
forget_everything: forget ▶ rewrite ▶ verify
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import PurePath

from perdure import OrchestrationContext, RetryPolicy, TaskFailedError, when_any
from workloads.remote import ModelRefused

from . import activities as do
from .activities import FeedPosition, Generation, Person, Staging, WriteRequest, app
from .feed import Freshness
from .generations import ReindexRefused
from .sources import BadSource, LineRange, Rejected, Source
from .steps import REASONS_KEPT, Batch, PageRequest
from .writing import WrongEmbedder

__all__ = ["app", "follow_feed", "forget_everything", "index_batch", "ingest", "reindex"]

STOP = "stop"

RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1),
    max_number_of_attempts=10,
    backoff_coefficient=2,
    max_retry_interval=timedelta(minutes=1),
    non_retriable_errors=(BadSource, WrongEmbedder, ReindexRefused, ModelRefused),
)


class IngestFailed(RuntimeError):
    """Some batches could not be indexed; all the others are."""


class NotForgotten(RuntimeError):
    """Something of a person is still to be found."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been indexed so far."""

    batches: int = 0
    documents: int = 0
    passages: int = 0
    rejected: int = 0
    reasons: tuple[Rejected, ...] = ()
    failures: tuple[str, ...] = ()

    def plus(self, other: "Counts") -> "Counts":
        return Counts(
            self.batches + other.batches,
            self.documents + other.documents,
            self.passages + other.passages,
            self.rejected + other.rejected,
            (*self.reasons, *other.reasons)[:REASONS_KEPT],
            (*self.failures, *other.failures)[:REASONS_KEPT],
        )


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """Index `sources`. What follows `batches_at_once` is where the ingest stands and begins at nothing."""

    index: str
    sources: tuple[Source, ...]
    lines_each: int = 50
    batches_at_once: int = 64
    generation: str = ""
    staging: str = ""
    source: int = 0
    start: int = 0
    planned: int = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """Follow the JSONL files in `folder`, looking for more every `every_seconds`."""

    index: str
    folder: str
    every_seconds: float = 5.0
    lines_each: int = 50
    done: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A deletion, verified: nothing is left."""

    passages_removed: int
    passages_left: int


@app.orchestration
async def index_batch(ctx: OrchestrationContext, batch: Batch) -> Counts:
    """Take one batch through its steps."""
    ctx.set_custom_status("chunking")
    chunked = await ctx.call_activity(do.chunk_batch, batch, retry_policy=RETRY)
    ctx.set_custom_status("embedding")
    embedder = await ctx.call_activity(do.embed_batch, batch, retry_policy=RETRY)
    ctx.set_custom_status("writing")
    written = await ctx.call_activity(do.write_batch, WriteRequest(batch, embedder), retry_policy=RETRY)
    ctx.set_custom_status("written")
    return Counts(1, written, chunked.passages, chunked.rejected_count, chunked.rejected)


@app.orchestration
async def ingest(ctx: OrchestrationContext, request: IngestRequest) -> Counts:
    """Index the sources, page by page of batches; each page is an execution of its own, so no history grows long."""
    request = replace(request, staging=request.staging or ctx.new_uuid())
    page = await ctx.call_activity(do.plan_page, _page_request(request), retry_policy=RETRY)
    planned = request.planned + len(page.batches)
    counts = await _index_all(ctx, page.batches, request.counts, planned)
    if page.source < len(request.sources):
        ctx.continue_as_new(replace(request, source=page.source, start=page.start, planned=planned, counts=counts))
        return counts
    await ctx.call_activity(do.clear_up, Staging(request.index, request.staging), retry_policy=RETRY)
    if counts.failures:
        raise IngestFailed(f"{len(counts.failures)} batches failed: {'; '.join(counts.failures)}")
    return counts


@app.orchestration
async def follow_feed(ctx: OrchestrationContext, request: FeedRequest) -> Counts:
    """Index what is appended to a feed, for ever; "stop" ends it."""
    stop = ctx.wait_for_external_event(STOP)
    found = await ctx.call_activity(do.look_for_new, FeedPosition(request.folder, request.done), retry_policy=RETRY)
    if found:
        request = await _index_found(ctx, request, found)
    fresh = await ctx.call_activity(do.look_how_fresh, FeedPosition(request.folder, request.done), retry_policy=RETRY)
    ctx.set_custom_status(_feed_status(request, fresh))
    pause = ctx.create_timer(timedelta(seconds=request.every_seconds))
    await when_any([pause, stop])
    if stop.is_complete:
        return request.counts
    ctx.continue_as_new(request)
    return request.counts


@app.orchestration
async def reindex(ctx: OrchestrationContext, index: str) -> int:
    """Build the index anew from every source it was ever given, and put it in the old one's place when it is complete."""
    generation = Generation(index, ctx.new_uuid().replace("-", "")[:12])
    ctx.set_custom_status("beginning")
    sources = await ctx.call_activity(do.begin_generation, generation, retry_policy=RETRY)
    try:
        ctx.set_custom_status(f"indexing {len(sources)} sources into generation {generation.name}")
        await ctx.call_sub_orchestrator(ingest, IngestRequest(index, sources, generation=generation.name))
        ctx.set_custom_status("changing over")
        return await ctx.call_activity(do.finish_generation, generation, retry_policy=RETRY)
    except TaskFailedError:
        await ctx.call_activity(do.abandon_generation, generation, retry_policy=RETRY)
        raise


@app.orchestration
async def forget_everything(ctx: OrchestrationContext, person: Person) -> Forgotten:
    """Delete one person's data from the index and the files under it, and look whether it is gone."""
    ctx.set_custom_status("deleting")
    removed = await ctx.call_activity(do.forget, person, retry_policy=RETRY)
    ctx.set_custom_status("rewriting")
    await ctx.call_activity(do.rewrite, person.index, retry_policy=RETRY)
    ctx.set_custom_status("verifying")
    left = await ctx.call_activity(do.count_remaining, person, retry_policy=RETRY)
    if left:
        raise NotForgotten(f"{left} passages are still to be found")
    return Forgotten(removed, left)


def _page_request(request: IngestRequest) -> PageRequest:
    return PageRequest(
        index=request.index,
        ingest=request.staging,
        sources=request.sources,
        source=request.source,
        start=request.start,
        first=request.planned,
        lines_each=request.lines_each,
        at_most=request.batches_at_once,
        generation=request.generation,
    )


async def _index_all(ctx: OrchestrationContext, batches: tuple[Batch, ...], counts: Counts, planned: int) -> Counts:
    """Index batches side by side, counting each as it comes in. One that fails does not stop the others."""
    running = {ctx.call_sub_orchestrator(index_batch, batch): batch for batch in batches}
    while running:
        ctx.set_custom_status(_ingest_status(counts, planned))
        task = await when_any(list(running))
        batch = running.pop(task)
        try:
            counts = counts.plus(task.get_result())
        except TaskFailedError as error:
            lines = batch.lines
            counts = counts.plus(Counts(failures=(f"{lines.path} bytes {lines.start} to {lines.end}: {error}",)))
    ctx.set_custom_status(_ingest_status(counts, planned))
    return counts


async def _index_found(ctx: OrchestrationContext, request: FeedRequest, found: tuple[LineRange, ...]) -> FeedRequest:
    sources = tuple(Source(lines.path, start=lines.start, end=lines.end) for lines in found)
    try:
        counts = await ctx.call_sub_orchestrator(ingest, IngestRequest(request.index, sources, request.lines_each))
    except TaskFailedError as error:
        # The lines stay new: the next round tries them again, and until then they count as waiting.
        return replace(request, counts=request.counts.plus(Counts(failures=(str(error),))))
    done = request.done | {PurePath(lines.path).name: lines.end for lines in found}
    return replace(request, done=done, counts=request.counts.plus(counts))


def _ingest_status(counts: Counts, planned: int) -> dict[str, object]:
    return {
        "batches": counts.batches,
        "planned": planned,
        "documents": counts.documents,
        "passages": counts.passages,
        "rejected": counts.rejected,
        "failed": len(counts.failures),
    }


def _feed_status(request: FeedRequest, fresh: Freshness) -> dict[str, object]:
    return {
        "documents": request.counts.documents,
        "waiting": fresh.waiting,
        "newest_waiting_seconds": fresh.newest_age_seconds,
        "oldest_waiting_seconds": fresh.oldest_age_seconds,
    }
