"""Jobs: enqueue, claim, end, retry, cancel, recover. A change and its events are one transaction."""

from collections.abc import Callable, Collection, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec

import anyio

from refgenied.config.settings import Current
from refgenied.health import Clock
from refgenied.model import (
    Arrow,
    AssetKey,
    BusyError,
    Job,
    JobState,
    RefgeniedError,
    Requester,
    StateError,
    waits,
)
from refgenied.queue import arrows
from refgenied.queue.downloads import Downloads
from refgenied.queue.eventlog import Change, EventLog, since_boot
from refgenied.queue.feed import Feed
from refgenied.queue.records import Records
from refgenied.shared.progress import Progress
from refgenied.store import Store
from refgenied.store import jobs as rows

PRUNE_SECONDS = waits.DAY_SECONDS
"""Seconds between two deletions of old jobs."""
ENDED_JOBS_KEPT_SECONDS = 30 * waits.DAY_SECONDS
LONGEST_WAIT_FOR_A_JOB_SECONDS = 60.0
"""After this long the queue is looked at in any case."""


P = ParamSpec("P")


class RunningJob:
    """A running job, as other tasks can reach it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        """Cancel this scope to stop the job."""
        self.cancelled_by: Requester | None = None
        """The user who cancelled the job; None when nobody did, or when the daemon stops."""


class Jobs:
    def __init__(self, store: Store, feed: Feed, current: Current, clock: Clock, steady: Clock = since_boot) -> None:
        self.store = store
        self.feed = feed
        self._current = current
        self._clock = clock
        self._log = EventLog(store, feed, clock, steady)
        self.write = self._log.write
        """One transaction with its events."""
        self.records = Records(self._log)
        self.downloads = Downloads(self._log)
        self._wake = anyio.Event()
        self.reserved_keys: set[AssetKey] = set()
        """Assets whose jobs must not begin now."""
        self.running: dict[int, RunningJob] = {}
        """The running jobs, from their claim until their end is recorded. Any thread may read this."""
        self.looked_at: dict[int, anyio.CancelScope] = {}
        """The queued jobs whose assets are looked at now, before the claim → the scope of this look."""
        self.progress: dict[int, Progress] = {}
        """The progress of each running job."""

    # ----------------------------------------------------------------- requests of users and the reconciler

    async def enqueue(
        self, key: AssetKey, *, stamp: str, priority: int, force: bool = False, requester: Requester | None = None
    ) -> tuple[Job, bool]:
        """Ask for an up-to-date archive of the asset. Returns its job, and whether the job is new.

        A job that is queued already is adapted to this request too. A running job is enough if it packs this state.
        """
        return (await self.enqueue_all({key: rows.Need(stamp, priority, force)}, requester))[key]

    async def enqueue_all(
        self, needs: Mapping[AssetKey, rows.Need], requester: Requester | None = None
    ) -> dict[AssetKey, tuple[Job, bool]]:
        """The same for several assets: all of them or, after an error, none. The database is held meanwhile."""
        found = await self._log.write(arrows.enqueue_all, needs, (requester or Requester()).name)
        self.wake()
        return found

    async def cancel(self, number: int, requester: Requester) -> Job:
        """Cancel a queued job at once, or ask the worker to stop a running one (it ends within 0.3 s)."""
        job = await self._log.write(arrows.cancel_now, number, requester)
        if job.state is not JobState.RUNNING:
            if number in self.looked_at:  # the disk may never answer, and other jobs wait for the look
                self.looked_at[number].cancel()
                self.wake()
            return job
        running = self.running[number]
        running.cancelled_by = requester
        running.scope.cancel()
        return job

    async def retry(self, number: int, requester: Requester) -> Job:
        """Queue an ended job again, or try a waiting job at once. Both start as if they were new.

        ConflictError: the job is due or runs already.
        """
        job = await self._log.write(arrows.retry, number, requester)
        self.wake()
        return job

    # ----------------------------------------------------------------- assets that others work on

    @contextmanager
    def reserved(self, key: AssetKey) -> Generator[None]:
        """A context in which no job of the asset begins. BusyError: another request has reserved the asset already."""
        if key in self.reserved_keys:
            raise BusyError(f"{key.registry_path} is being removed or imported by another request", hint="try again")
        self.reserved_keys.add(key)
        try:
            yield
        finally:
            self.reserved_keys.discard(key)
            self.wake()

    async def at_rest(self, key: AssetKey) -> None:
        """Return when no job of the asset runs. If the caller has reserved the asset, only it writes the files."""
        with self.feed.subscribed("job.") as subscription:
            while await self.runs(key):
                await subscription.take()
                subscription.lagged = False

    async def runs(self, key: AssetKey) -> bool:
        """Whether a job of the asset runs now."""
        return await self.store.ask(rows.in_state, key, JobState.RUNNING) is not None

    # ----------------------------------------------------------------- when a job is due

    def wake(self) -> None:
        """Note that a job may be due now."""
        self._wake.set()

    def next_wake(self) -> anyio.Event:
        """An event that is set at the next `wake`."""
        self._wake = anyio.Event()
        return self._wake

    async def wait_due(self, *, paused: Callable[[], bool]) -> None:
        """Return when a job may be due, or when there is a new one. Then the caller tries to claim a job."""
        wake = self.next_wake()
        due = None if paused() else await self._log.write(self._next_time)
        pause = None
        if due is not None and not paused():
            pause = min(max(0.05, due - self._clock()), LONGEST_WAIT_FOR_A_JOB_SECONDS)
        with anyio.move_on_after(pause):
            await wake.wait()

    async def _next_time(self, change: Change) -> float | None:
        return await rows.next_time(change.tx, but_not=frozenset(self.reserved_keys))

    async def due(self, most: int) -> list[Job]:
        """The next jobs that could be claimed now, at most this many, in their order."""
        return await self._log.write(self._due, most)

    async def _due(self, change: Change, most: int) -> list[Job]:
        return await rows.due(change.tx, change.now, most, but_not=frozenset(self.reserved_keys))

    # ----------------------------------------------------------------- the arrows of the worker

    async def claim_those(self, stamps: Mapping[int, str]) -> list[arrows.Claimed]:
        """Take those of these jobs that are still the next due ones, in one transaction. Each has one attempt more.

        `stamps`: job → the stamp that its asset has now.
        """
        claimed = await self._log.write(self._claim, stamps)
        for one in claimed:
            self.running[one.job.id] = RunningJob()  # right after the commit: who reads "running" finds it here
        return claimed

    async def _claim(self, change: Change, stamps: Mapping[int, str]) -> list[arrows.Claimed]:
        due = await self._due(change, len(stamps))
        return [await arrows.claim(change, job, stamps[job.id]) for job in due if job.id in stamps]

    async def _end(
        self,
        jobs: Collection[Job],
        body: Callable[Concatenate[Change, P], Coroutine[Any, Any, None]],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> None:
        await self._log.write(body, *arguments, **named)
        for job in jobs:
            self.running.pop(job.id, None)
            self.progress.pop(job.id, None)

    async def succeed(self, ends: Sequence[arrows.Success], generation: int = 0) -> None:
        """The archives are safe on the disk: record them, end their jobs and log it, all in one transaction.

        `generation`: the number from `ArchiveFolder.changing`; 0 if all these archives are recorded already.
        """
        await self._end([end.job for end in ends], arrows.succeed, ends, generation)

    async def fail(self, job: Job, error: RefgeniedError) -> None:
        """End the job if the error is permanent. If not, queue it again for a later attempt, without an end."""
        await self._end([job], self._failed, job, error)
        self.wake()

    async def _failed(self, change: Change, job: Job, error: RefgeniedError) -> None:
        if error.permanent:
            await arrows.end(change, job, Arrow.FAIL, error.kind, error.message)
        else:
            wait = waits.back_off(job.attempts, self._current.settings.archive.retry_seconds)
            await self._queue_again(change, job, Arrow.RETRY_LATER, error, wait=wait, **arrows.NO_CRASHES)

    async def hand_back(self, job: Job, reason: RefgeniedError, *, wait: float = 0.0) -> None:
        """Give the job back to the queue, and do not count the attempt: the daemon stops, or every job would fail.

        The job stays behind others for `wait` seconds, or until `release`. A job that a user has cancelled ends.
        """
        await self._end([job], self._handed_back, job, reason, wait)

    async def _handed_back(self, change: Change, job: Job, reason: RefgeniedError, wait: float) -> None:
        charged = {**arrows.NO_CRASHES, "attempts": job.attempts - 1}
        await self._queue_again(change, job, Arrow.HAND_BACK, reason, wait=wait, **charged)

    async def _queue_again(
        self, change: Change, job: Job, arrow: Arrow, reason: RefgeniedError, *, wait: float, **columns: int | str
    ) -> None:
        """The job goes back to the queue. If a user has cancelled it meanwhile, it ends."""
        running = self.running.get(job.id)
        if running is not None and running.cancelled_by is not None:
            await arrows.cancel(change, job, Arrow.CANCEL_RUNNING, running.cancelled_by)
        else:
            await arrows.requeue(change, job, arrow, reason, wait=wait, **columns)

    async def end_cancelled(self, job: Job, kind: str, reason: str) -> None:
        await self._end([job], arrows.end, job, Arrow.CANCEL_RUNNING, kind, reason)

    async def release(self, error_kinds: Sequence[str]) -> None:
        """Make the jobs due that wait because of these kinds of errors."""
        await self._log.write(arrows.release, error_kinds)
        self.wake()

    # ----------------------------------------------------------------- at start, and daily

    async def recover(self) -> list[Job]:
        """At start: find the jobs that are still marked as running. They ran when the daemon was killed.

        This counts as an attempt, and the job goes last; after the third time in a row it waits for days. Other jobs
        wait as long as before, but never longer than the allowed time.
        """
        return await self._log.write(arrows.recover)

    async def keep_pruned(self) -> None:
        """Prune at start and every day. Ends only by cancellation."""
        while True:
            with suppress(StateError):  # the next day tries again
                await self.prune()
            await anyio.sleep(PRUNE_SECONDS)

    async def prune(self) -> int:
        """Forget jobs that ended long ago. Returns their number."""
        return await self.store.ask(rows.prune, before=self._log.surely() - ENDED_JOBS_KEPT_SECONDS)
