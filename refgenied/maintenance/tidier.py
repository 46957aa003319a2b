"""Deletes the leftovers of killed processes in the archive folder, and records archives that are not recorded."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive.place import Place, manifest_at
from refgenied.archive.presence import settle
from refgenied.archive.prover import prove
from refgenied.archive.publisher import discard
from refgenied.archive.run import Run
from refgenied.archive_folder.leftovers import Leftovers, find_leftovers, size_of
from refgenied.maintenance import DAY
from refgenied.maintenance.importer import Importer, Taken
from refgenied.maintenance.verifier import FileIdentities, files_of
from refgenied.model import AssetKey, BusyError, DamagedArchiveError, RefgeniedError, Requester
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("tidier")

UNTIDY_SECONDS = 600.0
"""Seconds to the next round, if the last round has found a fault that a person must look at, or no folder."""
MOST_NAMED = 3

_GENOME = re.compile(r"[\w-]{32,64}")
"""Names that may be a genome's digest."""


class Tidied(msgspec.Struct):
    """The result of one round."""

    files: int = 0
    bytes: int = 0
    """The size of the deleted files."""
    adopted: int = 0
    """How many sound archives were not recorded before."""
    refused: list[str] = []
    """Archives that are not sound: one line each."""
    unreadable: list[str] = []
    """Folders that cannot be read: one line each."""


class Tidier:
    """Works at start and daily. It never touches the files of an asset that is reserved or whose job runs."""

    def __init__(self, core: Core, importer: Importer) -> None:
        self._core = core
        self._importer = importer
        self._damaged: dict[AssetKey, tuple[FileIdentities, str]] = {}
        """Archives that were not sound: their files when they were read completely, and what was wrong."""

    async def run(self) -> None:
        """Tidy now and daily. Ends only by cancellation."""
        while True:
            wait = UNTIDY_SECONDS
            try:
                tidied = await self.tidy()
                if tidied is not None and not tidied.refused and not tidied.unreadable:
                    wait = DAY
            except RefgeniedError as error:
                log.warning("tidy.failed", error=error.message)
            except Exception:  # no other part depends on a tidy folder
                log.exception("tidy.failed")
            await anyio.sleep(wait)

    async def tidy(self) -> Tidied | None:
        """Walk once over the archive folder and tidy it; None when the folder is missing."""
        path = self._core.archive_folder.path
        if not await self._core.archive_folder.usable():
            return None
        tidied = Tidied()

        def pass_over(error: OSError) -> None:
            if _GENOME.fullmatch(Path(error.filename).relative_to(path).parts[0]):  # skip lost+found
                tidied.unreadable.append(f"{error.filename}: {error.strerror}")

        parts = find_leftovers(path, pass_over)
        while (found := await anyio.to_thread.run_sync(next, parts, None)) is not None:
            await self._tidy_part(found, tidied)
        if tidied.files or tidied.adopted:
            log.info("tidy.done", files=tidied.files, bytes=tidied.bytes, adopted=tidied.adopted)
        self._core.health.note("unrecorded", _told(tidied.refused))
        self._core.health.note("unreadable", _told_unreadable(tidied.unreadable))
        return tidied

    async def _tidy_part(self, found: Leftovers, tidied: Tidied) -> None:
        finished = [place for place in found.unfinished if await self._finished(place, tidied)]
        async with self._core.archive_folder.publishing:
            await anyio.to_thread.run_sync(_delete, found.files, tidied)
        there = {place.key: place for place in (*found.archives, *finished)}
        records, removals = await self._core.jobs.store.ask(archives.known_of, there)
        for key, place in there.items():
            if key not in records and key not in removals:
                await self._adopt(place, tidied)

    async def _finished(self, place: Place, tidied: Tidied) -> bool:
        """Clear an asset's partial files, if nobody works on it. Returns whether this finished a publish."""
        with suppress(BusyError), self._core.jobs.reserved(place.key):  # busy: it is being imported or removed
            if await self._core.jobs.runs(place.key):
                return False
            try:
                return await anyio.to_thread.run_sync(_clear, place, tidied)
            except RefgeniedError as error:
                log.warning("tidy.stays", asset=place.key.registry_path, error=error.message)
        return False

    async def _adopt(self, place: Place, tidied: Tidied) -> None:
        """Record an archive with a manifest of ours, if it is sound. If a user removed it, the removal is recorded."""
        try:
            await self._require_whole(place)
            found = await self._importer.find_one(place.key)
            taken = await self._importer.take(found, Requester())
        except RefgeniedError as error:
            tidied.refused.append(error.message)
            return
        if taken.taken is Taken.IMPORTED:
            tidied.adopted += 1
            log.info("tidy.adopted", asset=place.key.registry_path, path=str(place.archive))
        elif taken.taken is Taken.REFUSED:
            tidied.refused.append(taken.reason)

    async def _require_whole(self, place: Place) -> None:
        """Prove the archive. If it was not sound before, it is read again only if its files have changed.

        DamagedArchiveError, ArchiveNotFoundError, UnreadableError.
        """
        files = await anyio.to_thread.run_sync(files_of, place)
        then, problem = self._damaged.get(place.key, (None, ""))
        if then == files:
            raise DamagedArchiveError(problem)
        try:
            await anyio.to_thread.run_sync(_prove_unless_removed, place)
        except DamagedArchiveError as error:
            self._damaged[place.key] = files, error.message
            raise


# ----------------------------------------------------------------- blocking


def _clear(place: Place, tidied: Tidied) -> bool:
    partials = [path for path in place.partials if path.is_symlink() or path.exists()]
    size = size_of(partials)
    found = settle(place)
    discard(place)  # this removes empty folders too
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
        except FileNotFoundError:  # the walk met it while it was being written; it has its final name now
            continue
        except OSError as error:
            log.warning("tidy.stays", path=str(path), error=error.strerror)
        else:
            tidied.files += 1
            tidied.bytes += size


def _prove_unless_removed(place: Place) -> None:
    manifest = manifest_at(place)
    if manifest.removed is None:
        prove(place.archive, manifest, Run(check=check_cancelled))


def _told(refused: list[str]) -> str:
    if not refused:
        return ""
    them = "1 archive is" if len(refused) == 1 else f"{len(refused)} archives are"
    return (
        f"{them} in the archive folder and not in the database: {_first(refused)}. If you move the manifest of such "
        "an archive away, `refgeniectl archive import` reads the archive itself"
    )


def _told_unreadable(folders: list[str]) -> str:
    if not folders:
        return ""
    return (
        f"folders that cannot be read may have archives in them: {_first(folders)}. Let the daemon's user read them, "
        "or move them away"
    )


def _first(lines: Sequence[str]) -> str:
    return "; ".join(lines[:MOST_NAMED]) + ("; …" if len(lines) > MOST_NAMED else "")
