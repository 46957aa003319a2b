"""After a crash, or without a database: make the records agree with the archive folder before anything else runs."""

from __future__ import annotations

from collections.abc import Iterable

import anyio.to_thread
import structlog

from refgenied.archive import Place, Presence, places, reconcile
from refgenied.archive_folder import ArchiveFolder
from refgenied.jobs import Jobs
from refgenied.model import ArchiveRecord, AssetKey, RefgeniedError, Removal
from refgenied.store import archives

log = structlog.get_logger("recovery")


async def recover(jobs: Jobs, archive_folder: ArchiveFolder) -> None:
    """Charge jobs that took the daemon down, finish or undo half publishes, read a lost database's records anew."""
    crashed = await jobs.recover()
    for job in crashed:
        log.warning("job.recovered", job=job.id, asset=job.key.registry_path, attempts=job.attempts)
    if not archive_folder.path or await anyio.to_thread.run_sync(archive_folder.problem):
        return
    await anyio.to_thread.run_sync(_tidy, archive_folder, [job.key for job in crashed])
    if jobs.store.fresh:
        await _read_anew(jobs, archive_folder)


def _tidy(archive_folder: ArchiveFolder, keys: Iterable[AssetKey]) -> None:
    for key in keys:
        try:
            found = reconcile(Place(archive_folder.path, key))
        except RefgeniedError as error:
            log.warning("archive.not_reconciled", asset=key.registry_path, error=error.message)
        else:
            log.info("archive.reconciled", asset=key.registry_path, found=found.presence, finished=found.finished)


async def _read_anew(jobs: Jobs, archive_folder: ArchiveFolder) -> None:
    """The database is new: take the archives' records and removals from their manifests."""
    found, removed = await anyio.to_thread.run_sync(_records, archive_folder)
    if not found and not removed:
        return
    async with jobs.change() as change:
        for record in found:
            await archives.put(change.tx, record)
        for removal in removed:
            await archives.put_removal(change.tx, removal)
        await change.log("database.rebuilt", archives=len(found), removals=len(removed))
    log.info("database.rebuilt", archives=len(found), removals=len(removed))


def _records(archive_folder: ArchiveFolder) -> tuple[list[ArchiveRecord], list[Removal]]:
    records: list[ArchiveRecord] = []
    removals: list[Removal] = []
    for place in places(archive_folder.path):
        try:
            found = reconcile(place)
        except RefgeniedError as error:
            log.warning("archive.not_reconciled", asset=place.key.registry_path, error=error.message)
            continue
        manifest = found.manifest
        if found.presence is Presence.PRESENT and manifest is not None:
            records.append(manifest.record(place.relative))
        elif manifest is not None and manifest.removed is not None:
            removals.append(Removal(place.key, manifest.removed.stamp, manifest.removed.at, manifest.removed.by))
        elif found.presence is not Presence.ABSENT:
            log.warning("archive.not_recorded", presence=found.presence, reason=found.reason)
    return records, removals
