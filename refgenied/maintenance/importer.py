"""Records archives that exist already: ours with the help of their manifests, others after reading them."""

import os
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog

from refgenied.archive.adopt import take_foreign, take_ours
from refgenied.archive.discover import Found, Maker, find_archive, find_archives, found_at
from refgenied.archive.format.manifest import Removed
from refgenied.archive.place import Place, manifest_at
from refgenied.archive.presence import Presence, Settled, settle
from refgenied.archive.prover import prove
from refgenied.archive.publisher import bring_back, record_of
from refgenied.archive.run import OnProgress, Run, no_progress
from refgenied.archive_folder.names import ServedNames
from refgenied.files.regular import reading
from refgenied.model import (
    ArchiveRecord,
    AssetKey,
    RefgeniedError,
    Removal,
    Requester,
    ShortageError,
    StateError,
    UnreadableError,
)
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("importer")

T = TypeVar("T")

MOST_FOUND = 100
"""So many archives are looked for at once."""


class Taken(StrEnum):
    """The result for one archive that was found."""

    IMPORTED = "imported"
    KNOWN = "known"  # the database has the same archive already
    REMOVED = "removed"  # its manifest says that a user removed it
    REFUSED = "refused"  # it is damaged or unsafe, or another archive is in its place


class Import(msgspec.Struct, frozen=True):
    key: AssetKey
    maker: Maker
    path: str
    """The path of the file that was found."""
    taken: Taken
    size: int
    reason: str = ""
    """Why it was refused, in one line."""


class _Prepared(NamedTuple):
    """An archive that was read and proved, and that nobody sees yet."""

    publish: Callable[[], ArchiveRecord]
    discard: Callable[[], None] = lambda: None


