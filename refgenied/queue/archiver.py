"""Finds out whether one asset's archive is up to date, and else packs and proves another, ready to be published."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
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
    Run,
    pack_asset,
    prove,
    reconcile,
    same_content,
    take_foreign,
)
from refgenied.archive.format.manifest import entries_of
from refgenied.archive.format.mending import differences
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.config import Current
from refgenied.files.disk import DiskThread
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock
from refgenied.model import (
    ARCHIVABLE,
    ArchiveFolderNotSetError,
    ArchiveNotFoundError,
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
from refgenied.policy import readers
from refgenied.queue.jobs import Jobs
from refgenied.shared.progress import Meter
from refgenied.store import archives

log = structlog.get_logger("archiver")

P = ParamSpec("P")
T = TypeVar("T")


class Result(msgspec.Struct, frozen=True):
    """What a job has come to. It holds once `draft` is published and `record` is written."""

    outcome: Outcome
    record: ArchiveRecord
    draft: Draft | None = None
    """What is to be published; None when the archive in place is the right one."""


class Archiver:
    """One job at a time, in a thread of its own limiter. It writes partial files only."""

    def __init__(
        self,
        folder: GenomeFolder,
        archive_folder: ArchiveFolder,
        jobs: Jobs,
        current: Current,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._current = current
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(1)
        self._genome_disk = DiskThread("asset")

    async def archive(self, job: Job) -> Result:
        """Pack, or see that there is nothing to pack. Whatever goes wrong is raised, and no partial file is left then.

        The caller publishes the result's draft, or discards it.
        """
        asset = await self._asset(job)
        if asset.stamp != job.stamp:
            await self._jobs.restamp(job, asset.stamp)
        async with self._jobs.store.transaction() as tx:
            record = await archives.get(tx, job.key)
        place = Place(self._archive_folder.path, job.key)
        found = await self._run(reconcile, place, check_cancelled)
        force = job.force or (record is not None and record.damaged is not None)
        there = None if force else await self._already_there(job, asset, record, place, found)
        if there is not None:
            return there
        draft = await self._pack(job, asset, place)
        async with self._discarded_unless_kept(draft, asset) as keep:
            await self._require_untouched(asset)
            same = (
                record is not None
                and found.presence is Presence.PRESENT  # else the folder alone could not tell of it
                and record.content_digest == draft.manifest.content_digest
            )
            in_place = same and not await self._run(self._archive_folder.lost, {job.key: record} if record else {})
            if record and in_place and not force:
                return _unchanged(record, asset)
            return keep(Outcome.PUBLISHED)

    async def _asset(self, job: Job) -> Asset:
        """The asset as it is now, at rest, and an archive folder to put it in."""
        if not self._archive_folder.path:
            raise ArchiveFolderNotSetError("no genome_archive_folder is set")
        problem = await self._run(self._archive_folder.problem)
        if problem:
            raise WriteError(problem)
        asset = await self._genome_disk.run(self._folder.asset, job.key, self._clock())
        if asset is None:
            raise AssetNotFoundError(f"{job.key.registry_path} is not in the genome folder")
        if asset.state not in ARCHIVABLE or not asset.stamp:
            raise AssetIncompleteError(asset.reason)
        return asset

    async def _require_untouched(self, asset: Asset) -> None:
        again = await self._genome_disk.run(self._folder.asset, asset.key, self._clock())
        if again is None or again.stamp != asset.stamp:
            raise SourceChangedError(f"{asset.folder} changed while it was archived")

    async def _already_there(
        self, job: Job, asset: Asset, record: ArchiveRecord | None, place: Place, found: Reconciled
    ) -> Result | None:
        """The result when the archive in place is of these very files, so that there is nothing to compress."""
        if found.presence is Presence.FOREIGN:
            return await self._taken_over(job, asset, place)
        manifest = found.manifest
        if found.presence is not Presence.PRESENT or manifest is None:
            return None
        recorded = record is not None and not differences(record, manifest, place.relative)
        known = record.files_stamp if record and recorded else manifest.files_stamp
        if known != asset.files_stamp and not await self._holds(job, asset, place, manifest, place.entries.name):
            return None
        if record is not None and recorded:
            return _unchanged(record, asset)
        return await self._adopted(asset, place, manifest)

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

    async def _taken_over(self, job: Job, asset: Asset, place: Place) -> Result | None:
        """Another program's archive is in place: it is taken when it holds these very files."""
        build = await self._genome_disk.run(self._folder.build_record, asset)
        about = About.of(asset, build, requested_by=job.requested_by, created_at=self._clock())
        try:
            draft = await self._run(
                take_foreign, place.archive, place, about, on_progress=self._reporting(job), check=check_cancelled
            )
        except (DamagedArchiveError, UnsafeTreeError, DigestMismatchError) as error:
            log.info("archive.foreign", asset=job.key.registry_path, reason=error.message)
            return None
        async with self._discarded_unless_kept(draft, asset) as keep:
            same = await self._holds(job, asset, place, draft.manifest, place.entries_partial.name)
            return keep(Outcome.ADOPTED) if same else None

    async def _adopted(self, asset: Asset, place: Place, manifest: Manifest) -> Result | None:
        """Its record was lost, or a crash came before it: take the archive when it proves to be whole."""
        run = Run(self._current.settings.archive.threads, check_cancelled)
        try:
            await self._run(prove, place.archive, manifest, run)
        except (ArchiveNotFoundError, DamagedArchiveError):
            return None
        record = manifest.record(place.relative, self._clock())
        return Result(Outcome.ADOPTED, _as_seen(record, asset))

    @asynccontextmanager
    async def _discarded_unless_kept(self, draft: Draft, asset: Asset) -> AsyncGenerator[Callable[[Outcome], Result]]:
        """Gives a function that makes the result with this draft; when it was not called, the draft is discarded."""
        kept: list[Result] = []

        def keep(outcome: Outcome) -> Result:
            record = draft.manifest.record(draft.place.relative, proved_at=self._clock())
            kept.append(Result(outcome, _as_seen(record, asset), draft))
            return kept[0]

        try:
            yield keep
        finally:
            if not kept:
                with anyio.CancelScope(shield=True):
                    await self._run(draft.discard)

    async def _pack(self, job: Job, asset: Asset, place: Place) -> Draft:
        build = await self._genome_disk.run(self._folder.build_record, asset)
        access = readers(asset.access, self._current.settings.archive)
        about = About.of(asset, build, requested_by=job.requested_by, created_at=self._clock(), access=access)
        codec = ContentAware(Compression(self._current.settings.archive.compression))

        def pack() -> Draft:
            with self._folder.tree(asset) as tree:
                return pack_asset(
                    tree,
                    place,
                    about,
                    codec=codec,
                    threads=self._current.settings.archive.threads,
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

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a blocking function in the worker's own thread. Cancelled, it ends at its next check."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._limiter)


def _unchanged(record: ArchiveRecord, asset: Asset) -> Result:
    return Result(Outcome.UNCHANGED, _as_seen(record, asset))


def _as_seen(record: ArchiveRecord, asset: Asset) -> ArchiveRecord:
    """The archive's record, brought up to what the asset is called and stamped now."""
    return msgspec.structs.replace(
        record, stamp=asset.stamp, files_stamp=asset.files_stamp, aliases=asset.aliases, access=asset.access
    )
