"""Reads archives back, marks damaged ones, and queues a job that makes them again if the asset allows it."""

import time
from collections.abc import Callable

import anyio
import anyio.to_thread
import msgspec
import structlog

from refgenied.archive.place import Place
from refgenied.archive.publisher import replace_manifest
from refgenied.archive.run import OnProgress, no_progress
from refgenied.archive.verifier import Finding, examine
from refgenied.files.disk import DiskThread
from refgenied.files.regular import identity
from refgenied.model import (
    ARCHIVABLE,
    ArchiveNotFoundError,
    ArchiveRecord,
    AssetKey,
    AssetState,
    BusyError,
    NoSpaceError,
    Priority,
    Requester,
    UnreadableError,
    WriteError,
)
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("verifier")

FileIdentities = tuple[tuple[int, ...], ...]

BUSY_LOOK_SECONDS = 0.5
"""Seconds before another look at an archive that is being removed or imported."""


def files_of(place: Place) -> FileIdentities:
    """The identities of an archive's files. A publish replaces the files, so their identities change."""
    return tuple(map(identity, (place.archive, place.manifest, place.entries)))


class Verdict(msgspec.Struct, frozen=True):
    """The result of reading one archive back."""

    key: AssetKey
    size: int
    seconds: float
    quick: bool
    damage: str
    """What is wrong, with the first bad member; empty when nothing is wrong."""
    hint: str = ""
    job: int | None = None
    """The job that makes a damaged archive again."""
    mended: str = ""
    """What was repaired in its manifest or its record, in one line."""