class Importer:
    """Takes one archive at a time, while the worker goes on. An import waits only for a job of the same asset."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._turn = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)

    async def find(self, folder: str) -> AsyncGenerator[Found]:
        """The archives in a folder (empty: the archive folder itself); few are in memory at one time. UnreadableError.

        Those that were given may be taken before the others are looked for.
        """
        path = folder or self._core.archive_folder.path
        if not await self._run(lambda: os.path.isdir(path)):
            raise UnreadableError(f"{path} is not a folder that the daemon can read", hint="name an archive folder")
        looks = find_archives(path, log_unreadable_folder)
        while batch := await self._run(lambda: list(islice(looks, MOST_FOUND))):
            for found in batch:
                yield found

    async def find_one(self, wanted: str | AssetKey) -> Found:
        """The archive in this file, or at the place of this asset. UnreadableError."""
        if isinstance(wanted, str):
            return await self._run(lambda: find_archive(wanted))
        place = self._core.archive_folder.place(wanted)
        found = await self._run(lambda: found_at(place))
        if found is None:
            raise UnreadableError(
                f"there is no archive of {wanted.registry_path} to import: {place.archive} is not there",
                hint="name the .tgz, or the folder in which it is",
            )
        return found

    async def take(
        self, found: Found, requester: Requester, *, by_name: bool = False, on_progress: OnProgress = no_progress
    ) -> Import:
        """Take one archive into the archive folder and the database. The answer says what is wrong with the archive.

        Errors that would also stop the next archives are raised: StateError, ShortageError, and WriteError or
        NoSpaceError when the archive folder takes no writes.
        `by_name`: somebody asked for this very archive, so it is taken even if a user has removed it.
        After a cancellation nothing of the current archive is left.
        """
        async with self._turn:
            try:
                with self._core.jobs.reserved(found.key):
                    await self._core.jobs.at_rest(found.key)
                    run = self._core.archive_run(on_progress)
                    taken, reason = await self._take(found, requester, run, by_name=by_name)
            except (StateError, ShortageError):
                raise
            except RefgeniedError as error:
                if not error.permanent:
                    await self._run(self._core.archive_folder.probe)
                log.warning("archive.not_imported", path=str(found.archive), reason=error.message)
                taken, reason = Taken.REFUSED, error.message
        return Import(found.key, found.maker, str(found.archive), taken, _size(found.archive), reason)

    async def _take(self, found: Found, requester: Requester, run: Run, *, by_name: bool) -> tuple[Taken, str]:
        """The result, and why the archive was refused."""
        record = await self._core.jobs.store.ask(archives.get, found.key)
        place = self._core.archive_folder.place(found.key)
        there = await self._run(lambda: settle(place, run.check))
        removed = None if by_name else await self._run(lambda: _removed(found, there))
        if removed is not None:
            await self._forget(Removal(found.key, removed.stamp, removed.at, removed.by))
            return Taken.REMOVED, ""
        manifest = there.manifest
        if manifest is not None and record is not None and record.digest == manifest.digest and not manifest.removed:
            return Taken.KNOWN, ""
        why_not = _why_not(found, place, there)
        if why_not:
            return Taken.REFUSED, why_not
        prepared = await self._run(lambda: self._prepared(found, place, there, requester, run))
        await self._publish(found, requester, prepared)
        return Taken.IMPORTED, ""

    def _prepared(self, found: Found, place: Place, there: Settled, requester: Requester, run: Run) -> _Prepared:
        """Do the long part: read and prove the archive. Blocking."""
        clock = self._core.clock
        if there.presence is Presence.REMOVED and place.archive.exists():
            # A user has removed it, and another user wants it again. Its file still exists.
            manifest = manifest_at(place)
            prove(place.archive, manifest, run)
            access = record_of(place, manifest).access

            def publish_again() -> ArchiveRecord:
                # The manifest is changed first: after a crash the next start reads it and corrects the database.
                return msgspec.structs.replace(bring_back(place).record(place.relative, clock()), access=access)

            return _Prepared(publish_again)
        if there.presence is Presence.PRESENT and there.manifest is not None:
            there_already = record_of(place, there.manifest)
            return _Prepared(lambda: there_already)
        if found.maker is Maker.REFGENIED:
            draft = take_ours(_source(found), place, run)
        else:
            about = msgspec.structs.replace(found.about, requested_by=requester.name)
            draft = take_foreign(found.archive, place, about, run, digest=found.digest)
        record = record_of(place, draft.manifest, clock(), listing=place.entries_partial.name)

        def publish() -> ArchiveRecord:
            for aside in ServedNames(place).keep_foreign(draft.manifest):
                log.warning("archive.set_aside", asset=found.key.registry_path, path=str(aside))
            draft.publish()
            return record

        return _Prepared(publish, draft.discard)

    async def _publish(self, found: Found, requester: Requester, prepared: _Prepared) -> None:
        """Publish the archive and record it. Nothing may happen between the two."""
        with anyio.CancelScope(shield=True):
            try:
                async with self._core.archive_folder.changing(found.key, self._core.jobs.store) as generation:
                    record = await self._run(prepared.publish)
                    await self._core.jobs.records.imported(record, requester, generation, maker=found.maker)
            except BaseException:
                await self._run(prepared.discard)
                raise

    async def _forget(self, removal: Removal) -> None:
        async with self._core.archive_folder.changing(removal.key, self._core.jobs.store) as generation:
            await self._core.jobs.records.removed_elsewhere(removal, generation)

    async def _run(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)


def log_unreadable_folder(error: OSError) -> None:
    log.warning("archive.folder_unreadable", path=error.filename, error=error.strerror)


def _size(archive: Path) -> int:
    try:
        return archive.stat().st_size
    except OSError:
        return 0


def _removed(found: Found, there: Settled) -> Removed | None:
    """The mark of a user who removed the archive, here or where it was found."""
    if there.presence is Presence.REMOVED and there.manifest is not None:
        return there.manifest.removed
    return manifest_at(_source(found)).removed if found.maker is Maker.REFGENIED else None


def _source(found: Found) -> Place:
    """The place where an archive of ours was found."""
    return Place(found.archive.parents[3], found.key)


def _why_not(found: Found, place: Place, there: Settled) -> str:
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
    """Whether the found file is the archive in place, under this or another name. UnreadableError."""
    with reading(place.archive):
        return found.archive.exists() and place.archive.exists() and found.archive.samefile(place.archive)
