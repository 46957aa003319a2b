"""Finds out whether an asset's archive is up to date. If it is not, packs and proves a new archive for the worker."""

from collections.abc import Callable, Sequence
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

MOST_HANGING = 4
"""So many looks at assets may hang on a dead disk. After that the next look waits for one of them."""


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
    """Works on jobs, each in one call in a thread. It writes only partial files, and nothing in the database."""

    def __init__(self, core: Core, at_once: int) -> None:
        """`at_once`: how many jobs it may work on at the same time."""
        self._core = core
        self._limiter = anyio.CapacityLimiter(at_once)
        self._looking: list[DiskThread] = []

    async def look(
        self, keys: Sequence[AssetKey], found: list[Asset | Exception], more: Callable[[Asset | Exception], bool]
    ) -> None:
        """Add to `found` each of these assets as it is now: complete, and there is a usable archive folder. Or why not:
        ArchiveFolderNotSetError, WriteError, AssetNotFoundError, AssetIncompleteError, any error of the look.

        It stops after the first for which `more` is False. While the disk does not answer, the caller sees in `found`
        how far it came, and can be cancelled: the next look does not wait for it. ShortageError: there is no thread.
        """

        def look() -> None:
            problem = self._folder_problem()
            for key in keys:
                found.append(problem or self._complete(key))
                if not more(found[-1]):
                    break

        await self._thread().run(look)

    def _thread(self) -> DiskThread:
        """A thread for a look. When too many hang, the last one of them."""
        self._looking = [thread for thread in self._looking if thread.busy_since is not None]
        if len(self._looking) < MOST_HANGING:
            self._looking.append(DiskThread("asset"))
        return self._looking[-1]

    async def archive(self, job: Job, asset: Asset, record: ArchiveRecord | None, on_progress: OnProgress) -> Result:
        """Pack the asset, or find that its archive is up to date. After an error no partial file is left.

        The caller publishes the result's draft, or discards it.
        """
        place = self._core.archive_folder.place(job.key)
        return await self._run(self._made, Task(job, asset, record, place, self._core.archive_run(on_progress)))

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a blocking function in one of anyio's threads. A cancellation ends it at its next check."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._limiter)

    # ----------------------------------------------------------------- in a thread

    def _look_at(self, key: AssetKey) -> Asset | None:
        return self._core.genomes.asset(key, self._core.clock())

    def _folder_problem(self) -> Exception | None:
        folder = self._core.archive_folder
        if not folder.path:
            return ArchiveFolderNotSetError("no genome_archive_folder is set")
        try:
            problem = folder.problem()
        except Exception as error:  # noqa: BLE001 - it is the error of the first job
            return error
        return WriteError(problem) if problem else None

    def _complete(self, key: AssetKey) -> Asset | Exception:
        try:
            asset = self._look_at(key)
        except Exception as error:  # noqa: BLE001 - it is the error of the asset's job alone
            return error
        if asset is None:
            return AssetNotFoundError(f"{key.registry_path} is not in the genome folder")
        if asset.state not in ARCHIVABLE or not asset.stamp:
            return AssetIncompleteError(asset.reason)
        return asset

    def _made(self, task: Task) -> Result:
        job, record = task.job, task.record
        found = settle(task.place, check_cancelled)
        if not job.force and not (record and record.damaged):
            there = self._already_there(task, found)
            if there is not None:
                return there
        draft = self._pack(task)
        self._kept_if(draft, lambda: self._require_untouched(task.asset))
        return self._drafted(task, Outcome.PUBLISHED, draft)

    def _require_untouched(self, asset: Asset) -> bool:
        """Always True. SourceChangedError: the asset's files have changed since the job began."""
        again = self._look_at(asset.key)
        if again is None or again.stamp != asset.stamp:
            raise SourceChangedError(f"{asset.folder} changed while it was archived")
        return True

    def _already_there(self, task: Task, found: Settled) -> Result | None:
        """The result if the existing archive holds the asset's files as they are now; then nothing is compressed."""
        if found.presence is Presence.FOREIGN:
            return self._taken_over(task)
        manifest = found.manifest
        if found.presence is not Presence.PRESENT or manifest is None:
            return None
        record = task.record
        if record is not None and differences(record, manifest, task.place.relative):
            record = None  # it describes another archive
        archived = record.files_stamp if record else manifest.files_stamp
        if archived != task.asset.files_stamp and not self._holds(task, manifest, task.place.entries.name):
            return None
        if record is not None:
            return Result(Outcome.UNCHANGED, _as_seen(record, task.asset))
        return self._adopted(task, manifest)

    def _holds(self, task: Task, manifest: Manifest, listing: str) -> bool:
        """Whether the archive holds the asset's files, byte for byte. Hashing is many times faster than packing.

        `listing` is the name of the file with the list of members, if it is a file.
        """
        if task.asset.asset_digest not in (None, manifest.asset_digest):
            return False
        try:
            with self._core.genomes.tree(task.asset) as tree:
                same = same_content(tree, task.place.archive, manifest, task.run, listing=listing)
        except DamagedArchiveError:  # the list of members is damaged: the asset is packed again
            return False
        return same and self._require_untouched(task.asset)

    def _taken_over(self, task: Task) -> Result | None:
        """The result if another program's archive exists and holds the asset's files: then it is taken over."""
        try:
            draft = take_foreign(task.place.archive, task.place, self._about(task), task.run)
        except (DamagedArchiveError, UnsafeTreeError, DigestMismatchError) as error:
            log.info("archive.foreign", asset=task.job.key.registry_path, reason=error.message)
            return None
        holds = self._kept_if(draft, lambda: self._holds(task, draft.manifest, task.place.entries_partial.name))
        return self._drafted(task, Outcome.ADOPTED, draft) if holds else None

    def _adopted(self, task: Task, manifest: Manifest) -> Result | None:
        """The result if the archive is sound, and only its record is missing (it was lost, or a crash came first)."""
        try:
            prove(task.place.archive, manifest, task.run)
        except (ArchiveNotFoundError, DamagedArchiveError):
            return None
        record = manifest.record(task.place.relative, self._core.clock())
        return Result(Outcome.ADOPTED, _as_seen(record, task.asset))

    def _kept_if(self, draft: Draft, condition: Callable[[], bool]) -> bool:
        """Ask for the condition. If it is false, or after any error, the draft is discarded."""
        met = False
        try:
            met = condition()
        finally:
            if not met:
                draft.discard()
        return met

    def _drafted(self, task: Task, outcome: Outcome, draft: Draft) -> Result:
        record = draft.manifest.record(task.place.relative, proved_at=self._core.clock())
        return Result(outcome, _as_seen(record, task.asset), draft)

    def _about(self, task: Task, access: Access | None = None) -> About:
        build = self._core.genomes.build_record(task.asset)
        now = self._core.clock()
        return About.of(task.asset, build, requested_by=task.job.requested_by, created_at=now, access=access)

    def _pack(self, task: Task) -> Draft:
        settings = self._core.current.settings.archive
        about = self._about(task, readers(task.asset.access, settings))
        codec = ContentAware(Compression(settings.compression))
        log.info("job.packing", job=task.job.id, asset=task.job.key.registry_path, attempt=task.job.attempts)
        with self._core.genomes.tree(task.asset) as tree:
            return pack_asset(tree, task.place, about, task.run, codec=codec)


def _as_seen(record: ArchiveRecord, asset: Asset) -> ArchiveRecord:
    """The archive's record, with the asset's present names, stamps and access."""
    return msgspec.structs.replace(
        record, stamp=asset.stamp, files_stamp=asset.files_stamp, aliases=asset.aliases, access=asset.access
    )
