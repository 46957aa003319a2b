"""After a crash, or without a database: make the records agree with the archive folder before anything else runs."""

from __future__ import annotations

from collections.abc import Iterable

import anyio.to_thread
import structlog

from refgenied.archive import Place, Presence, places, read_manifest, reconcile, remove
from refgenied.archive_folder import ArchiveFolder
from refgenied.jobs import Jobs
from refgenied.model import ArchiveNotFoundError, ArchiveRecord, AssetKey, RefgeniedError, Removal
from refgenied.store import archives

log = structlog.get_logger("recovery")

FACT = "records_read_from"
"""The id of the archive folder whose manifests the database has read."""


async def recover(jobs: Jobs, archive_folder: ArchiveFolder) -> None:
    """Charge jobs that took the daemon down, finish or undo half publishes, read a lost database's records anew."""
    crashed = await jobs.recover()
    for job in crashed:
        log.warning("job.recovered", job=job.id, asset=job.key.registry_path, attempts=job.attempts)
    if not archive_folder.path or await anyio.to_thread.run_sync(archive_folder.problem):
        return
    present = await anyio.to_thread.run_sync(_tidy, archive_folder, [job.key for job in crashed])
    async with jobs.change() as change:
        for record in present:  # whatever becomes of the job now: what is in place is what is recorded
            known = await archives.get(change.tx, record.key)
            if known and known.digest != record.digest:
                await archives.put(change.tx, record)
    async with jobs.store.transaction() as tx:
        read = await archives.fact(tx, FACT)
        removals = await archives.removals(tx)
    await anyio.to_thread.run_sync(_mark, archive_folder, list(removals.values()))
    if read != archive_folder.id:
        await _read_anew(jobs, archive_folder)


def _tidy(archive_folder: ArchiveFolder, keys: Iterable[AssetKey]) -> list[ArchiveRecord]:
    present: list[ArchiveRecord] = []
    for key in keys:
        try:
            place = Place(archive_folder.path, key)
            found = reconcile(place)
        except RefgeniedError as error:
            log.warning("archive.not_reconciled", asset=key.registry_path, error=error.message)
        else:
            log.info("archive.reconciled", asset=key.registry_path, found=found.presence, finished=found.finished)
            if found.presence is Presence.PRESENT and found.manifest:
                present.append(found.manifest.record(place.relative))
    return present


def _mark(archive_folder: ArchiveFolder, removals: Iterable[Removal]) -> None:
    """A removal that a crash cut after its commit: the manifest must say so too, or a new database would not know."""
    for removal in removals:
        try:
            place = Place(archive_folder.path, removal.key)
            manifest = read_manifest(place.manifest)
            if manifest.removed is None and manifest.created_at <= removal.removed_at:
                remove(place, at=removal.removed_at, by=removal.removed_by, stamp=removal.stamp, delete_file=False)
        except ArchiveNotFoundError:
            continue
        except RefgeniedError as error:
            log.warning("archive.not_marked", asset=removal.key.registry_path, error=error.message)


async def _read_anew(jobs: Jobs, archive_folder: ArchiveFolder) -> None:
    """The database does not know this folder yet: take the archives' records and removals from their manifests."""
    found, removed = await anyio.to_thread.run_sync(_records, archive_folder)
    async with jobs.change() as change:
        await archives.put_fact(
            change.tx, FACT, archive_folder.id or ""
        )  # with them: a start that is killed reads again
        if not found and not removed:
            return
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
            found = reconcile(place)  # first: a publish that was cut may be finished, and then another manifest counts
        except RefgeniedError as error:
            log.warning("archive.not_reconciled", asset=place.key.registry_path, error=error.message)
            continue
        manifest = found.manifest
        if found.presence is Presence.DAMAGED or found.presence is Presence.FOREIGN:
            log.warning("archive.not_recorded", asset=place.key.registry_path, reason=found.reason)
        elif manifest and manifest.removed:
            removals.append(Removal(place.key, manifest.removed.stamp, manifest.removed.at, manifest.removed.by))
        elif manifest:
            records.append(manifest.record(place.relative))
    return records, removals
