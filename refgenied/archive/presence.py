"""Finds the places in an archive folder, says what each holds, and brings one into order after a crash."""

import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

from refgenied.archive.format.arguments import path_of
from refgenied.archive.format.manifest import Manifest
from refgenied.archive.format.members import check_size, md5_of, require_size
from refgenied.archive.place import Place, manifest_at
from refgenied.archive.publisher import discard, finish
from refgenied.archive.run import Check, no_check
from refgenied.files.regular import is_shortage, opener, reading, unreadable
from refgenied.model import ArchiveNotFoundError, AssetKey, BadRegistryPathError, DamagedArchiveError

_READ_BYTES = 1 << 20

PassedOver = Callable[[OSError], None]
"""A function that is called for each folder that cannot be read and is left out (the error's `filename`)."""


class Presence(StrEnum):
    """What one place holds."""

    PRESENT = "present"  # an archive and its manifest that agree
    REMOVED = "removed"  # a user removed it; the manifest says so
    ABSENT = "absent"  # nothing, or only leftovers
    FOREIGN = "foreign"  # an archive without a manifest: made by another program
    DAMAGED = "damaged"  # the manifest cannot be read, or does not describe the archive


class Settled(msgspec.Struct, frozen=True):
    presence: Presence
    manifest: Manifest | None
    finished: bool
    """This call has finished a publish that a crash had interrupted."""
    reason: str = ""
    """One plain line for FOREIGN and DAMAGED; else empty."""


def settle(place: Place, check: Check = no_check) -> Settled:
    """Bring a place into order after a crash, and say what it holds. Without leftovers this takes two system calls.

    A crash interrupted a publish when the final manifest does not describe the archive, but the partial manifest does
    (by size and md5): then the publish is finished. Other leftovers are removed. WriteError, UnreadableError.
    """
    finished = False
    if any(map(os.path.lexists, place.partials)):
        finished = _finish_if_cut(place, check)
        discard(place)
    try:
        manifest = manifest_at(place)
    except ArchiveNotFoundError:
        if os.path.lexists(place.archive):
            return Settled(Presence.FOREIGN, None, finished, f"{place.archive} has no manifest beside it")
        return Settled(Presence.ABSENT, None, finished)
    except DamagedArchiveError as error:
        return Settled(Presence.DAMAGED, None, finished, error.message)
    if manifest.removed is not None:
        return Settled(Presence.REMOVED, manifest, finished)
    try:
        check_size(place.archive, manifest)
    except (ArchiveNotFoundError, DamagedArchiveError) as error:
        return Settled(Presence.DAMAGED, manifest, finished, error.message)
    return Settled(Presence.PRESENT, manifest, finished)


def _finish_if_cut(place: Place, check: Check) -> bool:
    if os.path.lexists(place.archive_partial):  # a publish renames the archive first, so it has renamed nothing yet
        return False
    try:
        manifest = manifest_at(place, place.manifest_partial)
        sidecar = manifest.entries_file
        if sidecar is not None:
            there = place.entries_partial if os.path.lexists(place.entries_partial) else place.entries
            _require_content(there, sidecar.size, sidecar.md5, check)
        _require_content(place.archive, manifest.size, manifest.digest, check)
    except (ArchiveNotFoundError, DamagedArchiveError):
        return False
    finish(place, manifest)
    return True


def _require_content(path: Path, size: int, digest: str, check: Check) -> None:
    """Check a file's size and md5. DamagedArchiveError, ArchiveNotFoundError, UnreadableError."""
    require_size(path, size)
    with reading(path), open(path, "rb", buffering=0, opener=opener) as file:
        md5, _ = md5_of(iter(lambda: file.read(_READ_BYTES), b""), check)
    if md5 != digest:
        raise DamagedArchiveError(f"{path} has the md5 {md5}, not {digest}")


def places(archive_folder: str | os.PathLike[str], passed_over: PassedOver | None = None) -> Iterator[Place]:
    """Every folder that may hold an archive of ours, in the order of names; streaming.

    Other things in the archive folder (refgenieserver's flat names, its config) are left out, and links are not
    followed. UnreadableError: the archive folder cannot be read, or, without `passed_over`, a folder below it.
    """
    for genome in _folders(path_of(archive_folder, "archive_folder")):
        for group in _folders(genome, passed_over):
            for asset in _folders(group, passed_over):
                try:
                    yield Place(archive_folder, AssetKey(genome.name, group.name, asset.name))
                except BadRegistryPathError:
                    continue


def _folders(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if passed_over is None or is_shortage(error):
            raise unreadable(folder, error) from error
        passed_over(error)
        return []
    return [folder / name for name in sorted(names)]
