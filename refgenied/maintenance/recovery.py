"""After a crash, with an older database or without one: records and archive folder agree before anything else runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import anyio.to_thread
import msgspec
import structlog

from refgenied.archive import Place, Presence, Removed, places, read_manifest, reconcile, remove
from refgenied.archive.format.mending import differences
from refgenied.archive.publisher import recorded
from refgenied.archive_folder import generation
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.archive_folder.generation import Age, Generation
from refgenied.health import Health
from refgenied.model import ArchiveRecord, AssetKey, BadRegistryPathError, RefgeniedError, Removal
from refgenied.queue.jobs import Jobs
from refgenied.store import Transaction, archives

log = structlog.get_logger("recovery")

FACT = "records_read_from"
"""The id of the archive folder whose manifests the database has read."""


class Known(msgspec.Struct, frozen=True):
    """What the database says."""

    archives: Mapping[AssetKey, ArchiveRecord]
    removals: Mapping[AssetKey, Removal]


class Differences(msgspec.Struct):
    """What the manifests say otherwise, and what the database is brought to."""

    put: list[ArchiveRecord] = []
    removed: list[Removal] = []

    def __bool__(self) -> bool:
        return bool(self.put or self.removed)


async def recover(jobs: Jobs, archive_folder: ArchiveFolder, health: Health) -> None:
    """Charge jobs that took the daemon down, finish or undo what was cut, and catch up with the manifests.

    All manifests are read only when the database is new, or when it or the archive folder came from a backup.
    """
    crashed = await jobs.recover()
    for job in crashed:
        log.warning("job.recovered", job=job.id, asset=job.key.registry_path, attempts=job.attempts)
    if not archive_folder.path or await anyio.to_thread.run_sync(archive_folder.problem):
        return
    try:
        folder = await anyio.to_thread.run_sync(generation.read, archive_folder.path)
    except RefgeniedError as error:  # a disk that is not well: nothing can be told from it now
        log.warning("generation.not_read", error=error.message)
        return
    async with jobs.store.transaction() as tx:
        read = await archives.fact(tx, FACT)
        recorded = await archives.generation(tx)
        known = Known(await archives.everything(tx), await archives.removals(tx))
    now = Generation(max(folder.number if folder else 0, recorded or 0) + 1)
    if read != archive_folder.id:
        await _catch_up(jobs, archive_folder, known, now)
    elif (age := generation.age(folder, recorded)) is not Age.SAME:
        await _catch_up(jobs, archive_folder, known, now, age, health)
    else:
        keys = {*(job.key for job in crashed), *(folder.unsettled if folder else known.removals)}
        await _settle(jobs, archive_folder, known, keys, folder)


async def _settle(
    jobs: Jobs, archive_folder: ArchiveFolder, known: Known, keys: set[AssetKey], folder: Generation | None
) -> None:
    """What a crash has cut: at most a few assets.

    Without a generation refgenied 0.1 was here, which marked a removal only after it had recorded it.
    """

    def compare() -> Differences:
        found = _compared(_places(archive_folder, keys), known, newer=folder is None)
        if folder is None:
            _write(archive_folder, Generation(1))
        return found

    found = await anyio.to_thread.run_sync(compare)
    async with jobs.change() as change:
        await _record(change.tx, found)
        await archives.put_generation(change.tx, folder.number if folder else 1)
        for key in [*(record.key for record in found.put), *(removal.key for removal in found.removed)]:
            log.warning("database.caught_up", asset=key.registry_path)
        for record in found.put:
            await change.log("archive.adopted", record.key, digest=record.digest, size=record.size, path=record.path)
        for removal in found.removed:
            await change.log("archive.removed", removal.key, removed_by=removal.removed_by)


async def _catch_up(
    jobs: Jobs,
    archive_folder: ArchiveFolder,
    known: Known,
    now: Generation,
    age: Age | None = None,
    health: Health | None = None,
) -> None:
    """Read every manifest. `age`: of a database that is not new.

    The database learns the new number first: a start that is killed before the folder has it reads them again.
    """
    found = await anyio.to_thread.run_sync(
        lambda: _compared(places(archive_folder.path, _passed_over), known, newer=age is Age.NEWER)
    )
    why = age.value if age else "new"
    async with jobs.change() as change:
        await archives.put_fact(change.tx, FACT, archive_folder.id or "")
        await archives.put_generation(change.tx, now.number)
        await _record(change.tx, found)
        if found:
            await change.log("database.rebuilt", archives=len(found.put), removals=len(found.removed), was=why)
    await anyio.to_thread.run_sync(_write, archive_folder, now)
    if found:
        log.warning("database.rebuilt", archives=len(found.put), removals=len(found.removed), was=why)
        if health and age:
            health.set("database_age", _told(found, age))


def _told(found: Differences, age: Age) -> str:
    archives_, removals = len(found.put), len(found.removed)
    counts = f"{archives_} {'archive' if archives_ == 1 else 'archives'} and "
    counts += f"{removals} {'removal' if removals == 1 else 'removals'}"
    if age is Age.OLDER:
        return (
            f"the database was older than the archive folder (from a backup?): {counts} were taken from the manifests; "
            "downloads since the backup are not counted"
        )
    return f"the archive folder was older than the database (from a backup?): {counts} were taken from the manifests"


async def _record(tx: Transaction, found: Differences) -> None:
    for record in found.put:
        await archives.put(tx, record)
    for removal in found.removed:
        await archives.forget(tx, removal.key)
        await archives.put_removal(tx, removal)


# ----------------------------------------------------------------- the archive folder's side; blocking


def _write(archive_folder: ArchiveFolder, now: Generation) -> None:
    """On a full disk the daemon starts all the same: the next start compares once more."""
    try:
        generation.write(archive_folder.path, now)
    except RefgeniedError as error:
        log.warning("generation.not_written", error=error.message)


def _passed_over(error: OSError) -> None:
    log.warning("archive.folder_unreadable", path=error.filename, error=error.strerror)


def _places(archive_folder: ArchiveFolder, keys: Iterable[AssetKey]) -> Iterable[Place]:
    for key in sorted(keys):
        try:
            yield Place(archive_folder.path, key)
        except BadRegistryPathError:
            continue


def _compared(at: Iterable[Place], known: Known, *, newer: bool) -> Differences:
    """What the manifests there say otherwise than the database. `newer`: it is, and its removals hold."""
    found = Differences()
    for place in at:
        try:
            _compare(place, known, found, newer=newer)
        except RefgeniedError as error:
            log.warning("archive.not_reconciled", asset=place.key.registry_path, error=error.message)
    return found


def _compare(place: Place, known: Known, found: Differences, *, newer: bool) -> None:
    there = reconcile(place)  # first: a publish that was cut may be finished, and then another manifest counts
    record, removal = known.archives.get(place.key), known.removals.get(place.key)
    manifest = there.manifest
    if there.finished:
        log.info("archive.reconciled", asset=place.key.registry_path, found=there.presence, finished=True)
    if there.presence in (Presence.DAMAGED, Presence.FOREIGN):
        if there.presence is Presence.DAMAGED or record:  # those of other programs may be thousands, and are no fault
            log.warning("archive.not_recorded", asset=place.key.registry_path, reason=there.reason)
        mark = _removed_anyhow(place)
        if mark and record is None and removal is None:
            found.removed.append(Removal(place.key, mark.stamp, mark.at, mark.by))
    elif manifest is None:
        return
    elif manifest.removed is not None:
        if removal is None and not (newer and record):
            mark = manifest.removed
            found.removed.append(Removal(place.key, mark.stamp, mark.at, mark.by))
    elif newer and removal is not None and manifest.created_at <= removal.removed_at:
        remove(place, at=removal.removed_at, by=removal.removed_by, stamp=removal.stamp, delete_file=False)
    elif record is None or differences(record, manifest, place.relative):
        found.put.append(recorded(place, manifest))


def _removed_anyhow(place: Place) -> Removed | None:
    """A user's removal, also from a manifest that nothing else is believed of."""
    try:
        return read_manifest(place.manifest, believed=False).removed
    except RefgeniedError:
        return None
