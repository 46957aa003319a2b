"""Finds out whether an asset's archive is up to date. If it is not, packs and proves a new archive for the worker."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive.adopt import take_foreign
from refgenied.archive.compare import same_content
from refgenied.archive.creator import pack_asset
from refgenied.archive.format.codec import Compression, ContentAware
from refgenied.archive.format.manifest import About, Manifest
from refgenied.archive.format.mending import differences
from refgenied.archive.place import Place
from refgenied.archive.presence import Presence, Settled, settle
from refgenied.archive.prover import prove
from refgenied.archive.publisher import Draft
from refgenied.archive.run import OnProgress, Run
from refgenied.files.disk import DiskThread
from refgenied.model import (
    ARCHIVABLE,
    Access,
    ArchiveFolderNotSetError,
    ArchiveNotFoundError,
    ArchiveRecord,
    Asset,
    AssetIncompleteError,
    AssetKey,
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
from refgenied.queue.core import Core

log = structlog.get_logger("archiver")

P = ParamSpec("P")
T = TypeVar("T")


class Result(msgspec.Struct, frozen=True):
    """The result of a job. The worker must still publish `draft` and write `record`."""

    outcome: Outcome
    record: ArchiveRecord
    draft: Draft | None = None
    """The draft to publish; None: the existing archive is right."""


class Task(msgspec.Struct, frozen=True):
    """One job, and the facts when it begins."""

    job: Job
    asset: Asset
    record: ArchiveRecord | None
    """The record of the existing archive, if the database has one."""
    place: Place
    run: Run


class Archiver:
    """Works on one job at a time, in a separate thread. It writes only partial files, and nothing in the database."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._limiter = anyio.CapacityLimiter(1)
        self._genome_disk = DiskThread("asset")

    async def asset(self, key: AssetKey) -> Asset:
        """The asset as it is now. It is complete, and there is a usable archive folder.

        ArchiveFolderNotSetError, WriteError, AssetNotFoundError, AssetIncompleteError.
        """
        folder = self._core.archive_folder
        if not folder.path:
            raise ArchiveFolderNotSetError("no genome_archive_folder is set")
        problem = await self._run(folder.problem)
        if problem:
            raise WriteError(problem)
        asset = await self._look_at(key)
        if asset is None:
            raise AssetNotFoundError(f"{key.registry_path} is not in the genome folder")
        if asset.state not in ARCHIVABLE or not asset.stamp:
            raise AssetIncompleteError(asset.reason)
        return asset

    async def archive(self, job: Job, asset: Asset, record: ArchiveRecord | None, on_progress: OnProgress) -> Result:
        """Pack the asset, or find that its archive is up to date. After an error no partial file is left.

        The caller publishes the result's draft, or discards it.
        """
        place = self._core.archive_folder.place(job.key)
        task = Task(job, asset, record, place, self._core.archive_run(on_progress))
        found = await self._run(settle, place, check_cancelled)
        if not job.force and not (record and record.damaged):
            there = await self._already_there(task, found)
            if there is not None:
                return there
        draft = await self._pack(task)
        await self._kept_if(self._require_untouched(asset), draft)
        return self._drafted(task, Outcome.PUBLISHED, draft)

    async def _look_at(self, key: AssetKey) -> Asset | None:
        return await self._genome_disk.run(self._core.genomes.asset, key, self._core.clock())

    async def _require_untouched(self, asset: Asset) -> bool:
        """Always True. SourceChangedError: the asset's files have changed since the job began."""
        again = await self._look_at(asset.key)
        if again is None or again.stamp != asset.stamp:
            raise SourceChangedError(f"{asset.folder} changed while it was archived")
        return True

    async def _already_there(self, task: Task, found: Settled) -> Result | None:
        """The result if the existing archive holds the asset's files as they are now; then nothing is compressed."""
        if found.presence is Presence.FOREIGN:
            return await self._taken_over(task)
        manifest = found.manifest
        if found.presence is not Presence.PRESENT or manifest is None:
            return None
        record = task.record
        if record is not None and differences(record, manifest, task.place.relative):
            record = None  # it describes another archive
        archived = record.files_stamp if record else manifest.files_stamp
        if archived != task.asset.files_stamp and not await self._holds(task, manifest, task.place.entries.name):
            return None
        if record is not None:
            return Result(Outcome.UNCHANGED, _as_seen(record, task.asset))
        return await self._adopted(task, manifest)

    async def _holds(self, task: Task, manifest: Manifest, listing: str) -> bool:
        """Whether the archive holds the asset's files, byte for byte. Hashing is many times faster than packing.

        `listing` is the name of the file with the list of members, if it is a file.
        """
        if task.asset.asset_digest not in (None, manifest.asset_digest):
            return False

        def compare() -> bool:
            with self._core.genomes.tree(task.asset) as tree:
                return same_content(tree, task.place.archive, manifest, task.run, listing=listing)

        try:
            same = await self._run(compare)
        except DamagedArchiveError:  # the list of members is damaged: the asset is packed again
            return False
        return same and await self._require_untouched(task.asset)

    async def _taken_over(self, task: Task) -> Result | None:
        """The result if another program's archive exists and holds the asset's files: then it is taken over."""
        about = await self._about(task)
        try:
            draft = await self._run(take_foreign, task.place.archive, task.place, about, task.run)
        except (DamagedArchiveError, UnsafeTreeError, DigestMismatchError) as error:
            log.info("archive.foreign", asset=task.job.key.registry_path, reason=error.message)
            return None
        same = self._holds(task, draft.manifest, task.place.entries_partial.name)
        return self._drafted(task, Outcome.ADOPTED, draft) if await self._kept_if(same, draft) else None

    async def _adopted(self, task: Task, manifest: Manifest) -> Result | None:
        """The result if the archive is sound, and only its record is missing (it was lost, or a crash came first)."""
        try:
            await self._run(prove, task.place.archive, manifest, task.run)
        except (ArchiveNotFoundError, DamagedArchiveError):
            return None
        record = manifest.record(task.place.relative, self._core.clock())
        return Result(Outcome.ADOPTED, _as_seen(record, task.asset))

    async def _kept_if(self, condition: Awaitable[bool], draft: Draft) -> bool:
        """Wait for the condition. If it is false, or after any error, the draft is discarded."""
        met = False
        try:
            met = await condition
        finally:
            if not met:
                with anyio.CancelScope(shield=True):
                    await self._run(draft.discard)
        return met

    def _drafted(self, task: Task, outcome: Outcome, draft: Draft) -> Result:
        record = draft.manifest.record(task.place.relative, proved_at=self._core.clock())
        return Result(outcome, _as_seen(record, task.asset), draft)

    async def _about(self, task: Task, access: Access | None = None) -> About:
        build = await self._genome_disk.run(self._core.genomes.build_record, task.asset)
        now = self._core.clock()
        return About.of(task.asset, build, requested_by=task.job.requested_by, created_at=now, access=access)

    async def _pack(self, task: Task) -> Draft:
        settings = self._core.current.settings.archive
        about = await self._about(task, readers(task.asset.access, settings))
        codec = ContentAware(Compression(settings.compression))

        def pack() -> Draft:
            with self._core.genomes.tree(task.asset) as tree:
                return pack_asset(tree, task.place, about, task.run, codec=codec)

        log.info("job.packing", job=task.job.id, asset=task.job.key.registry_path, attempt=task.job.attempts)
        return await self._run(pack)

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a blocking function in the archiver's own thread. A cancellation ends it at its next check."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._limiter)


def _as_seen(record: ArchiveRecord, asset: Asset) -> ArchiveRecord:
    """The archive's record, with the asset's present names, stamps and access."""
    return msgspec.structs.replace(
        record, stamp=asset.stamp, files_stamp=asset.files_stamp, aliases=asset.aliases, access=asset.access
    )
