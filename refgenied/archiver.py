"""Brings one asset's archive up to date: finds out that it is, or packs, proves and publishes another."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import (
    About,
    Compression,
    ContentAware,
    Draft,
    Manifest,
    Phase,
    Place,
    Presence,
    Reconciled,
    agrees,
    make_way,
    pack_asset,
    reconcile,
    same_content,
    take_foreign,
)
from refgenied.archive.manifest import entries_of
from refgenied.archive_folder import ArchiveFolder
from refgenied.config import Current
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock
from refgenied.jobs import Jobs
from refgenied.meter import Meter
from refgenied.model import (
    ARCHIVABLE,
    ArchiveFolderNotSetError,
    ArchiveRecord,
    Asset,
    AssetIncompleteError,
    AssetNotFoundError,
    DamagedArchiveError,
    DigestMismatchError,
    Job,
    Outcome,
    SourceChangedError,
    UnsafeTreeError,
    WriteError,
)
from refgenied.serving.keeper import Keeper
from refgenied.store import archives

log = structlog.get_logger("archiver")

P = ParamSpec("P")
T = TypeVar("T")

Finish = Callable[[Job, Outcome, ArchiveRecord], Awaitable[None]]


class Archiver:
    """One job at a time, in a thread of its own limiter. `finish` writes the end of a job that succeeded."""

    def __init__(
        self,
        folder: GenomeFolder,
        archive_folder: ArchiveFolder,
        jobs: Jobs,
        keeper: Keeper,
        current: Current,
        clock: Clock,
        *,
        finish: Finish,
    ) -> None:
        self._folder = folder
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._keeper = keeper
        self._current = current
        self._clock = clock
        self._finish = finish
        self._limiter = anyio.CapacityLimiter(1)

    async def archive(self, job: Job) -> None:
        """Pack and publish, or see that there is nothing to do, and call `finish`. Whatever goes wrong is raised."""
        asset = await self._asset(job)
        if asset.stamp != job.stamp:
            await self._jobs.restamp(job, asset.stamp)
        async with self._jobs.store.transaction() as tx:
            record = await archives.get(tx, job.key)
        place = Place(self._archive_folder.path, job.key)
        found = await self._run(reconcile, place, check_cancelled)
        force = job.force or (record is not None and record.damaged is not None)
        if not force and await self._already_there(job, asset, record, place, found):
            return
        draft = await self._pack(job, asset, place)
        try:
            await self._require_untouched(asset)
            same = (
                record is not None
                and found.presence is Presence.PRESENT  # else the folder alone could not tell of it
                and record.content_digest == draft.manifest.content_digest
            )
            in_place = same and not await self._run(self._archive_folder.lost, {job.key: record} if record else {})
            if record and in_place and not force:
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

    async def _require_untouched(self, asset: Asset) -> None:
        again = await self._run(self._folder.asset, asset.key, self._clock())
        if again is None or again.stamp != asset.stamp:
            raise SourceChangedError(f"{asset.folder} changed while it was archived")

    async def _already_there(
        self, job: Job, asset: Asset, record: ArchiveRecord | None, place: Place, found: Reconciled
    ) -> bool:
        """Whether the archive in place is of these very files, so that there is nothing to compress."""
        if found.presence is Presence.FOREIGN:
            return await self._taken_over(job, asset, place)
        manifest = found.manifest
        if found.presence is not Presence.PRESENT or manifest is None:
            return False
        recorded = record is not None and record.digest == manifest.digest
        known = record.files_stamp if record and recorded else manifest.files_stamp
        if known != asset.files_stamp and not await self._holds(job, asset, place, manifest, place.entries.name):
            return False
        if record is not None and recorded:
            await self._unchanged(job, asset, record)
            return True
        return await self._adopted(job, asset, place, manifest)

    async def _holds(self, job: Job, asset: Asset, place: Place, manifest: Manifest, listing: str) -> bool:
        """Whether the archive holds the asset's files, byte for byte: hashing them is many times faster than packing.

        `listing` is the name of the file with the members, when they are many.
        """
        if asset.asset_digest not in (None, manifest.asset_digest):
            return False

        def compare() -> bool:
            with self._folder.tree(asset) as tree:
                return same_content(
                    tree,
                    manifest,
                    lambda: entries_of(manifest, place.folder, listing),
                    on_progress=self._reporting(job),
                    check=check_cancelled,
                )

        try:
            same = await self._run(compare)
        except DamagedArchiveError:  # the list of members is: the asset is packed anew
            return False
        if same:
            await self._require_untouched(asset)
        return same

    async def _taken_over(self, job: Job, asset: Asset, place: Place) -> bool:
        """Another program's archive is in place: record it when it holds these very files."""
        build = await self._run(self._folder.build_record, asset)
        about = About.of(asset, build, requested_by=job.requested_by, created_at=self._clock())
        try:
            draft = await self._run(
                take_foreign, place.archive, place, about, on_progress=self._reporting(job), check=check_cancelled
            )
        except (DamagedArchiveError, UnsafeTreeError, DigestMismatchError) as error:
            log.info("archive.foreign", asset=job.key.registry_path, reason=error.message)
            return False
        try:
            if not await self._holds(job, asset, place, draft.manifest, place.entries_partial.name):
                return False
            with anyio.CancelScope(shield=True):
                async with self._keeper.publishing():
                    await self._run(draft.publish)
                    record = draft.manifest.record(place.relative, self._clock())
                    await self._finish(job, Outcome.ADOPTED, record)
        finally:
            with anyio.CancelScope(shield=True):
                await self._run(draft.discard)
        return True

    async def _adopted(self, job: Job, asset: Asset, place: Place, manifest: Manifest) -> bool:
        """Its record was lost, or a crash came before it: take the archive when it proves to be whole."""
        whole = await self._run(agrees, place, manifest, deep=True, threads=self._threads, check=check_cancelled)
        if whole:
            record = manifest.record(place.relative, self._clock())
            await self._finish(job, Outcome.ADOPTED, _as_seen(record, asset))
        return whole

    async def _unchanged(self, job: Job, asset: Asset, record: ArchiveRecord) -> None:
        await self._finish(job, Outcome.UNCHANGED, _as_seen(record, asset))

    async def _pack(self, job: Job, asset: Asset, place: Place) -> Draft:
        build = await self._run(self._folder.build_record, asset)
        about = About.of(asset, build, requested_by=job.requested_by, created_at=self._clock())
        codec = ContentAware(Compression(self._current.settings.archive.compression))

        def pack() -> Draft:
            with self._folder.tree(asset) as tree:
                return pack_asset(
                    tree,
                    place,
                    about,
                    codec=codec,
                    threads=self._threads,
                    on_progress=self._reporting(job),
                    check=check_cancelled,
                )

        log.info("job.packing", job=job.id, asset=job.key.registry_path, attempt=job.attempts)
        return await self._run(pack)

    def _reporting(self, job: Job) -> Callable[[Phase, int, int], None]:
        meter = Meter()

        def progress(phase: Phase, done: int, total: int) -> None:
            self._jobs.progress[job.id] = meter.reading(phase, done, total)

        return progress

    @property
    def _threads(self) -> int:
        return self._current.settings.archive.threads or len(os.sched_getaffinity(0))

    async def _publish(self, job: Job, draft: Draft) -> None:
        """From the first rename to the commit nothing may come between."""
        with anyio.CancelScope(shield=True):
            aside = await self._run(make_way, draft.place)
            if aside is not None:
                log.warning("archive.set_aside", asset=job.key.registry_path, path=str(aside))
            async with self._keeper.publishing():
                await self._run(draft.publish)
                record = draft.manifest.record(draft.place.relative, proved_at=self._clock())
                await self._finish(job, Outcome.PUBLISHED, record)
            await self._keeper.refresh()

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a blocking function in the worker's own thread. Cancelled, it ends at its next check."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._limiter)


def _as_seen(record: ArchiveRecord, asset: Asset) -> ArchiveRecord:
    """The archive's record, brought up to what the asset is called and stamped now."""
    return msgspec.structs.replace(record, stamp=asset.stamp, files_stamp=asset.files_stamp, aliases=asset.aliases)
