"""Reads archives back, marks what is damaged, and has it made anew where the asset still allows it."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import OnProgress, Place, Run, no_progress
from refgenied.archive.publisher import replace_manifest
from refgenied.archive.verifier import Finding, examine
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.config import Current
from refgenied.files.disk import DiskThread
from refgenied.files.regular import identity
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock
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
from refgenied.queue.jobs import Jobs
from refgenied.store import archives

log = structlog.get_logger("verifier")

Files = tuple[tuple[int, ...], ...]
"""Identities of an archive's files."""

BUSY_SECONDS = 0.5
"""Before another look at an archive that is being removed or imported."""


class Verdict(msgspec.Struct, frozen=True):
    """What reading one archive back has shown."""

    key: AssetKey
    size: int
    seconds: float
    quick: bool
    damage: str
    """What is wrong, with the first bad member; empty when all is well."""
    hint: str = ""
    job: int | None = None
    """The job that makes a damaged archive anew."""
    mended: str = ""
    """What was put right in its manifest or its record, in one line."""


class Verifier:
    """One verification at a time; beside the worker, whose queue it never holds up."""

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
        self._genome_disk = DiskThread("asset of a damaged archive")

    async def verify(
        self,
        key: AssetKey,
        requester: Requester,
        *,
        quick: bool = False,
        on_progress: OnProgress = no_progress,
    ) -> Verdict:
        """Read a recorded archive back; mark it when it is damaged, and have it made anew when its asset is as it was.

        When record and manifest differ, the one is put right that the other, or the archive, proves to be wrong.
        `quick` reads the manifest only. `on_progress` is called in another thread. Cancelled, it ends within 0.3 s.
        ArchiveNotFoundError (no such record), UnreadableError.
        """
        run = Run(self._current.settings.archive.threads, check_cancelled, on_progress)

        def read(record: ArchiveRecord) -> Finding:
            return examine(self.place(key), record, run, quick=quick)

        return await self.verify_by(read, key, requester, quick=quick)

    async def verify_by(
        self, read: Callable[[ArchiveRecord], Finding], key: AssetKey, requester: Requester, *, quick: bool = False
    ) -> Verdict:
        """The same with another way to read: `read` is called in a thread and says what it has found."""
        while True:
            async with self._jobs.store.transaction() as tx:
                record = await archives.get(tx, key)
            if record is None:
                raise ArchiveNotFoundError(f"there is no archive of {key.registry_path}")
            began = time.monotonic()
            files = await anyio.to_thread.run_sync(self._files, key)
            found = await anyio.to_thread.run_sync(read, record, limiter=self._limiter)
            seconds = time.monotonic() - began
            if found.damage:
                async with self._archive_folder.publishing:
                    now = await anyio.to_thread.run_sync(self._files, key)
                if now != files:  # it was read while it was replaced
                    continue
                problem = await anyio.to_thread.run_sync(self._archive_folder.problem)
                if problem:  # its disk has gone
                    raise UnreadableError(problem)
            verdict = Verdict(key, record.size, seconds, quick, found.damage, mended=found.mended)
            if found.record or found.manifest:
                record = await self._put_right(record, found, files, requester)
                if record is None:
                    continue
            if await self._recorded(record, verdict, requester):
                return await self._made_anew(record, verdict, found, requester) if found.damage else verdict

    async def _put_right(
        self, record: ArchiveRecord, found: Finding, files: Files, requester: Requester
    ) -> ArchiveRecord | None:
        """Write the manifest and the record as they were found to be right; the record then. None: look again."""
        try:
            with self._jobs.reserved(record.key):
                await self._jobs.at_rest(record.key)
                async with self._archive_folder.publishing:
                    if await anyio.to_thread.run_sync(self._files, record.key) != files:
                        return None
                    right = await self._written(record, found)
                    async with self._jobs.change() as change:
                        known = await archives.put_right(change.tx, record, right)
                        if known and found.mended:
                            await change.log("archive.mended", record.key, by=requester.name, what=found.mended)
        except BusyError:  # it is being removed or imported
            await anyio.sleep(BUSY_SECONDS)
            return None
        if not known:
            return None
        if found.mended:
            log.warning("archive.mended", asset=record.key.registry_path, what=found.mended)
        return right

    async def _written(self, record: ArchiveRecord, found: Finding) -> ArchiveRecord:
        right = found.record or record
        if found.manifest is None:
            return right
        try:
            written = await anyio.to_thread.run_sync(replace_manifest, self.place(record.key), found.manifest)
        except (WriteError, NoSpaceError) as error:
            if found.mended:
                raise
            log.info("archive.not_sealed", asset=record.key.registry_path, reason=error.message)  # at the next proof
            return record
        return msgspec.structs.replace(right, seal=written.seal)

    def _files(self, key: AssetKey) -> Files:
        """The archive and its manifest, told apart from what a publish would put in their place."""
        place = self.place(key)
        return tuple(map(identity, (place.archive, place.manifest)))

    async def _recorded(self, record: ArchiveRecord, verdict: Verdict, requester: Requester) -> bool:
        """Write it down; False when the record is of another archive by now."""
        if not verdict.damage and verdict.quick:
            return True
        async with self._jobs.change() as change:
            if verdict.damage:
                known = await archives.mark_damaged(change.tx, record, verdict.damage)
                if known:
                    await change.log("archive.damaged", record.key, by=requester.name, error=verdict.damage)
            else:
                known = await archives.mark_proved(change.tx, record, self._clock())
                if known:
                    seconds = round(verdict.seconds, 3)
                    await change.log(
                        "archive.verified", record.key, by=requester.name, size=record.size, seconds=seconds
                    )
        if known and verdict.damage:
            log.warning("archive.damaged", asset=record.key.registry_path, problem=verdict.damage)
        return known

    async def _made_anew(
        self, record: ArchiveRecord, verdict: Verdict, found: Finding, requester: Requester
    ) -> Verdict:
        asset = await self._genome_disk.run(self._folder.asset, record.key, self._clock())
        name = name_of(record)
        gone = asset is None or asset.state is AssetState.MISSING
        if gone and found.only_manifest:
            hint = (
                f"its asset is gone from the genome folder, but the archive itself may be whole: move "
                f"{self.place(record.key).manifest} away, and `refgeniectl archive import {name}` reads it anew"
            )
        elif asset is None or gone:
            hint = (
                f"its asset is gone from the genome folder: put the archive back from a backup and verify {name} again"
            )
        elif asset.state not in ARCHIVABLE or not asset.stamp:
            hint = f"its asset is {asset.state}: when it is complete, `refgeniectl archive create {name}` makes it anew"
        elif asset.stamp != record.stamp:
            hint = f"its asset has changed since: `refgeniectl archive create {name}` archives it as it is now"
        else:
            priority = Priority.BACKLOG if requester.uid is None else Priority.ASKED
            job, _ = await self._jobs.enqueue(
                record.key, stamp=asset.stamp, priority=priority, force=True, requester=requester
            )
            return msgspec.structs.replace(verdict, job=job.id, hint=f"job {job.id} makes it anew from its asset")
        return msgspec.structs.replace(verdict, hint=hint)

    def place(self, key: AssetKey) -> Place:
        return Place(self._archive_folder.path, key)


def name_of(record: ArchiveRecord) -> str:
    return record.key.aliased(record.aliases[0]) if record.aliases else record.key.registry_path
