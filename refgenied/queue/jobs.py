"""Jobs: enqueue, claim, end, retry, cancel, recover. A change and its events are one transaction."""

import json
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio

from refgenied.config.settings import Current
from refgenied.health import Clock
from refgenied.model import (
    ArchiveRecord,
    Arrow,
    AssetKey,
    BusyError,
    ConflictError,
    CrashedError,
    Job,
    JobState,
    Outcome,
    Priority,
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
from refgenied.store import Store, archives
from refgenied.store import jobs as rows

PRUNE_SECONDS = waits.DAY_SECONDS
"""Seconds between two deletions of old jobs."""
ENDED_JOBS_KEPT_SECONDS = 30 * waits.DAY_SECONDS
LONGEST_WAIT_FOR_A_JOB_SECONDS = 60.0
"""After this long the queue is looked at in any case."""


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
        self.change = self._log.change
        """One transaction with its events."""
        self.records = Records(self._log)
        self.downloads = Downloads(self._log)
        self._wake = anyio.Event()
        self.reserved_keys: set[AssetKey] = set()
        """Assets whose jobs must not begin now."""
        self.running: dict[int, RunningJob] = {}
        """The running jobs, from their claim until their end is recorded. Any thread may read this."""
        self.progress: dict[int, Progress] = {}
        """The progress of each running job."""

    # ----------------------------------------------------------------- requests of users and the reconciler

    async def enqueue(
        self, key: AssetKey, *, stamp: str, priority: int, force: bool = False, requester: Requester | None = None
    ) -> tuple[Job, bool]:
        """Ask for an up-to-date archive of the asset. Returns its job, and whether the job is new.

        A job that is queued already is adapted to this request too. A running job is enough if it packs this state.
        """
        async with self.change() as change:
            running = await rows.in_state(change.tx, key, JobState.RUNNING)
            if running and running.stamp == stamp and running.force >= force:
                return running, False
            need = rows.Need(stamp, priority, force)
            queued = await rows.in_state(change.tx, key, JobState.QUEUED)
            if queued:
                await rows.sharpen(change.tx, queued.id, need, now=change.now)
                number = queued.id
            else:
                by = (requester or Requester()).name
                number = await rows.add(change.tx, key, need, requested_by=by, now=change.now)
                await change.log("job.queued", key, number, requested_by=by)
            job = await rows.required(change.tx, number)
        self.wake()
        return job, queued is None

    async def cancel(self, number: int, requester: Requester) -> Job:
        """Cancel a queued job at once, or ask the worker to stop a running one (it ends within 0.3 s)."""
        async with self.change() as change:
            job = await rows.required(change.tx, number)
            if job.state is JobState.QUEUED:
                await arrows.cancel(change, job, Arrow.CANCEL_QUEUED, requester)
                return await rows.required(change.tx, number)
            if job.state is not JobState.RUNNING:
                raise ConflictError(f"job {number} is {job.state} already")
        running = self.running[number]
        running.cancelled_by = requester
        running.scope.cancel()
        return job

    async def retry(self, number: int, requester: Requester) -> Job:
        """Queue an ended job again, or try a waiting job at once. Both start as if they were new.

        ConflictError: the job is due or runs already.
        """
        async with self.change() as change:
            job = await rows.required(change.tx, number)
            twin = await rows.in_state(change.tx, job.key, JobState.QUEUED)
            if twin and (twin.id != number or not (job.attempts or job.not_before > change.now)):
                raise ConflictError(f"job {twin.id} is queued for {job.key.registry_path} already")
            first = {**arrows.NO_CRASHES, "attempts": 0, "not_before": change.now, "requested_by": requester.name}
            ended = dict.fromkeys(("ended_at", "error", "error_kind"))
            await rows.move(change.tx, number, Arrow.REVIVE, priority=Priority.ASKED, **first, **ended)
            await change.log("job.queued", job.key, number, requested_by=requester.name, retried=True)
            job = await rows.required(change.tx, number)
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

    async def wait_due(self, *, paused: Callable[[], bool]) -> None:
        """Return when a job may be due, or when there is a new one. Then the caller tries to claim a job."""
        self._wake = anyio.Event()
        due = None
        if not paused():
            async with self.change() as change:
                due = await rows.next_time(change.tx, but_not=self.reserved_keys)
        pause = None
        if due is not None and not paused():
            pause = min(max(0.05, due - self._clock()), LONGEST_WAIT_FOR_A_JOB_SECONDS)
        with anyio.move_on_after(pause):
            await self._wake.wait()

    async def more_due(self) -> bool:
        """Whether another job could be claimed now."""
        return await self.store.ask(rows.next_due, self._clock(), but_not=self.reserved_keys) is not None

    # ----------------------------------------------------------------- the arrows of the worker

    async def claim(self) -> Job | None:
        """Take the next due job. This counts as one attempt."""
        async with self.change() as change:
            due = await rows.next_due(change.tx, change.now, but_not=self.reserved_keys)
            if due is None:
                return None
            attempt = due.attempts + 1
            await rows.move(change.tx, due.id, Arrow.CLAIM, started_at=change.now, attempts=attempt, error=None)
            await change.log("job.running", due.key, due.id, attempt=attempt)
            job = await rows.required(change.tx, due.id)
        self.running[job.id] = RunningJob()  # right after the commit, so every task that reads "running" finds it here
        return job

    @asynccontextmanager
    async def _last_arrow(self, job: Job) -> AsyncGenerator[Change]:
        async with self.change() as change:
            yield change
        self.running.pop(job.id, None)
        self.progress.pop(job.id, None)

    async def succeed(self, job: Job, outcome: Outcome, record: ArchiveRecord, generation: int = 0) -> None:
        """The archive is safe on the disk: record it, end the job and log both in one transaction.

        `generation`: the number from `ArchiveFolder.changing`; 0 for an archive that is recorded already.
        """
        async with self._last_arrow(job) as change:
            if outcome is Outcome.UNCHANGED:
                await archives.touch(change.tx, record)
            else:
                await archives.put(change.tx, record)
                await archives.put_generation(change.tx, generation)
            await rows.move(change.tx, job.id, Arrow.SUCCEED, ended_at=change.now, outcome=outcome)
            await change.log(
                f"archive.{outcome}", job.key, job.id, digest=record.digest, size=record.size, path=record.path
            )
            await change.log("job.succeeded", job.key, job.id, outcome=outcome)

    async def fail(self, job: Job, error: RefgeniedError) -> None:
        """End the job if the error is permanent. If not, queue it again for a later attempt, without an end."""
        async with self._last_arrow(job) as change:
            if error.permanent:
                await arrows.end(change, job, Arrow.FAIL, error.kind, error.message)
            else:
                wait = waits.back_off(job.attempts, self._current.settings.archive.retry_seconds)
                await self._queue_again(change, job, Arrow.RETRY_LATER, error, wait=wait, **arrows.NO_CRASHES)
        self.wake()

    async def hand_back(self, job: Job, reason: RefgeniedError, *, wait: float = 0.0) -> None:
        """Give the job back to the queue, and do not count the attempt: the daemon stops, or every job would fail.

        The job stays behind others for `wait` seconds, or until `release`. A job that a user has cancelled ends.
        """
        async with self._last_arrow(job) as change:
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
        async with self._last_arrow(job) as change:
            await arrows.end(change, job, Arrow.CANCEL_RUNNING, kind, reason)

    async def release(self, error_kinds: Sequence[str]) -> None:
        """Make the jobs due that wait because of these kinds of errors."""
        async with self.change() as change:
            await rows.release(change.tx, error_kinds, change.now)
        self.wake()

    # ----------------------------------------------------------------- at start, and daily

    async def recover(self) -> list[Job]:
        """At start: find the jobs that are still marked as running. They ran when the daemon was killed.

        This counts as an attempt, and the job goes last; after the third time in a row it waits for days. Other jobs
        wait as long as before, but never longer than the allowed time.
        """
        async with self.change() as change:
            await rows.cut_waits(change.tx, change.now)
            found = await rows.running(change.tx)
            for job in found:
                crashes = job.crashes + 1
                times = "once" if crashes == 1 else f"{crashes} times in a row"
                reason = CrashedError(f"the daemon was killed {times} while this job ran")
                crashed_at = json.dumps([*job.crashed_at, change.now][-waits.MAX_CRASHES :])
                charged = {"crashes": crashes, "crashed_at": crashed_at}
                await arrows.requeue(change, job, Arrow.CRASHED, reason, wait=waits.aside(crashes), **charged)
        return found

    async def keep_pruned(self) -> None:
        """Prune at start and every day. Ends only by cancellation."""
        while True:
            with suppress(StateError):  # the next day tries again
                await self.prune()
            await anyio.sleep(PRUNE_SECONDS)

    async def prune(self) -> int:
        """Forget jobs that ended long ago. Returns their number."""
        return await self.store.ask(rows.prune, before=self._log.surely() - ENDED_JOBS_KEPT_SECONDS)
