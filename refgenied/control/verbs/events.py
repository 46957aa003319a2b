"""Watches: the state now and its `seq`, then what happens, in order, until `end` says why there is no more."""

from __future__ import annotations

from typing import Annotated

import anyio
import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.protocol import InvalidParamsError
from refgenied.control.verbs.queue import get_job
from refgenied.control.views import JobView, event_view, job_view
from refgenied.control.waiting import Reasons
from refgenied.model import ENDED, Event, Job, JobNotFoundError, JobState
from refgenied.queue.feed import Subscription
from refgenied.shared.progress import Progress
from refgenied.store import events
from refgenied.store import jobs as rows

registry: Registry[Context] = Registry()

TICK = 0.25
"""Seconds between two readings of progress."""
FOLDED = "folded"
"""Why a job was cancelled whose place another one of the same asset has taken."""


class End(msgspec.Struct, frozen=True):
    """What the last notification of a watch says."""

    reason: str
    """done, or lagged: the peer was too slow, and comes back with `since`."""
    seq: int
    """Of the last event that was sent."""
    job: JobView | None = None


class EventWatchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    since: (
        Annotated[int, Meta(ge=0, le=2**63 - 1, description="the last `seq` seen; without it: from now on")] | None
    ) = None
    at: Annotated[float, Meta(description="instead of `since`: from this moment on, Unix seconds")] | None = None
    follow: Annotated[bool, Meta(description="go on with what will happen")] = True


class EventWatch(msgspec.Struct, frozen=True):
    seq: int
    """Of the newest event there is."""
    oldest: int
    """Of the oldest event that is remembered; 0 for an empty log."""
    lagged: bool
    """Events after `since` are forgotten: read the state anew."""
    since: int
    """After which event it begins."""


@registry.verb(
    "event.watch",
    "What happened after `since`, and what happens from now on: an `event` notification for each.",
    params=EventWatchParams,
    lasts=True,
    begins=EventWatch,
    notifies=("event",),
)
async def event_watch(context: Context, call: Call, params: EventWatchParams) -> End:
    if params.since is not None and params.at is not None:
        raise InvalidParamsError("event.watch: give either `since` or `at`")
    with context.feed.subscribed() as subscription:
        async with context.store.transaction() as tx:
            oldest, newest = await events.span(tx)
            first = None if params.at is None else await events.before(tx, params.at)
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
        async with context.store.transaction() as tx:
            logged = await events.since(tx, last)
        if not logged:
            return last
        last = await _tell(context, call, logged, last)


async def _tell(context: Context, call: Call, arrived: list[Event], last: int) -> int:
    """Send the events that come after `last`; the new last one."""
    for event in arrived:
        if event.seq > last:
            await call.notify("event", msgspec.structs.asdict(event_view(context, event)))
            last = event.seq
    return last


class JobWatchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    job: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    waiting: Annotated[bool, Meta(description="send `waiting` notifications that say what it waits for")] = False


class JobWatch(msgspec.Struct, frozen=True):
    seq: int
    job: JobView


@registry.verb(
    "job.watch",
    "A job until it ends: its events and about 4 `progress` notifications a second; `end` has the job as it ended. "
    "When another job of the asset takes its place, that one is watched on.",
    params=JobWatchParams,
    lasts=True,
    begins=JobWatch,
    notifies=("event", "progress", "waiting"),
    errors=(JobNotFoundError,),
)
async def job_watch(context: Context, call: Call, params: JobWatchParams) -> End:
    with context.feed.subscribed() as subscription:
        job = await get_job(context, params.job)
        async with context.store.transaction() as tx:
            _, newest = await events.span(tx)
        await call.begin(JobWatch(seq=newest, job=job_view(context, job)))
        reasons = Reasons(context, call, tell=params.waiting)
        return await _JobWatch(context, call, subscription, newest, reasons).run(job)


class _JobWatch:
    def __init__(self, context: Context, call: Call, subscription: Subscription, last: int, reasons: Reasons) -> None:
        self._context = context
        self._call = call
        self._subscription = subscription
        self._last = last
        self._reasons = reasons
        self._told: Progress | None = None

    async def run(self, job: Job) -> End:
        while True:
            job = await self._successor(job)
            if job.state in ENDED:
                await self._context.keeper.catch_up()  # who asked for the archive may want to pull it next
                return End("done", self._last, job_view(self._context, job))
            arrived: list[Event] = []
            with anyio.move_on_after(TICK):
                arrived = await self._subscription.take()
            if self._subscription.lagged:
                return End("lagged", self._last, job_view(self._context, job))
            ours = [event for event in arrived if event.job == job.id]
            self._last = await _tell(self._context, self._call, ours, self._last)
            await self._progress(job)
            await self._reasons.tell(job)
            if ours:
                job = await get_job(self._context, job.id)

    async def _successor(self, job: Job) -> Job:
        """The job that has taken this one's place, else this one."""
        if job.state is not JobState.CANCELLED or job.error_kind != FOLDED:
            return job
        async with self._context.store.transaction() as tx:
            newest = await rows.latest_of(tx, job.key)
        return newest or job

    async def _progress(self, job: Job) -> None:
        progress = self._context.jobs.progress.get(job.id)
        if progress is not None and progress != self._told:
            self._told = progress
            await self._call.notify("progress", {"job": job.id, **progress.message()})
