"""Publishes archives and records them. No other code gives an archive of a job its final name."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import anyio.to_thread
import structlog

from refgenied.archive.adopt import make_way
from refgenied.archive.publisher import Draft, publish_together
from refgenied.archive_folder.names import ServedNames
from refgenied.model import AssetKey, Job, Outcome
from refgenied.queue.archiver import Result
from refgenied.queue.arrows import Success
from refgenied.queue.core import Core

log = structlog.get_logger("worker")

Written = Callable[[Callable[[], Awaitable[None]]], Awaitable[bool]]
"""A function that writes to the database, also if that takes many attempts. False: it was given up."""


class Ready:
    """A job that has its result."""

    def __init__(self, job: Job, result: Result) -> None:
        self.job = job
        self.result = result
        self.taken = False
        """Whether it belongs to the group that is published now."""
        self.recorded = False
        self.error: BaseException | None = None
        """Why it could not be published."""

    @property
    def success(self) -> Success:
        return Success(self.job, self.result.outcome, self.result.record)


class Publisher:
    """The jobs that are ready at the same time are a group.

    A group is published under one hold of the lock, with one raise of the generation, one round of syncs and one
    transaction. A job that comes alone does not wait for others: those that come while the lock is held are the next
    group. An error of one job never touches the others.
    """

    def __init__(self, core: Core, written: Written) -> None:
        self._folder = core.archive_folder
        self._jobs = core.jobs
        self._written = written
        self.waiting: list[Ready] = []
        """The next group. Its first job waits for the lock."""
        self._turn = anyio.Lock()

    async def publish(self, job: Job, result: Result) -> None:
        """Publish and record. Nothing may happen between the first rename and the commit, so call it shielded.

        Any error is the job's own; then its draft is discarded, as far as it was not published.
        """
        ready = Ready(job, result)
        if result.outcome is Outcome.UNCHANGED:
            await self._record([ready])
        else:
            self.waiting.append(ready)
            async with self._turn:
                if not ready.taken:
                    await self._publish_waiting()
        if ready.error is not None:
            raise ready.error

    async def _publish_waiting(self) -> None:
        group: list[Ready] = []

        def take() -> list[AssetKey]:
            group.extend(self.waiting)
            self.waiting.clear()
            for ready in group:
                ready.taken = True
            return [ready.job.key for ready in group]

        try:
            async with self._folder.changing_some(take, self._jobs.store) as (generation, done):
                await anyio.to_thread.run_sync(_put_in_place, group)
                for ready in await self._record([ready for ready in group if ready.error is None], generation):
                    done(ready.job.key)
        except BaseException as error:
            for ready in group:
                if not ready.recorded:
                    ready.error = ready.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            failed = [ready.result.draft for ready in group if ready.error is not None and ready.result.draft]
            if failed:
                with suppress(RuntimeError):  # no thread is left: the next job of the asset removes the files
                    await anyio.to_thread.run_sync(_discard, failed)

    async def _record(self, group: Sequence[Ready], generation: int = 0) -> Sequence[Ready]:
        """One transaction for all of them, or one for each if that has an error. Returns those that are recorded."""
        if not group:
            return []
        successes = [ready.success for ready in group]
        try:
            written = await self._written(partial(self._jobs.succeed, successes, generation))
        except Exception as error:  # noqa: BLE001 - the job's own error
            if len(group) == 1:
                group[0].error = error
                return []
            return [one for ready in group for one in await self._record([ready], generation)]
        for ready in group if written else ():
            ready.recorded = True
            path, record = ready.job.key.registry_path, ready.result.record
            about = {"outcome": ready.result.outcome, "size": record.size, "digest": record.digest}
            log.info("job.succeeded", job=ready.job.id, asset=path, **about)
        return group if written else []


def _put_in_place(group: Sequence[Ready]) -> None:
    """Publish the drafts. Another program's files are kept under other names first. Errors are noted."""
    drafts: list[tuple[Ready, Draft]] = []
    for ready in group:
        draft = ready.result.draft
        if draft is None:
            continue
        try:
            _make_way(draft, ready.result.outcome)
        except Exception as error:  # noqa: BLE001 - the job's own error
            ready.error = error
        else:
            drafts.append((ready, draft))
    errors = publish_together([draft for _, draft in drafts])
    for (ready, _), error in zip(drafts, errors, strict=True):
        ready.error = error


def _make_way(draft: Draft, outcome: Outcome) -> None:
    kept = ServedNames(draft.place).keep_foreign(draft.manifest)
    aside = make_way(draft.place) if outcome is Outcome.PUBLISHED else None
    for path in [*kept, aside] if aside else kept:
        log.warning("archive.set_aside", asset=draft.place.key.registry_path, path=str(path))


def _discard(drafts: Sequence[Draft]) -> None:
    """Each of the jobs has its error already. A file that cannot be removed is removed by the asset's next job."""
    for draft in drafts:
        try:
            draft.discard()
        except Exception as error:  # noqa: BLE001 - it would be taken for an error of the whole group
            log.warning("archive.not_discarded", asset=draft.place.key.registry_path, error=str(error))
