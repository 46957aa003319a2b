"""Clears away what killed processes have left in the archive folder, and takes in archives that nobody recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import Found, Maker, Place, Run, manifest_at, prove, reconcile
from refgenied.archive.format.manifest import About
from refgenied.archive.publisher import discard
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.archive_folder.leftovers import Leftovers, find_leftovers, size_of
from refgenied.files.regular import identity
from refgenied.health import Health
from refgenied.maintenance.importer import Importer, Taken
from refgenied.model import AssetKey, BusyError, DamagedArchiveError, RefgeniedError, Requester, StateError
from refgenied.queue.jobs import Jobs
from refgenied.store import archives

log = structlog.get_logger("tidier")

DAY = 86_400.0
AGAIN_SECONDS = 600.0
"""While something is there that a person must look at, or the folder was away."""
MOST_NAMED = 3

Files = tuple[tuple[int, ...], ...]
"""Identities of an archive's files."""

_GENOME = re.compile(r"[\w-]{32,64}")
"""What may be a genome's digest."""


class Tidied(msgspec.Struct):
    """What one round did."""

    files: int = 0
    bytes: int = 0
    """Of them."""
    adopted: int = 0
    """Archives that were whole and not recorded."""
    refused: list[str] = []
    """Those that are not whole: one line each."""
    unreadable: list[str] = []
    """Folders that cannot be looked into: one line each."""


class Tidier:
    """At start and daily. It never touches what belongs to an asset whose job runs, or that somebody has reserved."""

    def __init__(self, archive_folder: ArchiveFolder, jobs: Jobs, importer: Importer, health: Health) -> None:
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._importer = importer
        self._health = health
        self._damaged: dict[AssetKey, tuple[Files, str]] = {}
        """Archives that were not whole, as they were when all of each was read; and what was wrong."""

    async def run(self) -> None:
        """Tidy now and daily. Ends only by cancellation."""
        while True:
            wait = AGAIN_SECONDS
            try:
                tidied = await self.tidy()
                if tidied is not None and not tidied.refused and not tidied.unreadable:
                    wait = DAY
            except (StateError, RefgeniedError) as error:
                log.warning("tidy.failed", error=error.message)
            except Exception:  # whatever lies there: nothing else depends on a tidy folder
                log.exception("tidy.failed")
            await anyio.sleep(wait)

    async def tidy(self) -> Tidied | None:
        """One walk over the archive folder, and what follows from it; None when the folder is away."""
        path = self._archive_folder.path
        if not path or await anyio.to_thread.run_sync(self._archive_folder.problem):
            return None
        tidied = Tidied()

        def pass_over(error: OSError) -> None:
            if _GENOME.fullmatch(Path(error.filename).relative_to(path).parts[0]):  # not lost+found
                tidied.unreadable.append(f"{error.filename}: {error.strerror}")

        found = await anyio.to_thread.run_sync(find_leftovers, path, pass_over)
        for place in found.unfinished:
            with suppress(BusyError):  # it is being imported or removed
                if await self._clear(place, tidied):
                    found.archives.append(place)
        async with self._archive_folder.publishing:
            await anyio.to_thread.run_sync(_delete, found.files, tidied)
        await self._adopt(found, tidied)
        if tidied.files or tidied.adopted:
            log.info("tidy.done", files=tidied.files, bytes=tidied.bytes, adopted=tidied.adopted)
        self._health.note("unrecorded", _told(tidied.refused))
        self._health.note("unreadable", _told_unreadable(tidied.unreadable))
        return tidied

    async def _clear(self, place: Place, tidied: Tidied) -> bool:
        """An asset's partial files, when nobody works on it: a publish that was cut is finished, all else goes.

        Whether a publish was finished.
        """
        with self._jobs.reserved(place.key):
            if await self._jobs.runs(place.key):
                return False
            try:
                return await anyio.to_thread.run_sync(_clear, place, tidied)
            except RefgeniedError as error:
                log.warning("tidy.stays", asset=place.key.registry_path, error=error.message)
                return False

    async def _adopt(self, found: Leftovers, tidied: Tidied) -> None:
        """Archives with a manifest of ours that the database does not know, neither as removed."""
        async with self._jobs.store.transaction() as tx:
            known = {*await archives.everything(tx), *await archives.removals(tx)}
        for place in found.archives:
            if place.key not in known:
                await self._adopt_one(place, tidied)

    async def _adopt_one(self, place: Place, tidied: Tidied) -> None:
        found = Found(Maker.REFGENIED, place.archive, place.key, About(created_at=0.0), None)
        try:
            if not await self._is_whole(place):
                return
            taken = await self._importer.take(found, Requester())
        except RefgeniedError as error:
            tidied.refused.append(error.message)
            return
        if taken.taken is Taken.IMPORTED:
            tidied.adopted += 1
            log.info("tidy.adopted", asset=place.key.registry_path, path=str(place.archive))
        elif taken.taken is Taken.REFUSED:
            tidied.refused.append(taken.reason)

    async def _is_whole(self, place: Place) -> bool:
        """As `_is_whole` below. An archive that was not whole is read again only when it is another file by now."""
        files = await anyio.to_thread.run_sync(_files, place)
        then, problem = self._damaged.get(place.key, (None, ""))
        if then == files:
            raise DamagedArchiveError(problem)
        try:
            return await anyio.to_thread.run_sync(_is_whole, place)
        except DamagedArchiveError as error:
            self._damaged[place.key] = files, error.message
            raise


# ----------------------------------------------------------------- blocking


def _clear(place: Place, tidied: Tidied) -> bool:
    partials = [path for path in place.partials if path.is_symlink() or path.exists()]
    size = size_of(partials)
    found = reconcile(place)
    discard(place)  # also a folder with nothing in it
    if found.finished:
        log.info("archive.reconciled", asset=place.key.registry_path, found=found.presence, finished=True)
        return True
    tidied.files += len(partials)
    tidied.bytes += size
    return False


def _delete(paths: Iterable[Path], tidied: Tidied) -> None:
    for path in paths:
        size = size_of([path])
        try:
            path.unlink()
        except FileNotFoundError:  # it was being written when it was found, and has its name now
            continue
        except OSError as error:
            log.warning("tidy.stays", path=str(path), error=error.strerror)
        else:
            tidied.files += 1
            tidied.bytes += size


def _is_whole(place: Place) -> bool:
    """Every byte of it is what its manifest says; False for one that a user removed. DamagedArchiveError and others."""
    manifest = manifest_at(place)
    if manifest.removed is None:
        prove(place.archive, manifest, Run(check=check_cancelled))
    return True


def _files(place: Place) -> Files:
    return tuple(map(identity, (place.archive, place.manifest, place.entries)))


def _told(refused: list[str]) -> str:
    if not refused:
        return ""
    them = "1 archive lies" if len(refused) == 1 else f"{len(refused)} archives lie"
    shown = "; ".join(refused[:MOST_NAMED]) + ("; …" if len(refused) > MOST_NAMED else "")
    return (
        f"{them} in the archive folder and not in the database: {shown}. Without its manifest (move that away) "
        "`refgeniectl archive import` reads such an archive itself"
    )


def _told_unreadable(folders: list[str]) -> str:
    if not folders:
        return ""
    shown = "; ".join(folders[:MOST_NAMED]) + ("; …" if len(folders) > MOST_NAMED else "")
    return f"nobody knows which archives are in here: {shown}. Let the daemon's user read it, or move it away"