class Verifier:
    """Verifies one archive at a time, while the worker goes on. The queue never waits for it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._limiter = anyio.CapacityLimiter(1)
        self._genome_disk = DiskThread("asset of a damaged archive")

    async def verify(
        self,
        key: AssetKey,
        requester: Requester,
        *,
        quick: bool = False,
        on_progress: OnProgress = no_progress,
    ) -> Verdict:
        """Read a recorded archive back. A damaged archive is marked, and made again if its asset has not changed.

        When record and manifest differ, the wrong one is repaired; the other one or the archive proves which.
        `quick` reads the manifest only. `on_progress` is called in another thread. A cancellation takes at most 0.3 s.
        ArchiveNotFoundError (no such record), UnreadableError.
        """
        run = self._core.archive_run(on_progress)

        def read(record: ArchiveRecord) -> Finding:
            return examine(self._core.archive_folder.place(key), record, run, quick=quick)

        return await self.verify_by(read, key, requester, quick=quick)

    async def verify_by(
        self, read: Callable[[ArchiveRecord], Finding], key: AssetKey, requester: Requester, *, quick: bool = False
    ) -> Verdict:
        """As `verify`, but the function `read` reads the archive. It is called in a thread and returns its finding."""
        while True:
            record = await self._core.jobs.store.ask(archives.get, key)
            if record is None:
                raise ArchiveNotFoundError(f"there is no archive of {key.registry_path}")
            verdict = await self._verified(record, read, requester, quick=quick)
            if verdict is not None:
                return verdict

    async def _verified(
        self, record: ArchiveRecord, read: Callable[[ArchiveRecord], Finding], requester: Requester, *, quick: bool
    ) -> Verdict | None:
        """The verdict. None: the archive was replaced, removed or imported meanwhile, and must be read again."""
        place = self._core.archive_folder.place(record.key)
        files = await anyio.to_thread.run_sync(files_of, place)
        began = time.monotonic()
        found = await anyio.to_thread.run_sync(read, record, limiter=self._limiter)
        seconds = time.monotonic() - began
        if found.damage and not await self._is_still_there(place, files):
            return None
        verdict = Verdict(record.key, record.size, seconds, quick, found.damage, mended=found.mended)
        right = record
        if found.record or found.manifest:
            right = await self._put_right(record, found, files, requester)
        if right is None or not await self._recorded(right, verdict, requester):
            return None
        if not found.damage:
            return verdict
        log.warning("archive.damaged", asset=record.key.registry_path, problem=found.damage)
        hint, job = await self._made_anew(right, found, requester)
        return msgspec.structs.replace(verdict, hint=hint, job=job)

    async def _is_still_there(self, place: Place, files: FileIdentities) -> bool:
        """Whether these are still the archive's files. UnreadableError: the archive folder itself is missing."""
        async with self._core.archive_folder.publishing:
            same = await anyio.to_thread.run_sync(files_of, place) == files
        problem = await anyio.to_thread.run_sync(self._core.archive_folder.problem) if same else ""
        if problem:
            raise UnreadableError(problem)
        return same

    async def _recorded(self, record: ArchiveRecord, verdict: Verdict, requester: Requester) -> bool:
        """Record the verdict. False: another archive is recorded by now."""
        records = self._core.jobs.records
        if verdict.damage:
            return await records.damaged(record, requester, damage=verdict.damage)
        seconds = round(verdict.seconds, 3)
        return verdict.quick or await records.proved(record, requester, at=self._core.clock(), seconds=seconds)

    async def _put_right(
        self, record: ArchiveRecord, found: Finding, files: FileIdentities, requester: Requester
    ) -> ArchiveRecord | None:
        """Write the repaired manifest and record. Returns the new record; None: the archive must be read again."""
        place = self._core.archive_folder.place(record.key)
        try:
            with self._core.jobs.reserved(record.key):
                await self._core.jobs.at_rest(record.key)
                async with self._core.archive_folder.publishing:
                    if await anyio.to_thread.run_sync(files_of, place) != files:
                        return None
                    right = await self._written(place, record, found)
                    known = await self._core.jobs.records.put_right(record, right, requester, mended=found.mended)
        except BusyError:  # the archive is being removed or imported
            await anyio.sleep(BUSY_LOOK_SECONDS)
            return None
        if known and found.mended:
            log.warning("archive.mended", asset=record.key.registry_path, what=found.mended)
        return right if known else None

    async def _written(self, place: Place, record: ArchiveRecord, found: Finding) -> ArchiveRecord:
        """Write the manifest, if it was repaired. Returns the record that agrees with it."""
        right = found.record or record
        if found.manifest is None:
            return right
        try:
            written = await anyio.to_thread.run_sync(replace_manifest, place, found.manifest)
        except (WriteError, NoSpaceError) as error:
            if found.mended:
                raise
            # The manifest only lacks a seal, and gets it at the next proof.
            log.info("archive.not_sealed", asset=record.key.registry_path, reason=error.message)
            return record
        return msgspec.structs.replace(right, seal=written.seal)

    async def _made_anew(self, record: ArchiveRecord, found: Finding, requester: Requester) -> tuple[str, int | None]:
        """What happens to a damaged archive, for a person; and the job that makes it again, if the asset allows it."""
        asset = await self._genome_disk.run(self._core.genomes.asset, record.key, self._core.clock())
        name = record.key.named(record.aliases)
        if asset is None or asset.state is AssetState.MISSING:
            if found.only_manifest:
                manifest = self._core.archive_folder.place(record.key).manifest
                return (
                    f"its asset is gone from the genome folder, but the archive itself may be whole: move {manifest} "
                    f"away, and `refgeniectl archive import {name}` reads it anew"
                ), None
            return (
                f"its asset is gone from the genome folder: put the archive back from a backup and verify {name} again"
            ), None
        if asset.state not in ARCHIVABLE or not asset.stamp:
            return (
                f"its asset is {asset.state}: when it is complete, `refgeniectl archive create {name}` makes it anew"
            ), None
        if asset.stamp != record.stamp:
            return f"its asset has changed since: `refgeniectl archive create {name}` archives it as it is now", None
        priority = Priority.BACKLOG if requester.uid is None else Priority.ASKED
        job, _ = await self._core.jobs.enqueue(
            record.key, stamp=asset.stamp, priority=priority, force=True, requester=requester
        )
        return f"job {job.id} makes it anew from its asset", job.id
