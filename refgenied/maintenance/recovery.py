"""At start: brings the records and the archive folder into agreement, before anything else runs."""

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
from refgenied.maintenance.importer import log_unreadable_folder
from refgenied.model import ArchiveRecord, AssetKey, BadRegistryPathError, RefgeniedError, Removal
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("recovery")


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


async def recover(core: Core) -> None:
    """Charge the jobs that ran at a crash, finish or undo what was half done, and catch up with the manifests.

    All manifests are read only when the database is new, or when it or the archive folder came from a backup.
    """
    jobs, archive_folder = core.jobs, core.archive_folder
    crashed = await jobs.recover()
    for job in crashed:
        log.warning("job.recovered", job=job.id, asset=job.key.registry_path, attempts=job.attempts)
    if not archive_folder.path or await anyio.to_thread.run_sync(archive_folder.problem):
        return
    try:
        folder = await anyio.to_thread.run_sync(generation.read, archive_folder.path)
    except RefgeniedError as error:  # the disk is not well: nothing can be learned from it now
        log.warning("generation.not_read", error=error.message)
        return
    store = jobs.store
    read_from = await store.ask(archives.fact, archives.READ_FROM)
    recorded = await store.ask(archives.generation)
    known = Known(*await store.ask(archives.known))
    age = generation.age(folder, recorded)
    if read_from != archive_folder.id or age is not Age.SAME:
        was = age if read_from == archive_folder.id else None
        now = Generation(max(folder.number if folder else 0, recorded or 0) + 1)
        await _catch_up(core, known, now, was)
    else:
        keys = {*(job.key for job in crashed), *(folder.unsettled if folder else known.removals)}
        await _settle(core, known, keys, folder)


async def _settle(core: Core, known: Known, keys: set[AssetKey], folder: Generation | None) -> None:
    """Look at the assets whose change a crash has cut: at most a few.

    A folder without a generation is of refgenied 0.1, which marked a removal only after it had recorded it.
    """

    def compare() -> Differences:
        found = _compared(_places(core.archive_folder, keys), known, newer=folder is None)
        if folder is None:
            _write(core.archive_folder, Generation(1))
        return found

    found = await anyio.to_thread.run_sync(compare)
    await core.jobs.records.caught_up(found.put, found.removed, folder.number if folder else 1)
    for change in (*found.put, *found.removed):
        log.warning("database.caught_up", asset=change.key.registry_path)


async def _catch_up(core: Core, known: Known, now: Generation, age: Age | None) -> None:
    """Read every manifest. `age`: of the database; None when it is new.

    The database learns the new number first: if it is killed before the folder has the number, the next start reads
    the manifests again.
    """
    found = await anyio.to_thread.run_sync(
        lambda: _compared(places(core.archive_folder.path, log_unreadable_folder), known, newer=age is Age.NEWER)
    )
    was = age.value if age else "new"
    await core.jobs.records.rebuilt(
        found.put, found.removed, now.number, folder_id=core.archive_folder.id or "", why=was
    )
    await anyio.to_thread.run_sync(_write, core.archive_folder, now)
    if found:
        log.warning("database.rebuilt", archives=len(found.put), removals=len(found.removed), was=was)
        if age:
            core.health.set("database_age", _told(found, age))


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


# ----------------------------------------------------------------- the archive folder's side; blocking


def _write(archive_folder: ArchiveFolder, now: Generation) -> None:
    """The daemon starts also when the disk is full: the next start compares once more."""
    try:
        generation.write(archive_folder.path, now)
    except RefgeniedError as error:
        log.warning("generation.not_written", error=error.message)


def _places(archive_folder: ArchiveFolder, keys: Iterable[AssetKey]) -> Iterable[Place]:
    for key in sorted(keys):
        try:
            yield Place(archive_folder.path, key)
        except BadRegistryPathError:
            continue


def _compared(at: Iterable[Place], known: Known, *, newer: bool) -> Differences:
    """Where the manifests differ from the database. `newer`: the database is newer, and its removals hold."""
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
    """A user's removal. It counts also in a manifest whose other values are not believed."""
    try:
        return read_manifest(place.manifest, believed=False).removed
    except RefgeniedError:
        return None
