"""The watches `event.watch` and `job.watch`: first the present state, then all events in order, then `end`."""

from typing import Annotated

import anyio
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import JobNumber, Params, require_not_both
from refgenied.control.views import JobView, View, event_view, job_view
from refgenied.control.waiting import JOB_PROGRESS_SECONDS, JobNews
from refgenied.model import ENDED, Event, Job, JobNotFoundError, JobState
from refgenied.store import events
from refgenied.store import jobs as rows

FOLDED = "folded"
"""The error kind of a job that was cancelled because another job of the same asset has replaced it."""


class End(View, frozen=True):
    """The last notification of a watch."""

    reason: str
    """done, or lagged (the peer was too slow: it must come back with `since`)."""
    seq: int
    """The number of the last event that was sent."""
    job: JobView | None = None


class EventWatchParams(Params, frozen=True):
    since: (
        Annotated[int, Meta(ge=0, le=2**63 - 1, description="the last `seq` seen; without it: from now on")] | None
    ) = None
    at: Annotated[float, Meta(description="instead of `since`: from this moment on, Unix seconds")] | None = None
    follow: Annotated[bool, Meta(description="go on with what will happen")] = True


class EventWatch(View, frozen=True):
    seq: int
    """The number of the newest event."""
    oldest: int
    """The number of the oldest event that is remembered; 0 for an empty log."""
    lagged: bool
    """Whether events after `since` are forgotten. Then read the state again."""
    since: int
    """The watch begins after the event with this number."""


@Verb("event.watch", lasts=True, begins=EventWatch, notifies=("event",))
async def event_watch(context: Context, call: Call, params: EventWatchParams) -> End:
    """All events after `since`, and new events: an `event` notification for each."""
    require_not_both("event.watch", since=params.since, at=params.at)
    with context.jobs.feed.subscribed() as subscription:
        first = None if params.at is None else await context.store.ask(events.before, params.at)
        oldest, newest = await context.store.ask(events.span)
        since = first if first is not None else newest if params.since is None else params.since
        lagged = params.since is not None and (since > newest or (oldest > 0 and since < oldest - 1))
        await call.begin(EventWatch(seq=newest, oldest=oldest, lagged=lagged, since=since))
        last = await _tell_logged(context, call, 0 if since > newest else since)
        while params.follow:
            arrived = await subscription.take()
            if subscription.lagged:
                return End("lagged", last)
            last = await _tell(context, call, arrived, last)
    return End("done", last)


async def _tell_logged(context: Context, call: Call, last: int) -> int:
    while True:
        logged = await context.store.ask(events.since, last)
        if not logged:
            return last
        last = await _tell(context, call, logged, last)


async def _tell(context: Context, call: Call, arrived: list[Event], last: int) -> int:
    """Send the events after `last`. Returns the number of the last event."""
    for event in arrived:
        if event.seq > last:
            await call.notify("event", event_view(context, event))
            last = event.seq
    return last


class JobWatchParams(Params, frozen=True):
    job: JobNumber
    waiting: Annotated[bool, Meta(description="send `waiting` notifications that say what it waits for")] = False
    served: Annotated[bool, Meta(description="wait until its archive is in the served config too")] = False


class JobWatch(View, frozen=True):
    seq: int
    job: JobView


@Verb("job.watch", lasts=True, begins=JobWatch, notifies=("event", "progress", "waiting"), errors=(JobNotFoundError,))
async def job_watch(context: Context, call: Call, params: JobWatchParams) -> End:
    """A job until it ends: its events and about 4 `progress` notifications a second; `end` has the ended job. If
    another job of the asset replaces it, the watch goes on with that job.
    """
    with context.jobs.feed.subscribed() as subscription:
        job = await context.store.ask(rows.required, params.job)
        _, last = await context.store.ask(events.span)
        await call.begin(JobWatch(seq=last, job=job_view(context, job)))
        news = JobNews(context, call, progress=True, waiting=params.waiting)
        while True:
            job = await _successor(context, job)
            if job.state in ENDED:
                if params.served:  # the client wants to pull the archive next
                    await context.catalog.catch_up()
                return End("done", last, job_view(context, job))
            arrived: list[Event] = []
            with anyio.move_on_after(JOB_PROGRESS_SECONDS):
                arrived = await subscription.take()
            if subscription.lagged:
                return End("lagged", last, job_view(context, job))
            ours = [event for event in arrived if event.job == job.id]
            last = await _tell(context, call, ours, last)
            await news.tell(job)
            if ours:
                job = await context.store.ask(rows.required, job.id)


async def _successor(context: Context, job: Job) -> Job:
    """The job that has replaced this job; else this job."""
    if job.state is not JobState.CANCELLED or job.error_kind != FOLDED:
        return job
    return await context.store.ask(rows.latest_of, job.key) or job
