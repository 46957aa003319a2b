"""Makes the records and the archive folder agree, at start, before anything else runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import anyio.to_thread
import structlog

from refgenied.archive.format.manifest import Removed, read_manifest
from refgenied.archive.format.mending import differences
from refgenied.archive.place import Place
from refgenied.archive.presence import Presence, places, settle
from refgenied.archive.publisher import record_of, remove
from refgenied.archive_folder import generation
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.archive_folder.generation import Age, Generation
from refgenied.maintenance.importer import log_unreadable_folder
from refgenied.model import ArchiveRecord, AssetKey, BadRegistryPathError, RefgeniedError, Removal
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("recovery")


async def recover(core: Core) -> None:
    """Charge the jobs that ran during a crash, finish or undo their half-done steps, and catch up with the manifests.

    All manifests are read only when the database is new, or when it or the archive folder came from a backup.
    """
    jobs, archive_folder = core.jobs, core.archive_folder
    crashed = await jobs.recover()
    for job in crashed:
        log.warning("job.recovered", job=job.id, asset=job.key.registry_path, attempts=job.attempts)
    if not await archive_folder.usable():
        return
    try:
        folder = await anyio.to_thread.run_sync(generation.read, archive_folder.path)
    except RefgeniedError as error:  # the disk has a fault: nothing can be learned from it now
        log.warning("generation.not_read", error=error.message)
        return
    read_from = await jobs.store.ask(archives.fact, archives.READ_FROM)
    recorded = await jobs.store.ask(archives.generation)
    age = generation.age(folder, recorded)
    if read_from != archive_folder.id:
        age = None
    if age is Age.SAME:
        cut = folder.unsettled if folder else await jobs.store.ask(archives.removals)
        keys = {*(job.key for job in crashed), *cut}
        records, removals = await jobs.store.ask(archives.known_of, keys)
        await _settle(core, Differences(records, removals, newer=folder is None), keys, folder)
    else:
        records, removals = await jobs.store.ask(archives.known)
        now = Generation(max(folder.number if folder else 0, recorded or 0) + 1)
        await _catch_up(core, Differences(records, removals, newer=age is Age.NEWER), now, age)


async def _settle(core: Core, found: Differences, keys: set[AssetKey], folder: Generation | None) -> None:
    """Look at the assets whose change a crash has interrupted: at most a few.

    A folder without a generation comes from refgenied 0.1, which recorded a removal before it marked the manifest.
    """

    def compare() -> None:
        found.compare(_places(core.archive_folder, keys))
        if folder is None:
            _write(core.archive_folder, Generation(1))

    await anyio.to_thread.run_sync(compare)
    await core.jobs.records.caught_up(found.put, found.removed, folder.number if folder else 1)
    for change in (*found.put, *found.removed):
        log.warning("database.caught_up", asset=change.key.registry_path)


async def _catch_up(core: Core, found: Differences, now: Generation, age: Age | None) -> None:
    """Read every manifest. `age`: of the database; None when the database is new.

    The new number is stored in the database first. If the daemon is killed before the folder has it too, the next start
    reads the manifests again.
    """
    folder = core.archive_folder
    await anyio.to_thread.run_sync(lambda: found.compare(places(folder.path, log_unreadable_folder)))
    was = age.value if age else "new"
    await core.jobs.records.rebuilt(found.put, found.removed, now.number, folder_id=folder.id or "", why=was)
    await anyio.to_thread.run_sync(_write, folder, now)
    if found.put or found.removed:
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
    """Write the generation. The daemon starts even if the disk is full: then the next start compares once more."""
    try:
        generation.write(archive_folder.path, now)
    except RefgeniedError as error:
        log.warning("generation.not_written", error=error.message)


def _places(archive_folder: ArchiveFolder, keys: Iterable[AssetKey]) -> Iterable[Place]:
    for key in sorted(keys):
        try:
            yield archive_folder.place(key)
        except BadRegistryPathError:
            continue


class Differences:
    """The differences between the manifests and the database, and the new content of the database. Blocking.

    `newer`: the database is newer than the archive folder, so its removals are believed.
    """

    def __init__(
        self, records: Mapping[AssetKey, ArchiveRecord], removals: Mapping[AssetKey, Removal], *, newer: bool
    ) -> None:
        self._records = records
        self._removals = removals
        self._newer = newer
        self.put: list[ArchiveRecord] = []
        self.removed: list[Removal] = []

    def compare(self, at: Iterable[Place]) -> None:
        for place in at:
            try:
                self._compare(place)
            except RefgeniedError as error:
                log.warning("archive.not_reconciled", asset=place.key.registry_path, error=error.message)

    def _compare(self, place: Place) -> None:
        there = settle(place)  # this comes first: it may finish a publish, and then another manifest is valid
        record, removal = self._records.get(place.key), self._removals.get(place.key)
        manifest = there.manifest
        if there.finished:
            log.info("archive.reconciled", asset=place.key.registry_path, found=there.presence, finished=True)
        if there.presence in (Presence.DAMAGED, Presence.FOREIGN):
            if there.presence is Presence.DAMAGED or record:  # thousands of foreign archives may be there: no fault
                log.warning("archive.not_recorded", asset=place.key.registry_path, reason=there.reason)
            if record is None and removal is None:
                self._remove(place, _removed_anyhow(place))
        elif manifest is None:
            return
        elif manifest.removed is not None:
            if removal is None and not (self._newer and record):
                self._remove(place, manifest.removed)
        elif self._newer and removal is not None and manifest.created_at <= removal.removed_at:
            remove(place, at=removal.removed_at, by=removal.removed_by, stamp=removal.stamp, delete_file=False)
        elif record is None or differences(record, manifest, place.relative):
            self.put.append(record_of(place, manifest))

    def _remove(self, place: Place, mark: Removed | None) -> None:
        if mark is not None:
            self.removed.append(Removal(place.key, mark.stamp, mark.at, mark.by))


def _removed_anyhow(place: Place) -> Removed | None:
    """A user's removal. It is believed even in a manifest with a broken seal."""
    try:
        return read_manifest(place.manifest, believed=False).removed
    except RefgeniedError:
        return None
