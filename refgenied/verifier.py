"""Reads archives back, marks what is damaged, and has it made anew where the asset still allows it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import Phase, Place, check_archive
from refgenied.archive.progress import no_progress
from refgenied.archive.reconcile import manifest_at
from refgenied.archive.verifying import check_sizes
from refgenied.archive_folder import ArchiveFolder
from refgenied.config import Current
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock
from refgenied.jobs import Jobs
from refgenied.model import (
    ARCHIVABLE,
    ArchiveNotFoundError,
    ArchiveRecord,
    AssetKey,
    AssetState,
    DamagedArchiveError,
    Priority,
    Requester,
    UnreadableError,
)
from refgenied.store import archives

log = structlog.get_logger("verifier")

OnProgress = Callable[[Phase, int, int], None]


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

    async def verify(
        self,
        key: AssetKey,
        requester: Requester,
        *,
        quick: bool = False,
        on_progress: OnProgress = no_progress,
    ) -> Verdict:
        """Read a recorded archive back; mark it when it is damaged, and have it made anew when its asset is as it was.

        `quick` looks at sizes only. `on_progress` is called in another thread. Cancelled, it ends within 0.3 s.
        ArchiveNotFoundError (no such record), UnreadableError.
        """
        threads = self._current.settings.archive.threads or len(os.sched_getaffinity(0))

        def read(record: ArchiveRecord) -> str:
            return examine(self.place(key), record, threads, on_progress, check_cancelled, quick=quick)

        return await self.verify_by(read, key, requester, quick=quick)

    async def verify_by(
        self, read: Callable[[ArchiveRecord], str], key: AssetKey, requester: Requester, *, quick: bool = False
    ) -> Verdict:
        """The same with another way to read: `read` is called in a thread and says what is wrong."""
        while True:
            async with self._jobs.store.transaction() as tx:
                record = await archives.get(tx, key)
            if record is None:
                raise ArchiveNotFoundError(f"there is no archive of {key.registry_path}")
            began = time.monotonic()
            files = await anyio.to_thread.run_sync(self._files, key)
            damage = await anyio.to_thread.run_sync(read, record, limiter=self._limiter)
            seconds = time.monotonic() - began
            if damage:
                async with self._archive_folder.publishing:
                    now = await anyio.to_thread.run_sync(self._files, key)
                if now != files:  # it was read while it was replaced
                    continue
                problem = await anyio.to_thread.run_sync(self._archive_folder.problem)
                if problem:  # its disk has gone
                    raise UnreadableError(problem)
            verdict = Verdict(key, record.size, seconds, quick, damage)
            if await self._recorded(record, verdict, requester):
                return await self._made_anew(record, verdict, requester) if damage else verdict

    def _files(self, key: AssetKey) -> tuple[tuple[int, ...], ...]:
        """The archive and its manifest, told apart from what a publish would put in their place."""
        place = self.place(key)
        return tuple(_identity(path) for path in (place.archive, place.manifest))

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

    async def _made_anew(self, record: ArchiveRecord, verdict: Verdict, requester: Requester) -> Verdict:
        asset = await anyio.to_thread.run_sync(self._folder.asset, record.key, self._clock())
        name = name_of(record)
        if asset is None or asset.state is AssetState.MISSING:
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


def _identity(path: Path) -> tuple[int, ...]:
    try:
        info = path.stat()
    except OSError:
        return ()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def name_of(record: ArchiveRecord) -> str:
    return record.key.aliased(record.aliases[0]) if record.aliases else record.key.registry_path


def examine(
    place: Place,
    record: ArchiveRecord,
    threads: int,
    on_progress: OnProgress,
    check: Callable[[], None],
    *,
    quick: bool,
) -> str:
    """What is wrong with a recorded archive; empty when nothing is."""
    try:
        manifest = manifest_at(place)
        if manifest.digest != record.digest:
            return f"the manifest {place.manifest} is of another archive (md5 {manifest.digest}, not {record.digest})"
        check_sizes(place.archive, manifest)
        check_archive(
            place,
            manifest,
            deep=not quick,
            members=record.proved_at is None,
            threads=threads,
            on_progress=on_progress,
            check=check,
        )
    except (ArchiveNotFoundError, DamagedArchiveError) as error:
        return error.message
    return ""
