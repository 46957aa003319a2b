"""Takes archives that are already there into the database: ours from their manifests, others by reading them."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import (
    Draft,
    Found,
    Maker,
    OnProgress,
    Place,
    Presence,
    Reconciled,
    Removed,
    Run,
    bring_back,
    find_archive,
    find_archives,
    found_at,
    manifest_at,
    no_progress,
    prove,
    reconcile,
    take_foreign,
    take_ours,
)
from refgenied.archive.publisher import recorded
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.archive_folder.names import ServedNames
from refgenied.config import Current
from refgenied.files.regular import reading
from refgenied.health import Clock
from refgenied.model import (
    Access,
    ArchiveRecord,
    AssetKey,
    RefgeniedError,
    Removal,
    Requester,
    ShortageError,
    StateError,
    UnreadableError,
)
from refgenied.queue.jobs import Jobs
from refgenied.store import archives

log = structlog.get_logger("importer")

T = TypeVar("T")


class Taken(StrEnum):
    """What became of one archive that was found."""

    IMPORTED = "imported"
    KNOWN = "known"  # recorded already, as it is
    REMOVED = "removed"  # its manifest says that a user removed it
    REFUSED = "refused"  # damaged, unsafe, or another archive is in its place


class Import(msgspec.Struct, frozen=True):
    key: AssetKey
    maker: Maker
    path: str
    """Where it was found."""
    taken: Taken
    size: int
    reason: str = ""
    """Of `refused`, one line."""


class Importer:
    """One archive at a time, beside the worker: an import waits only for a job of the same asset."""

    def __init__(self, archive_folder: ArchiveFolder, jobs: Jobs, current: Current, clock: Clock) -> None:
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._current = current
        self._clock = clock
        self._turn = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)

    async def find(self, folder: str) -> list[Found]:
        """The archives in a folder (empty: the archive folder itself). UnreadableError."""
        path = folder or self._archive_folder.path

        def find() -> list[Found]:
            if not os.path.isdir(path):
                raise UnreadableError(f"{path} is not a folder that the daemon can read", hint="name an archive folder")
            return list(find_archives(path, _passed_over))

        return await self._run(find)

    async def find_one(self, wanted: str | AssetKey) -> Found:
        """The archive that a file is, or that lies in the place of an asset's own. UnreadableError."""
        if isinstance(wanted, str):
            return await self._run(lambda: find_archive(wanted))
        place = Place(self._archive_folder.path, wanted)
        found = await self._run(lambda: found_at(place))
        if found is None:
            raise UnreadableError(
                f"there is no archive of {wanted.registry_path} to import: {place.archive} is not there",
                hint="name the folder or the .tgz where it lies",
            )
        return found

    async def take(
        self, found: Found, requester: Requester, *, by_name: bool = False, on_progress: OnProgress = no_progress
    ) -> Import:
        """Take one archive into the archive folder and the database. Never raises for what is wrong with it.

        What would refuse each further one as well is raised: StateError, ShortageError, and WriteError or NoSpaceError
        when the archive folder takes nothing at all.
        `by_name`: somebody asked for this very one, so that it is taken also when a user removed it.
        Between two archives a cancellation leaves nothing half done; within one nothing is left of it.
        """
        async with self._turn:
            try:
                with self._jobs.reserved(found.key):
                    await self._jobs.at_rest(found.key)
                    return await self._take(found, requester, on_progress, by_name=by_name)
            except (StateError, ShortageError):
                raise
            except RefgeniedError as error:
                if not error.permanent:
                    await self._run(self._archive_folder.probe)
                log.warning("archive.not_imported", path=str(found.archive), reason=error.message)
                return self._told(found, Taken.REFUSED, reason=error.message)

    async def _take(self, found: Found, requester: Requester, on_progress: OnProgress, *, by_name: bool) -> Import:
        async with self._jobs.store.transaction() as tx:
            record = await archives.get(tx, found.key)
        place = Place(self._archive_folder.path, found.key)
        there = await self._run(lambda: reconcile(place, check_cancelled))
        removed = None if by_name else await self._run(lambda: _removed(found, there))
        if removed is not None:
            await self._forget(Removal(found.key, removed.stamp, removed.at, removed.by))
            return self._told(found, Taken.REMOVED)
        manifest = there.manifest
        if manifest is not None and record is not None and record.digest == manifest.digest and not manifest.removed:
            return self._told(found, Taken.KNOWN)
        why_not = _why_not(found, place, there)
        if why_not:
            return self._told(found, Taken.REFUSED, reason=why_not)
        if there.presence is Presence.REMOVED and place.archive.exists():
            await self._bring_back(found, place, requester, on_progress)
        elif there.presence is Presence.PRESENT and manifest is not None:
            record = await self._run(lambda: recorded(place, manifest))
            with anyio.CancelScope(shield=True):
                async with self._archive_folder.changing(found.key, self._jobs.store) as generation:
                    await self._record(found, record, requester, generation)
        else:
            await self._bring(found, place, requester, on_progress)
        return self._told(found, Taken.IMPORTED)

    async def _bring(self, found: Found, place: Place, requester: Requester, on_progress: OnProgress) -> None:
        def bring() -> tuple[Draft, ArchiveRecord]:
            draft = self._draft(found, place, requester, on_progress)
            return draft, recorded(place, draft.manifest, self._clock(), listing=place.entries_partial.name)

        draft, record = await self._run(bring)
        with anyio.CancelScope(shield=True):
            try:
                async with self._archive_folder.changing(found.key, self._jobs.store) as generation:
                    for aside in await self._run(lambda: ServedNames(place).keep_foreign(draft.manifest)):
                        log.warning("archive.set_aside", asset=found.key.registry_path, path=str(aside))
                    await self._run(draft.publish)
                    await self._record(found, record, requester, generation)
            except BaseException:
                await self._run(draft.discard)
                raise

    async def _bring_back(self, found: Found, place: Place, requester: Requester, on_progress: OnProgress) -> None:
        """A user removed it, and another wants it again: its file is still there, and is proved first."""

        def proved_access() -> Access | None:
            manifest = manifest_at(place)
            prove(place.archive, manifest, Run(self._threads, check_cancelled, on_progress))
            return recorded(place, manifest).access

        access = await self._run(proved_access)
        with anyio.CancelScope(shield=True):
            async with self._archive_folder.changing(found.key, self._jobs.store) as generation:
                # First the manifest: after a crash the next start reads it, and the database follows.
                manifest = await self._run(lambda: bring_back(place))
                record = msgspec.structs.replace(manifest.record(place.relative, self._clock()), access=access)
                await self._record(found, record, requester, generation)

    @property
    def _threads(self) -> int:
        return self._current.settings.archive.threads

    def _draft(self, found: Found, place: Place, requester: Requester, on_progress: OnProgress) -> Draft:
        if found.maker is Maker.REFGENIED:
            return take_ours(
                _source(found), place, threads=self._threads, on_progress=on_progress, check=check_cancelled
            )
        about = msgspec.structs.replace(found.about, requested_by=requester.name)
        return take_foreign(
            found.archive, place, about, digest=found.digest, on_progress=on_progress, check=check_cancelled
        )

    async def _record(self, found: Found, record: ArchiveRecord, requester: Requester, generation: int) -> None:
        async with self._jobs.change() as change:
            await archives.put(change.tx, record)
            await archives.put_generation(change.tx, generation)
            await change.log(
                "archive.imported",
                record.key,
                by=requester.name,
                maker=found.maker,
                digest=record.digest,
                size=record.size,
            )

    async def _forget(self, removal: Removal) -> None:
        async with (
            self._archive_folder.changing(removal.key, self._jobs.store) as generation,
            self._jobs.store.transaction() as tx,
        ):
            await archives.put_generation(tx, generation)
            if await archives.get(tx, removal.key) is None:
                await archives.put_removal(tx, removal)

    def _told(self, found: Found, taken: Taken, reason: str = "") -> Import:
        try:
            size = found.archive.stat().st_size
        except OSError:
            size = 0
        return Import(found.key, found.maker, str(found.archive), taken, size, reason)

    async def _run(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)


