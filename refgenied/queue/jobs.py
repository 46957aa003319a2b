"""Jobs: enqueue, claim, finish, retry, cancel, recover. A change and its event are one transaction."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio

from refgenied.config import Current
from refgenied.health import Clock
from refgenied.model import (
    ArchiveRecord,
    Arrow,
    AssetKey,
    BusyError,
    ConflictError,
    CrashedError,
    Job,
    JobNotFoundError,
    JobState,
    Outcome,
    Priority,
    RefgeniedError,
    Requester,
    StateError,
)
from refgenied.queue.eventlog import Change, EventLog, since_boot
from refgenied.queue.feed import Feed
from refgenied.queue.records import Records
from refgenied.queue.waits import LONGEST_ASIDE, LONGEST_BACK_OFF, MAX_CRASHES, aside, back_off
from refgenied.shared.progress import Progress
from refgenied.store import Store, Transaction, archives
from refgenied.store import jobs as rows

DAY = 86_400.0
KEEP_ENDED = 30 * DAY
LONGEST_SLEEP = 60.0
"""Seconds; then the queue is looked at anyhow."""


class Jobs:
    def __init__(self, store: Store, feed: Feed, current: Current, clock: Clock, steady: Clock = since_boot) -> None:
        self.store = store
        self.feed = feed
        self._current = current
        self._clock = clock
        self._log = EventLog(store, feed, clock, steady)
        self.change = self._log.change
        """One transaction with its events."""
        self.records = Records(store, self.change)
        self._wake = anyio.Event()
        self._running: dict[int, anyio.CancelScope] = {}
        self._cancelled_by: dict[int, Requester] = {}
        self._reserved: set[AssetKey] = set()
        self.progress: dict[int, Progress] = {}
        """Job → where it is; written by the worker, gone when the job ends."""

    # ----------------------------------------------------------------- wishes

    async def enqueue(
        self, key: AssetKey, *, stamp: str, priority: int, force: bool = False, requester: Requester | None = None
    ) -> tuple[Job, bool]:
        """Wish for the asset's archive to be brought up to date: (its job, whether it is a new one).

        A queued job is sharpened. A running one is joined when it packs that very state of the asset.
        """
        requester = requester or Requester()
        async with self.change() as change:
            tx = change.tx
            running = await rows.in_state(tx, key, JobState.RUNNING)
            if running and running.stamp == stamp and running.force >= force:
                return running, False
            queued = await rows.in_state(tx, key, JobState.QUEUED)
            if queued:
                await self._sharpen(change, queued, priority=priority, force=force, stamp=stamp)
                job = await self._get(tx, queued.id)
            else:
                number = await rows.add(
                    tx,
                    key,
                    priority=priority,
                    force=force,
                    stamp=stamp,
                    requested_by=requester.name,
                    now=change.now,
                )
                await change.log("job.queued", key, number, requested_by=requester.name)
                job = await self._get(tx, number)
        self.wake()
        return job, queued is None

    async def cancel(self, number: int, requester: Requester) -> Job:
        """Cancel a queued job at once, or ask the worker to stop a running one (it ends within 0.3 s)."""
        async with self.change() as change:
            job = await self._get(change.tx, number)
            if job.state is JobState.QUEUED:
                await self._end(change, job, Arrow.CANCEL_QUEUED, "cancelled", f"cancelled by {requester.name}")
                return await self._get(change.tx, number)
            if job.state is not JobState.RUNNING:
                raise ConflictError(f"job {number} is {job.state} already")
        self._cancelled_by[number] = requester
        scope = self._running.get(number)
        if scope is not None:
            scope.cancel()
        return job

    async def retry(self, number: int, requester: Requester) -> Job:
        """Queue an ended job again, or try one at once that waits to be tried again; both as if it were new.

        ConflictError for one that is due or runs already.
        """
        async with self.change() as change:
            job = await self._get(change.tx, number)
            twin = await rows.in_state(change.tx, job.key, JobState.QUEUED)
            if twin and (twin.id != number or not (job.attempts or job.not_before > change.now)):
                raise ConflictError(f"job {twin.id} is queued for {job.key.registry_path} already")
            await rows.move(
                change.tx,
                number,
                Arrow.REVIVE,
                attempts=0,
                crashes=0,
                crashed_at="[]",
                priority=Priority.ASKED,
                not_before=change.now,
                ended_at=None,
                error=None,
                error_kind=None,
                requested_by=requester.name,
            )
            await change.log("job.queued", job.key, number, requested_by=requester.name, retried=True)
            job = await self._get(change.tx, number)
        self.wake()
        return job

    @contextmanager
    def reserved(self, key: AssetKey) -> Generator[None]:
        """While this is open no job of the asset begins. BusyError when somebody else has it already."""
        if key in self._reserved:
            raise BusyError(f"{key.registry_path} is being removed or imported by another request", hint="try again")
        self._reserved.add(key)
        try:
            yield
        finally:
            self._reserved.discard(key)
            self.wake()

    async def at_rest(self, key: AssetKey) -> None:
        """Return when no job of the asset runs. Who has reserved the asset is then its files' only writer."""
        with self.feed.subscribed() as subscription:
            while await self.runs(key):
                await subscription.take()
                subscription.lagged = False

    async def runs(self, key: AssetKey) -> bool:
        """Whether a job of the asset runs now."""
        async with self.store.transaction() as tx:
            return await rows.in_state(tx, key, JobState.RUNNING) is not None

    # ----------------------------------------------------------------- the worker's side

    @property
    def busy(self) -> bool:
        """Whether a job runs now; may be asked from any thread."""
        return bool(self._running)

    def wake(self) -> None:
        self._wake.set()

    async def wait_due(self, *, paused: Callable[[], bool]) -> None:
        """Return when a job may be due (or a wish has come); the caller tries to claim then."""
        self._wake = anyio.Event()
        due = None
        if not paused():
            async with self.change() as change:
                due = await rows.next_time(change.tx, but_not=self._reserved)
        pause = None if due is None or paused() else min(max(0.05, due - self._clock()), LONGEST_SLEEP)
        with anyio.move_on_after(pause):
            await self._wake.wait()

    async def claim(self) -> Job | None:
        """Take the next due job: one attempt is charged from here on."""
        async with self.change() as change:
            job = await rows.next_due(change.tx, change.now, but_not=self._reserved)
            if job is None:
                return None
            await rows.move(
                change.tx, job.id, Arrow.CLAIM, started_at=change.now, attempts=job.attempts + 1, error=None
            )
            await change.log("job.running", job.key, job.id, attempt=job.attempts + 1)
            return await self._get(change.tx, job.id)

    async def more_due(self) -> bool:
        """Whether another job could be claimed now."""
        async with self.store.transaction() as tx:
            return await rows.next_due(tx, self._clock(), but_not=self._reserved) is not None

    async def restamp(self, job: Job, stamp: str) -> None:
        """The asset changed between queue and claim: the job is for the state that it really packs."""
        async with self.store.transaction() as tx:
            await tx.execute("UPDATE job SET stamp = ? WHERE id = ?", (stamp, job.id))

    @asynccontextmanager
    async def cancellable(self, job: Job) -> AsyncGenerator[anyio.CancelScope]:
        """While this is open, `cancel` reaches the worker."""
        with anyio.CancelScope() as scope:
            self._running[job.id] = scope
            if job.id in self._cancelled_by:  # asked for between claim and here
                scope.cancel()
            try:
                yield scope
            finally:
                del self._running[job.id]
                self.progress.pop(job.id, None)

    def cancelled_by(self, job: Job) -> Requester | None:
        return self._cancelled_by.pop(job.id, None)

    async def succeed(self, job: Job, outcome: Outcome, record: ArchiveRecord, generation: int = 0) -> None:
        """The archive is on disk, durably: record it, end the job and tell of it in one transaction.

        `generation`: what `ArchiveFolder.changing` gave; nothing for an archive that is recorded already.
        """
        async with self.change() as change:
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

    async def keep_pruned(self) -> None:
        """Prune at start and daily. Ends only by cancellation."""
        while True:
            with suppress(StateError):  # the next day will do
                await self.prune()
            await anyio.sleep(DAY)

    async def prune(self) -> int:
        """Forget jobs that ended long ago; how many."""
        async with self.change() as change:
            return await rows.prune(change.tx, before=self._log.surely() - KEEP_ENDED)

    async def fail(self, job: Job, error: RefgeniedError) -> None:
        """End the job; or, when trying again may help, queue it again, with a back-off and as often as it takes."""
        async with self.change() as change:
            if error.permanent:
                await self._end(change, job, Arrow.FAIL, error.kind, error.message)
                return
            wait = back_off(job.attempts, self._current.settings.archive.retry_seconds)
            await self._requeue(change, job, Arrow.RETRY_LATER, error, wait=wait, crashes=0, crashed_at="[]")
        self.wake()

    async def hand_back(self, job: Job, reason: RefgeniedError, *, wait: float = 0.0) -> None:
        """Give the job back to the queue and charge nothing: shutdown, or a condition that every job would meet.

        It lets others go first for `wait` seconds, or until `release`.
        """
        async with self.change() as change:
            charged = {"attempts": job.attempts - 1, "crashes": 0, "crashed_at": "[]"}
            await self._requeue(change, job, Arrow.HAND_BACK, reason, wait=wait, **charged)

    async def release(self, error_kinds: Sequence[str]) -> None:
        """What waits because of these kinds of errors is due now."""
        async with self.change() as change:
            await rows.release(change.tx, error_kinds, change.now)
        self.wake()

    async def end_cancelled(self, job: Job, kind: str, reason: str) -> None:
        async with self.change() as change:
            await self._end(change, job, Arrow.CANCEL_RUNNING, kind, reason)

    async def recover(self) -> list[Job]:
        """At start: jobs found running took the daemon down. Each is charged and goes last; after the third time in a
        row it stands aside. No wait is longer than it may be, or ends because of the start.
        """
        async with self.change() as change:
            await rows.cut_waits(
                change.tx,
                change.now,
                longest=LONGEST_BACK_OFF,
                crashes=MAX_CRASHES,
                longest_after_crashes=LONGEST_ASIDE,
            )
            found = [job for job in await rows.unfinished(change.tx) if job.state is JobState.RUNNING]
            for job in found:
                crashes = job.crashes + 1
                times = "once" if crashes == 1 else f"{crashes} times in a row"
                reason = CrashedError(f"the daemon was killed {times} while this job ran")
                await self._requeue(
                    change,
                    job,
                    Arrow.CRASHED,
                    reason,
                    wait=aside(crashes),
                    crashes=crashes,
                    crashed_at=json.dumps([*job.crashed_at, change.now][-MAX_CRASHES:]),
                )
        return found

    # ----------------------------------------------------------------- arrows

    async def _sharpen(self, change: Change, queued: Job, *, priority: int, force: bool, stamp: str) -> None:
        await rows.sharpen(
            change.tx,
            queued.id,
            priority=priority,
            force=force,
            stamp=stamp,
            now=change.now,
            most_crashes=MAX_CRASHES,
        )

    async def _get(self, tx: Transaction, number: int) -> Job:
        job = await rows.get(tx, number)
        if job is None:
            raise JobNotFoundError(f"there is no job {number}", hint="`refgeniectl queue list --all` shows them")
        return job

    async def _end(self, change: Change, job: Job, arrow: Arrow, kind: str, message: str) -> None:
        await rows.move(change.tx, job.id, arrow)
        await self._ended(change, job, kind, message)

    async def _ended(self, change: Change, job: Job, kind: str, message: str) -> None:
        await change.tx.execute(
            "UPDATE job SET ended_at = ?, error_kind = ?, error = ? WHERE id = ?",
            (change.now, kind, message, job.id),
        )
        ended = await self._get(change.tx, job.id)
        await change.log(f"job.{ended.state}", job.key, job.id, error=message, error_kind=kind)

    async def _requeue(
        self, change: Change, job: Job, arrow: Arrow, reason: RefgeniedError, *, wait: float, **columns: int | str
    ) -> None:
        twin = await rows.in_state(change.tx, job.key, JobState.QUEUED)
        if twin:
            await self._sharpen(change, twin, priority=job.priority, force=job.force, stamp=twin.stamp)
            await self._end(change, job, Arrow.FOLD, "folded", f"job {twin.id} takes its place: {reason.message}")
            return
        await rows.move(
            change.tx,
            job.id,
            arrow,
            not_before=change.now + wait,
            error_kind=reason.kind,
            error=reason.message,
            **columns,
        )
        await change.log("job.requeued", job.key, job.id, error=reason.message, error_kind=reason.kind, wait=wait)
