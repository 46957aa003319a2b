"""Helps verbs that wait for an asset or a job: its changes, the job's progress, and why the job does not run yet."""

import time

import anyio

from refgenied.control.context import Context
from refgenied.control.dispatch import Call
from refgenied.control.views import View
from refgenied.model import AssetKey, Job, JobState
from refgenied.queue.feed import Subscription
from refgenied.shared.output import moment
from refgenied.shared.progress import Progress
from refgenied.store import jobs as rows

JOB_PROGRESS_SECONDS = 0.25
"""Seconds between two readings of a job's progress."""
REASON_SECONDS = 1.0
"""A peer is told after this time why it waits. The reason is then checked again at this interval."""

BEHIND = "behind"
"""The cause of a job that waits for its turn. Its reason has the number of the jobs before it."""


async def changed(subscription: Subscription, key: AssetKey, seconds: float) -> bool:
    """Wait until the asset's jobs or archive may have changed (True), or for this many seconds (False).

    Subscribe before you read the state, so you get the changes after that.
    """
    with anyio.move_on_after(seconds):
        while True:
            events = await subscription.take()
            if subscription.lagged:
                subscription.skip()  # some events are lost, but the caller reads the whole state again
                return True
            if any(event.key == key for event in events):
                return True
    return False


class WaitingNotice(View, frozen=True):
    """Why a request waits."""

    cause: str
    """A text that stays the same while only numbers in the reason change."""
    reason: str


async def why_waiting(context: Context, job: Job, *, told: str = "") -> WaitingNotice:
    """Why an unfinished job waits. A running job does not wait.

    `told`: the cause that the peer knows. Then the jobs before this one are not counted again.
    """
    named = f"job {job.id} is {job.state}"
    if job.state is not JobState.QUEUED:
        return WaitingNotice(job.state, named)
    if context.pause.active:
        reason = context.pause.reason
        return WaitingNotice(reason, f"{named}, and the queue stands still: {reason}")
    now = context.clock()
    if job.not_before > now:
        at = moment(job.not_before, now)
        return WaitingNotice(f"later {job.attempts}", f"{named} and is tried again at {at}: {job.error or 'it failed'}")
    if told == BEHIND:
        return WaitingNotice(BEHIND, named)
    others = await context.store.ask(rows.before, job, now)
    if others:
        return WaitingNotice(BEHIND, f"{named} behind {others} other{'s' if others > 1 else ''}")
    return WaitingNotice(job.state, named)


class JobNews:
    """Sends a peer the progress of a job (`progress`) and, after a while, why the job waits (`waiting`)."""

    def __init__(self, context: Context, call: Call, *, progress: bool, waiting: bool) -> None:
        self._context = context
        self._call = call
        self._progress = progress
        self._waiting = waiting
        self._told_progress: Progress | None = None
        self.told_cause = ""
        """The cause that the peer was told last."""
        self._next_reason = time.monotonic() + REASON_SECONDS

    async def tell(self, job: Job | None, otherwise: str = "") -> None:
        """Send the news. `otherwise`: the reason for waiting while there is no job."""
        if job is not None and self._progress:
            await self._tell_progress(job)
        if self._waiting and time.monotonic() >= self._next_reason:
            self._next_reason = time.monotonic() + REASON_SECONDS
            await self._tell_reason(job, otherwise)

    async def _tell_progress(self, job: Job) -> None:
        progress = self._context.jobs.progress.get(job.id)
        if progress is not None and progress != self._told_progress:
            self._told_progress = progress
            await self._call.notify("progress", {"job": job.id, **progress.message()})

    async def _tell_reason(self, job: Job | None, otherwise: str) -> None:
        notice = WaitingNotice(otherwise, otherwise)
        if job is not None:
            notice = await why_waiting(self._context, job, told=self.told_cause)
        if notice.cause and notice.cause != self.told_cause:
            self.told_cause = notice.cause
            if notice.cause != JobState.RUNNING:
                await self._call.notify("waiting", notice)
