"""Claims jobs and brings archives up to date: one at a time, each with all the cores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
import structlog

from refgenied.archive.manifest import Manifest
from refgenied.archive.place import Place
from refgenied.archive.publish import About, Draft, check, pack_asset, read_manifest
from refgenied.archive_folder import ArchiveFolder
from refgenied.config import Current
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock, Health
from refgenied.jobs import Jobs
from refgenied.meter import Meter
from refgenied.model import (
    ARCHIVABLE,
    ArchiveFolderNotSetError,
    ArchiveRecord,
    Asset,
    AssetIncompleteError,
    AssetNotFoundError,
    Job,
    NoSpaceError,
    Outcome,
    RefgeniedError,
    ShuttingDownError,
    SourceChangedError,
    WriteError,
)
from refgenied.pause import Pause
from refgenied.store import archives

log = structlog.get_logger("worker")

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    def __init__(
        self,
        folder: GenomeFolder,
        archive_folder: ArchiveFolder,
        jobs: Jobs,
        pause: Pause,
        current: Current,
        health: Health,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._pause = pause
        self._current = current
        self._health = health
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(1)
        self._scope: anyio.CancelScope | None = None
        self.draining = False

    def drain(self) -> None:
        """Claim nothing more; a packing job goes back to the queue, a publish is finished."""
        self.draining = True
        if self._scope is not None:
            self._scope.cancel()
        self._jobs.wake()

    async def run(self) -> None:
        """Work until drained."""
        while not self.draining:
            job = None if self._pause.active else await self._jobs.claim()
            if job is None:
                await self._jobs.wait_due(paused=lambda: self._pause.active)
                continue
            await self._work(job)

    async def _work(self, job: Job) -> None:
        """Run one job to one of its arrows; nothing that goes wrong with it ends the daemon."""
        try:
            async with self._jobs.cancellable(job) as scope:
                self._scope = scope
                if self.draining:
                    scope.cancel()
                await self._archive(job)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):  # the second signal: still leave the queue as it should be
                await self._jobs.hand_back(job, ShuttingDownError("the daemon was stopped"))
            raise
        except RefgeniedError as error:
            await self._failed(job, error)
        except Exception as error:
            log.exception("job.crashed", job=job.id, asset=job.key.registry_path)
            await self._failed(job, WriteError(f"an unexpected error: {type(error).__name__}: {error}"))
        else:
            if scope.cancelled_caught:
                await self._cancelled(job)
        finally:
            self._scope = None

    async def _cancelled(self, job: Job) -> None:
        requester = self._jobs.cancelled_by(job)
        if requester is None:
            await self._jobs.hand_back(job, ShuttingDownError("the daemon was stopped"))
        else:
            await self._jobs.end_cancelled(job, "cancelled", f"cancelled by {requester.name}")

    async def _failed(self, job: Job, error: RefgeniedError) -> None:
        log.warning("job.problem", job=job.id, asset=job.key.registry_path, kind=error.kind, error=error.message)
        self._jobs.cancelled_by(job)
        if isinstance(error, NoSpaceError):
            await self._jobs.hand_back(job, error)
            self._pause.for_space(error.message, self._archive_folder.free)
        elif isinstance(error, AssetIncompleteError | AssetNotFoundError) and job.requested_by == "refgenied":
            # Nobody asked: the asset is being built again or is gone, and the next look knows better.
            await self._jobs.end_cancelled(job, error.kind, error.message)
        else:
            await self._jobs.fail(job, error)

    # ----------------------------------------------------------------- one asset

    async def _archive(self, job: Job) -> None:
        asset = await self._asset(job)
        if asset.stamp != job.stamp:
            await self._jobs.restamp(job, asset.stamp)
        async with self._jobs.store.transaction() as tx:
            record = await archives.get(tx, job.key)
        place = Place(self._archive_folder.path, job.key)
        if not job.force and await self._already_there(job, asset, record, place):
            return
        draft = await self._pack(job, asset, place)
        try:
            again = await self._run(self._folder.asset, job.key, self._clock())
            if again is None or again.stamp != asset.stamp:
                raise SourceChangedError(f"{asset.folder} changed while it was archived")
            same = record is not None and record.content_digest == draft.manifest.content_digest
            if record and same and not job.force and not self._archive_folder.lost({job.key: record}):
                await self._unchanged(job, asset, record)
                return
            await self._publish(job, draft)
        finally:
            with anyio.CancelScope(shield=True):
                await self._run(draft.discard)

    async def _asset(self, job: Job) -> Asset:
        """The asset as it is now, at rest, and an archive folder to put it in."""
        if not self._archive_folder.path:
            raise ArchiveFolderNotSetError("no genome_archive_folder is set")
        problem = await self._run(self._archive_folder.problem)
        if problem:
            raise WriteError(problem)
        asset = await self._run(self._folder.asset, job.key, self._clock())
        if asset is None:
            raise AssetNotFoundError(f"{job.key.registry_path} is not in the genome folder")
        if asset.state not in ARCHIVABLE or not asset.stamp:
            raise AssetIncompleteError(f"it is {asset.state}: {asset.reason}")
        return asset

    async def _already_there(self, job: Job, asset: Asset, record: ArchiveRecord | None, place: Place) -> bool:
        """Whether the archive in place is of these very files, so that there is nothing to read."""
        manifest = await self._run(read_manifest, place)
        if manifest is None or manifest.removed or manifest.files_stamp != asset.files_stamp:
            return False
        recorded = record is not None and record.digest == manifest.digest
        self._jobs.progress[job.id] = Meter.at("proving", manifest.source_size)
        if not await self._run(
            lambda: check(place, manifest, deep=not recorded, check=anyio.from_thread.check_cancelled)
        ):
            return False
        if recorded and record:
            await self._unchanged(job, asset, record)
        else:
            found = record_of(place, manifest, asset, proved_at=self._clock())
            await self._finish(job, Outcome.ADOPTED, found)
        return True

    async def _unchanged(self, job: Job, asset: Asset, record: ArchiveRecord) -> None:
        kept = ArchiveRecord(
            **{name: getattr(record, name) for name in record.__struct_fields__}
            | {"stamp": asset.stamp, "files_stamp": asset.files_stamp, "aliases": asset.aliases}
        )
        await self._finish(job, Outcome.UNCHANGED, kept)

    async def _pack(self, job: Job, asset: Asset, place: Place) -> Draft:
        build = await self._run(self._folder.build_record, asset)
        about = About(asset=asset, build=build, requested_by=job.requested_by, created_at=self._clock())
        meter = Meter()

        def progress(phase: str, done: int, total: int) -> None:
            self._jobs.progress[job.id] = meter.reading(phase, done, total)

        threads = self._current.settings.archive.threads

        def pack() -> Draft:
            with self._folder.tree(asset) as tree:
                return pack_asset(
                    tree, place, about, threads=threads, on_progress=progress, check=anyio.from_thread.check_cancelled
                )

        log.info("job.packing", job=job.id, asset=job.key.registry_path, attempt=job.attempts)
        return await self._run(pack)

    async def _publish(self, job: Job, draft: Draft) -> None:
        """From the first rename to the commit nothing may come between."""
        with anyio.CancelScope(shield=True):
            await self._run(draft.publish)
            record = record_of(draft.place, draft.manifest, draft.about.asset, proved_at=self._clock())
            await self._finish(job, Outcome.PUBLISHED, record)

    async def _finish(self, job: Job, outcome: Outcome, record: ArchiveRecord) -> None:
        with anyio.CancelScope(shield=True):
            await self._jobs.succeed(job, outcome, record)
        self._jobs.cancelled_by(job)
        log.info(
            "job.succeeded",
            job=job.id,
            asset=job.key.registry_path,
            outcome=outcome,
            size=record.size,
            digest=record.digest,
        )

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a blocking function in the worker's own thread. Cancelled, it ends at its next check."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._limiter)


def record_of(place: Place, manifest: Manifest, asset: Asset, *, proved_at: float) -> ArchiveRecord:
    """The database's record of an archive that is in place and agrees with its manifest."""
    return ArchiveRecord(
        key=asset.key,
        aliases=asset.aliases,
        path=place.relative,
        size=manifest.size,
        digest=manifest.digest,
        asset_digest=manifest.asset_digest,
        content_digest=manifest.content_digest,
        files=manifest.files_count,
        source_size=manifest.source_size,
        stamp=asset.stamp,
        files_stamp=asset.files_stamp,
        created_at=manifest.created_at,
        proved_at=proved_at,
        requested_by=manifest.requested_by,
    )
