"""Claims jobs, has their archives made and published, and records how each job ended. No other code does this."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup

from refgenied.archive.run import OnProgress, Phase
from refgenied.files.durable import writing
from refgenied.model import (
    ArchiveRecord,
    Asset,
    AssetIncompleteError,
    AssetNotFoundError,
    ConflictError,
    Job,
    Priority,
    RefgeniedError,
    ShortageError,
    ShuttingDownError,
    StateError,
    WriteError,
)
from refgenied.queue.archiver import Archiver
from refgenied.queue.conditions import Requirement
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.queue.publishing import Publisher
from refgenied.shared.progress import Meter

log = structlog.get_logger("worker")

DATABASE_RETRY_SECONDS = 5.0
"""Seconds between two attempts while the database cannot be written."""
SMALL_BYTES = 1 << 20
"""An asset with at most this many bytes is small. One core packs it in the time of a few syncs."""
AT_ONCE = 8
"""So many small assets may be in the making at the same time. While one waits for the disk, another one is packed."""
LATE_LOOK_SECONDS = 10.0
"""A look at an asset before its job that takes longer is told in the health: no other job begins meanwhile."""
FEWEST_BEGUN = AT_ONCE // 2
"""There must be room for this many before more are begun: jobs that are claimed together share a transaction."""


class Facts(NamedTuple):
    """What was found out about a job before it began."""

    asset: Asset | Exception
    record: ArchiveRecord | None


class Worker:
    def __init__(self, core: Core, pause: Pause) -> None:
        self._archive_folder = core.archive_folder
        self._health = core.health
        self._jobs = core.jobs
        self._pause = pause
        self.archiver = Archiver(core, AT_ONCE)
        self.publisher = Publisher(core, self._end)
        self._at_work: set[int] = set()
        """The jobs that `run` has begun."""
        self._for_later = 0
        """The next job, if it must wait until none is at work; 0: it may be another."""
        self._alone = False
        """Whether the only job at work must stay alone."""
        self._looking = anyio.CancelScope()
        self.draining = False

    def drain(self) -> None:
        """Claim no more jobs. A job that is packing goes back to the queue; a job that is publishing is finished."""
        self.draining = True
        self._looking.cancel()
        for running in self._jobs.running.values():
            running.scope.cancel()
        self._jobs.wake()

    async def run(self) -> None:
        """Work until drained. While the database cannot be written (a full disk), wait and try again."""
        async with anyio.create_task_group() as group:
            while not self.draining:
                wake = self._jobs.next_wake()
                try:
                    begun = await self._begin(group)
                    if not begun and not self.draining:  # `drain` may have come during the claim, before this wait
                        await self._wait(wake)
                except StateError as error:
                    await self._wait_for_database(error)

    async def _wait(self, wake: anyio.Event) -> None:
        if self._at_work:  # each end of a job is a wake
            await wake.wait()
        else:
            await self._jobs.wait_due(paused=lambda: self._pause.active)

    async def _begin(self, group: TaskGroup) -> bool:
        """Claim the next jobs and begin them: a few small assets, or one that needs all cores or must be alone.

        False: there is nothing to do now, or no room for it.
        """
        room = AT_ONCE - len(self._at_work)
        if self._pause.active or self._alone or room < FEWEST_BEGUN:
            return False
        due = await self._jobs.due(room)
        if not due or self.draining or (self._at_work and due[0].id == self._for_later):
            return False
        # A job that was running when the daemon was killed may be the reason: another kill is not charged to others.
        beside = list(takewhile(lambda job: not job.crashes, due))
        found = await self._look_at(beside or due[:1])
        together = [job for job in beside if job.id in found and _is_small(found[job.id])]
        self._for_later = due[0].id if found and not together else 0
        if not found or (self._at_work and not together) or self._pause.active:
            return False
        stamps = {job.id: _stamp(job, found[job.id]) for job in together or due[:1]}
        claimed = await self._jobs.claim_those(stamps)
        for job, record in claimed:
            self._alone = not together
            self._at_work.add(job.id)
            group.start_soon(self._work, job, Facts(found[job.id], record))
        return bool(claimed)

    async def _look_at(self, jobs: list[Job]) -> dict[int, Asset | Exception]:
        """The first job's asset, or why it cannot be archived; the next one's if this one is small, and so on.

        Any error of the look is the first job's. Empty: the look was given up, because a user has cancelled one of
        these jobs, or the worker is drained.
        """
        found: list[Asset | Exception] = []
        late = asyncio.get_running_loop().call_later(LATE_LOOK_SECONDS, self._tell_of_late_look, jobs, found)
        try:
            with anyio.CancelScope() as self._looking:
                self._jobs.looked_at = dict.fromkeys((job.id for job in jobs), self._looking)
                await self.archiver.look([job.key for job in jobs], found, _is_small)
                return {job.id: asset for job, asset in zip(jobs, found, strict=False)}
        except Exception as error:  # noqa: BLE001 - `work` says what it means
            return {jobs[0].id: error}
        finally:
            self._jobs.looked_at = {}
            late.cancel()
            self._health.clear("next_job")
        return {}

    def _tell_of_late_look(self, jobs: list[Job], found: list[Asset | Exception]) -> None:
        job = jobs[min(len(found), len(jobs) - 1)]
        self._health.set(
            "next_job",
            f"job {job.id} cannot begin: a look at {job.key.registry_path} has not come back for "
            f"{LATE_LOOK_SECONDS:g} seconds (does its disk answer?); the other jobs wait for it, until "
            f"`refgeniectl queue cancel {job.id}`",
        )

    async def _work(self, job: Job, facts: Facts) -> None:
        try:
            await self.work(job, facts)
        finally:
            self._at_work.discard(job.id)
            self._alone = False
            self._jobs.wake()

    async def _wait_for_database(self, error: StateError) -> None:
        await self._pause.caused(error)
        await anyio.sleep(DATABASE_RETRY_SECONDS)

    async def work(self, job: Job, facts: Facts) -> None:
        """Do a claimed job and record how it ended. An error of a job never ends the daemon."""
        running = self._jobs.running[job.id]
        if self.draining:
            running.scope.cancel()
        try:
            with running.scope:
                await self._archive(job, facts)
        except anyio.get_cancelled_exc_class():
            await self._cancelled(job)
            raise
        except RefgeniedError as error:
            await self._failed(job, error)
        except Exception as error:  # noqa: BLE001 - `_unexpected` logs a fault of ours with its traceback
            await self._failed(job, self._unexpected(job, error))
        else:
            if running.scope.cancelled_caught:
                await self._cancelled(job)

    async def _archive(self, job: Job, facts: Facts) -> None:
        asset, record = facts
        if isinstance(asset, Exception):
            raise asset
        result = await self.archiver.archive(job, asset, record, self._reporting(job))
        with anyio.CancelScope(shield=True):
            await self.publisher.publish(job, result)

    def _reporting(self, job: Job) -> OnProgress:
        meter = Meter()

        def progress(phase: Phase, done: int, total: int) -> None:
            self._jobs.progress[job.id] = meter.reading(phase, done, total)

        return progress

    async def _cancelled(self, job: Job) -> None:
        """The job was cancelled by a user, or because the daemon stops."""
        await self._give_up(job, lambda: self._jobs.hand_back(job, ShuttingDownError("the daemon was stopped")))

    async def _failed(self, job: Job, error: RefgeniedError) -> None:
        log.warning("job.problem", job=job.id, asset=job.key.registry_path, kind=error.kind, error=error.message)
        condition = await self._condition_behind(error)
        nobody_asked = job.priority != Priority.ASKED
        if condition is not None:
            await self._give_up(job, lambda: self._jobs.hand_back(job, error, wait=condition.let_others_go_first))
        elif isinstance(error, AssetIncompleteError | AssetNotFoundError) and nobody_asked:
            # The asset is being built again or is gone. The next look will find out.
            await self._give_up(job, lambda: self._jobs.end_cancelled(job, error.kind, error.message))
        else:
            await self._give_up(job, lambda: self._jobs.fail(job, error))

    async def _give_up(self, job: Job, arrow: Callable[[], Awaitable[None]]) -> None:
        """Record that the job has not succeeded. If its end is recorded already, this stays as it is."""
        try:
            await self._end(arrow)
        except ConflictError as error:
            log.warning("job.ended_already", job=job.id, asset=job.key.registry_path, error=error.message)
            self._jobs.running.pop(job.id, None)
            self._jobs.progress.pop(job.id, None)

    async def _condition_behind(self, error: RefgeniedError) -> Requirement | None:
        with anyio.CancelScope(shield=True):  # a job that stays marked as running would count as a crash
            return await self._pause.caused(error)

    async def _end(self, arrow: Callable[[], Awaitable[None]]) -> bool:
        """Record how a job ended, by the given function. Returns whether the database took it.

        While the database cannot be written, it tries again until drained, because a job that stays marked as running
        would count as a crash.
        """
        written = False
        with anyio.CancelScope(shield=True):  # even a second signal does not end it
            while not written:
                try:
                    await arrow()
                    written = True
                except StateError as error:
                    await self._wait_for_database(error)
                    if self.draining:
                        break
        return written

    def _unexpected(self, job: Job, error: Exception) -> RefgeniedError:
        """The error for a person: an unexpected error of the system, or a fault in our code."""
        if isinstance(error, MemoryError) or str(error) == "can't start new thread":
            return ShortageError(str(error) or "there is not enough memory")
        if not isinstance(error, OSError):
            log.error("job.crashed", job=job.id, asset=job.key.registry_path, exc_info=error)
            return WriteError(f"an unexpected error: {type(error).__name__}: {error}")
        try:
            with writing(Path(error.filename or self._archive_folder.path)):
                raise error
        except RefgeniedError as said:
            return said


def _is_small(asset: Asset | Exception) -> bool:
    return isinstance(asset, Asset) and 0 < asset.size <= SMALL_BYTES


def _stamp(job: Job, asset: Asset | Exception) -> str:
    return asset.stamp if isinstance(asset, Asset) else job.stamp
