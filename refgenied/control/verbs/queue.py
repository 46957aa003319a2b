"""Verbs about jobs and the queue."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.verbs.assets import Limit
from refgenied.control.verbs.server import Nothing
from refgenied.control.views import PAGE_ROWS, JobView, Page, job_view
from refgenied.model import ConflictError, Job, JobNotFoundError
from refgenied.store import jobs as rows

registry: Registry[Context] = Registry()


class JobListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ended: Annotated[int, Meta(ge=0, le=10_000, description="and the last so many that have ended")] = 0
    skip: Annotated[int, Meta(ge=0, description="the `next` of the page before")] = 0
    limit: Limit = PAGE_ROWS


class JobList(msgspec.Struct, frozen=True):
    jobs: list[JobView]
    next: int | None
    paused: str
    """Why nothing is claimed; empty when jobs run."""


@registry.verb(
    "job.list",
    "Running jobs, then queued ones in the order in which they will run, then `ended` ended ones; a page of them.",
    params=JobListParams,
)
async def job_list(context: Context, call: Call, params: JobListParams) -> JobList:  # noqa: ARG001
    async with context.store.transaction() as tx:
        jobs = [*await rows.unfinished(tx), *(await rows.ended(tx, params.ended) if params.ended else [])]
    page = Page((job_view(context, job) for job in jobs[params.skip :]), limit=params.limit)
    following = params.skip + len(page.rows) if page.more else None
    return JobList(jobs=page.rows, next=following, paused=context.pause.reason)


class JobParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    job: Annotated[int, Meta(ge=1, le=2**63 - 1)]


async def get_job(context: Context, number: int) -> Job:
    """JobNotFoundError when there is none, or no longer."""
    async with context.store.transaction() as tx:
        job = await rows.get(tx, number)
    if job is None:
        raise JobNotFoundError(f"there is no job {number}", hint="`refgeniectl queue list --all` shows them")
    return job


@registry.verb("job.get", "One job.", params=JobParams, errors=(JobNotFoundError,))
async def job_get(context: Context, call: Call, params: JobParams) -> JobView:  # noqa: ARG001
    return job_view(context, await get_job(context, params.job))


@registry.verb(
    "job.cancel",
    "Cancel a queued job at once, or ask a running one to stop.",
    params=JobParams,
    writes=True,
    errors=(JobNotFoundError, ConflictError),
)
async def job_cancel(context: Context, call: Call, params: JobParams) -> JobView:
    return job_view(context, await context.jobs.cancel(params.job, call.peer.requester))


@registry.verb(
    "job.retry",
    "Queue an ended job again, or try one at once that waits to be tried again.",
    params=JobParams,
    writes=True,
    errors=(JobNotFoundError, ConflictError),
)
async def job_retry(context: Context, call: Call, params: JobParams) -> JobView:
    return job_view(context, await context.jobs.retry(params.job, call.peer.requester))


class PauseState(msgspec.Struct, frozen=True):
    paused: str
    """Why nothing is claimed; empty when jobs run."""
    changed: bool


@registry.verb("queue.pause", "Start no more jobs; a running one goes on.", params=Nothing, writes=True)
async def queue_pause(context: Context, call: Call, params: Nothing) -> PauseState:  # noqa: ARG001
    changed = await context.pause.pause(call.peer.requester)
    return PauseState(paused=context.pause.reason, changed=changed)


@registry.verb("queue.resume", "Start jobs again.", params=Nothing, writes=True)
async def queue_resume(context: Context, call: Call, params: Nothing) -> PauseState:  # noqa: ARG001
    changed = await context.pause.resume(call.peer.requester)
    return PauseState(paused=context.pause.reason, changed=changed)
