"""Why a job does not run yet, in one line: the queue is paused, the disk is full, others come first."""

from __future__ import annotations

import time
from typing import NamedTuple

from refgenied.control.context import Context
from refgenied.control.dispatch import Call
from refgenied.model import Job, JobState
from refgenied.store import jobs as rows

FIRST_AFTER = 1.0
"""Seconds that something is waited for before the peer is told why; and between two looks at the reason."""


class Waiting(NamedTuple):
    cause: str
    """The same as long as only the numbers in the reason change."""
    reason: str


async def why_waiting(context: Context, job: Job) -> Waiting:
    """What an unfinished job waits for; a running one waits for nothing but itself."""
    named = f"job {job.id} is {job.state}"
    if job.state is not JobState.QUEUED:
        return Waiting(job.state, named)
    if context.pause.active:
        reason = context.pause.reason
        return Waiting(reason, f"{named}, and the queue stands still: {reason}")
    now = context.clock()
    if job.not_before > now:
        at = moment(job.not_before, now)
        return Waiting(f"later {job.attempts}", f"{named} and is tried again at {at}: {job.error or 'it failed'}")
    async with context.store.transaction() as tx:
        others = await rows.before(tx, job, now)
    if others:
        return Waiting("behind", f"{named} behind {others} other{'s' if others > 1 else ''}")
    return Waiting(job.state, named)


def moment(at: float, now: float) -> str:
    """Local time; with the day when that is another one."""
    then, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


class Reasons:
    """Tells a peer by `waiting` notifications what is waited for, when that lasts and whenever the cause changes."""

    def __init__(self, context: Context, call: Call, *, tell: bool) -> None:
        self._context = context
        self._call = call
        self._tell = tell
        self._next = time.monotonic() + FIRST_AFTER
        self._told = ""

    async def tell(self, job: Job | None, otherwise: str = "") -> None:
        """`otherwise`: the reason when there is no job yet."""
        if not self._tell or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + FIRST_AFTER
        cause, reason = await why_waiting(self._context, job) if job else Waiting(otherwise, otherwise)
        if cause and cause != self._told:
            self._told = cause
            if cause != JobState.RUNNING:
                await self._call.notify("waiting", {"cause": cause, "reason": reason})
