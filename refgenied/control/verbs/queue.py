"""Verbs about jobs and the queue: `job.list`, `job.get`, `job.cancel`, `job.retry`, `queue.pause`, `queue.resume`."""

from typing import Annotated

from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import JobNumber, Limit, Nothing, Params, Skip
from refgenied.control.views import PAGE_ROWS, JobView, Page, View, job_view
from refgenied.model import ConflictError, JobNotFoundError
from refgenied.store import jobs as rows


class JobListParams(Params, frozen=True):
    ended: Annotated[int, Meta(ge=0, le=10_000, description="and the last so many that have ended")] = 0
    skip: Skip = 0
    limit: Limit = PAGE_ROWS


class JobList(View, frozen=True):
    jobs: list[JobView]
    next: int | None
    paused: str
    """Why nothing is claimed; empty when jobs run."""


@Verb("job.list")
async def job_list(context: Context, call: Call, params: JobListParams) -> JobList:
    """Running jobs, then queued jobs in the order in which they will run, then `ended` ended jobs; a page of them."""
    jobs = await context.store.ask(rows.listed, params.ended, skip=params.skip, limit=params.limit + 1)
    page = Page((job_view(context, job) for job in jobs), limit=params.limit)
    return JobList(jobs=page.rows, next=page.next_after(params.skip), paused=context.pause.reason)


class JobParams(Params, frozen=True):
    job: JobNumber


@Verb("job.get", errors=(JobNotFoundError,))
async def job_get(context: Context, call: Call, params: JobParams) -> JobView:
    """One job."""
    return job_view(context, await context.store.ask(rows.required, params.job))


@Verb("job.cancel", writes=True, errors=(JobNotFoundError, ConflictError))
async def job_cancel(context: Context, call: Call, params: JobParams) -> JobView:
    """Cancel a queued job at once, or ask a running job to stop."""
    return job_view(context, await context.jobs.cancel(params.job, call.peer.requester))


@Verb("job.retry", writes=True, errors=(JobNotFoundError, ConflictError))
async def job_retry(context: Context, call: Call, params: JobParams) -> JobView:
    """Queue an ended job again, or try a waiting job at once."""
    return job_view(context, await context.jobs.retry(params.job, call.peer.requester))


class PauseState(View, frozen=True):
    paused: str
    """Why nothing is claimed; empty when jobs run."""
    changed: bool


@Verb("queue.pause", writes=True)
async def queue_pause(context: Context, call: Call, params: Nothing) -> PauseState:
    """Start no more jobs; a running job continues."""
    changed = await context.pause.pause(call.peer.requester)
    return PauseState(paused=context.pause.reason, changed=changed)


@Verb("queue.resume", writes=True)
async def queue_resume(context: Context, call: Call, params: Nothing) -> PauseState:
    """Start jobs again."""
    changed = await context.pause.resume(call.peer.requester)
    return PauseState(paused=context.pause.reason, changed=changed)