def _passed_over(error: OSError) -> None:
    log.warning("archive.folder_unreadable", path=error.filename, error=error.strerror)


def _removed(found: Found, there: Reconciled) -> Removed | None:
    """The mark of a user who removed the archive, here or where it was found."""
    if there.presence is Presence.REMOVED and there.manifest is not None:
        return there.manifest.removed
    return manifest_at(_source(found)).removed if found.maker is Maker.REFGENIED else None


def _source(found: Found) -> Place:
    """Where an archive of ours was found."""
    return Place(found.archive.parents[3], found.key)


def _why_not(found: Found, place: Place, there: Reconciled) -> str:
    """Why an archive is not taken; empty when it is."""
    if there.presence is Presence.DAMAGED:
        return there.reason
    if not found.archive.exists():
        return f"its file is gone: {found.archive}"
    if there.presence in _THERE and place.archive.exists() and not _is_there(found, place):
        return f"another archive is in its place: {place.archive}"
    return ""


_THERE = frozenset({Presence.PRESENT, Presence.FOREIGN, Presence.REMOVED})


def _is_there(found: Found, place: Place) -> bool:
    """Whether the archive that was found is the one in place, by its own or another name. UnreadableError."""
    with reading(place.archive):
        return found.archive.exists() and place.archive.exists() and found.archive.samefile(place.archive)
