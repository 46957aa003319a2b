"""Claims jobs, one at a time, publishes their archives, and records how each job ended. No other code does this."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from refgenied.archive.adopt import make_way
from refgenied.archive.publisher import Draft
from refgenied.archive.run import OnProgress, Phase
from refgenied.archive_folder.names import ServedNames
from refgenied.files.durable import writing
from refgenied.model import (
    AssetIncompleteError,
    AssetNotFoundError,
    Job,
    Outcome,
    Priority,
    RefgeniedError,
    ShortageError,
    ShuttingDownError,
    StateError,
    WriteError,
)
from refgenied.queue.archiver import Archiver, Result
from refgenied.queue.conditions import Requirement
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.shared.progress import Meter
from refgenied.store import archives
from refgenied.store import jobs as rows

log = structlog.get_logger("worker")

DATABASE_RETRY_SECONDS = 5.0
"""Seconds between two attempts while the database cannot be written."""


class Worker:
    def __init__(self, core: Core, pause: Pause) -> None:
        self._archive_folder = core.archive_folder
        self._jobs = core.jobs
        self._pause = pause
        self.archiver = Archiver(core)
        self.draining = False

    def drain(self) -> None:
        """Claim no more jobs. A job that is packing goes back to the queue; a job that is publishing is finished."""
        self.draining = True
        for running in self._jobs.running.values():
            running.scope.cancel()
        self._jobs.wake()

    async def run(self) -> None:
        """Work until drained. While the database cannot be written (a full disk), wait and try again."""
        while not self.draining:
            try:
                job = None
                if not self._pause.active:
                    job = await self._jobs.claim()
                if job is None and not self.draining:  # `drain` may have come during the claim, before this wait
                    await self._jobs.wait_due(paused=lambda: self._pause.active)
            except StateError as error:
                await self._wait_for_database(error)
                continue
            if job is not None:
                await self.work(job)

    async def _wait_for_database(self, error: StateError) -> None:
        await self._pause.caused(error)
        await anyio.sleep(DATABASE_RETRY_SECONDS)

    async def work(self, job: Job) -> None:
        """Do a claimed job and record how it ended. An error of a job never ends the daemon."""
        running = self._jobs.running[job.id]
        if self.draining:
            running.scope.cancel()
        try:
            with running.scope:
                await self._archive(job)
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

    async def _archive(self, job: Job) -> None:
        asset = await self.archiver.asset(job.key)
        if asset.stamp != job.stamp:  # the asset has changed since the job was queued
            await self._jobs.store.ask(rows.restamp, job.id, asset.stamp)
        record = await self._jobs.store.ask(archives.get, job.key)
        result = await self.archiver.archive(job, asset, record, self._reporting(job))
        with anyio.CancelScope(shield=True):
            await self._publish(job, result)

    def _reporting(self, job: Job) -> OnProgress:
        meter = Meter()

        def progress(phase: Phase, done: int, total: int) -> None:
            self._jobs.progress[job.id] = meter.reading(phase, done, total)

        return progress

    async def _cancelled(self, job: Job) -> None:
        """The job was cancelled by a user, or because the daemon stops."""
        await self._end(lambda: self._jobs.hand_back(job, ShuttingDownError("the daemon was stopped")))

    async def _failed(self, job: Job, error: RefgeniedError) -> None:
        log.warning("job.problem", job=job.id, asset=job.key.registry_path, kind=error.kind, error=error.message)
        condition = await self._condition_behind(error)
        nobody_asked = job.priority != Priority.ASKED
        if condition is not None:
            await self._end(lambda: self._jobs.hand_back(job, error, wait=condition.let_others_go_first))
        elif isinstance(error, AssetIncompleteError | AssetNotFoundError) and nobody_asked:
            # The asset is being built again or is gone. The next look will find out.
            await self._end(lambda: self._jobs.end_cancelled(job, error.kind, error.message))
        else:
            await self._end(lambda: self._jobs.fail(job, error))

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

    async def _publish(self, job: Job, result: Result) -> None:
        """Publish and record. Nothing may happen between the first rename and the commit."""
        if result.outcome is Outcome.UNCHANGED:
            await self._succeed(job, result)
            return
        try:
            async with self._archive_folder.changing(job.key, self._jobs.store) as generation:
                if result.draft is not None:
                    await anyio.to_thread.run_sync(_put_in_place, result.draft, result.outcome)
                await self._succeed(job, result, generation)
        except BaseException:
            if result.draft is not None:
                await anyio.to_thread.run_sync(result.draft.discard)
            raise

    async def _succeed(self, job: Job, result: Result, generation: int = 0) -> None:
        record, outcome = result.record, result.outcome
        if await self._end(lambda: self._jobs.succeed(job, outcome, record, generation)):
            asset, size, digest = job.key.registry_path, record.size, record.digest
            log.info("job.succeeded", job=job.id, asset=asset, outcome=outcome, size=size, digest=digest)


def _put_in_place(draft: Draft, outcome: Outcome) -> None:
    """Publish the draft. Another program's files are kept under other names first. WriteError."""
    kept = ServedNames(draft.place).keep_foreign(draft.manifest)
    aside = make_way(draft.place) if outcome is Outcome.PUBLISHED else None
    for path in [*kept, aside] if aside else kept:
        log.warning("archive.set_aside", asset=draft.place.key.registry_path, path=str(path))
    draft.publish()
