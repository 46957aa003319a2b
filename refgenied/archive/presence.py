"""What is really there: after a crash, for a database made anew, and whenever someone wants to know."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format.arguments import path_of
from refgenied.archive.format.manifest import Manifest, entries_of, read_manifest
from refgenied.archive.place import Place
from refgenied.archive.publisher import discard, finish
from refgenied.archive.run import Check, OnProgress, no_check, no_progress
from refgenied.archive.verifier import prove_all
from refgenied.files.regular import SHORTAGE_ERRNOS, opener, unreadable
from refgenied.model import (
    ArchiveNotFoundError,
    AssetKey,
    BadRegistryPathError,
    DamagedArchiveError,
    UnreadableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20


PassedOver = Callable[[OSError], None]
"""Is told of a folder (the error's `filename`) that cannot be read, and is left out."""


class Presence(StrEnum):
    """What one place holds."""

    PRESENT = "present"  # an archive and its manifest that agree
    REMOVED = "removed"  # a user removed it; the manifest says so
    ABSENT = "absent"  # nothing, or no more than leftovers
    FOREIGN = "foreign"  # an archive without a manifest: made by another program
    DAMAGED = "damaged"  # a manifest that cannot be read, or whose archive is not what it says


class Reconciled(msgspec.Struct, frozen=True):
    presence: Presence
    manifest: Manifest | None
    finished: bool
    """A publish that a crash had cut was finished now."""
    reason: str
    """One plain line for FOREIGN and DAMAGED; else empty."""


def reconcile(place: Place, check: Check = no_check) -> Reconciled:
    """Bring a place into order after a crash, and say what is there. Without leftovers this is two system
    calls.

    An archive that the final manifest does not describe, but the partial one does (by size and md5), is one
    whose publish was cut: it is finished. Other leftovers are removed. WriteError, UnreadableError.
    """
    finished = False
    if any(map(os.path.lexists, place.partials)):
        finished = _finish_if_cut(place, check)
        discard(place)
    try:
        manifest = manifest_at(place)
    except ArchiveNotFoundError:
        if os.path.lexists(place.archive):
            return Reconciled(Presence.FOREIGN, None, finished, f"{place.archive} has no manifest beside it")
        return Reconciled(Presence.ABSENT, None, finished, "")
    except DamagedArchiveError as error:
        return Reconciled(Presence.DAMAGED, None, finished, error.message)
    if manifest.removed is not None:
        return Reconciled(Presence.REMOVED, manifest, finished, "")
    try:
        check_archive(place, manifest)
    except (ArchiveNotFoundError, DamagedArchiveError) as error:
        return Reconciled(Presence.DAMAGED, manifest, finished, error.message)
    return Reconciled(Presence.PRESENT, manifest, finished, "")


def _finish_if_cut(place: Place, check: Check) -> bool:
    if os.path.lexists(place.archive_partial):  # the archive is what goes first: nothing was renamed
        return False
    try:
        manifest = manifest_at(place, place.manifest_partial)
        sidecar = manifest.entries_file
        if sidecar is not None:
            there = place.entries_partial if os.path.lexists(place.entries_partial) else place.entries
            _agree(there, sidecar.size, sidecar.md5, check)
        _agree(place.archive, manifest.size, manifest.digest, check)
    except (ArchiveNotFoundError, DamagedArchiveError):
        return False
    finish(place, manifest)
    return True


def manifest_at(place: Place, path: Path | None = None) -> Manifest:
    """The place's manifest (`path`: another file that should be it). Errors as `read_manifest`, and
    DamagedArchiveError when it describes another asset.
    """
    path = path or place.manifest
    manifest = read_manifest(path)
    if manifest.key != place.key:
        raise DamagedArchiveError(f"{path} describes another asset, {manifest.key.registry_path}")
    return manifest


def check_archive(
    place: Place,
    manifest: Manifest,
    *,
    deep: bool = False,
    members: bool = True,
    threads: int = 1,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> None:
    """Whether the archive is what its manifest says: it is there with its size, or with `deep` every byte
    of it.

    `members`: see `prove_all`. ArchiveNotFoundError, DamagedArchiveError (with the first bad member), UnreadableError.
    """
    _has_size(place.archive, manifest.size)
    if manifest.entries_file is not None:
        _has_size(place.entries, manifest.entries_file.size)
    if deep:
        prove_all(
            place.archive,
            manifest,
            lambda: entries_of(manifest, place.folder),
            members=members,
            threads=threads,
            on_progress=on_progress,
            check=check,
        )


def agrees(place: Place, manifest: Manifest, *, deep: bool = False, threads: int = 1, check: Check = no_check) -> bool:
    """`check_archive` as a question. UnreadableError."""
    try:
        check_archive(place, manifest, deep=deep, threads=threads, check=check)
    except (ArchiveNotFoundError, DamagedArchiveError):
        return False
    return True


def places(archive_folder: str | os.PathLike[str], passed_over: PassedOver | None = None) -> Iterator[Place]:
    """Every folder that may hold an archive of ours, by name; streaming. UnreadableError for the archive
    folder itself, and, without `passed_over`, for a folder below it.

    Other things in the archive folder (the server's flat names, its config) are passed over, and links are
    not followed.
    """
    for genome in _folders(path_of(archive_folder, "archive_folder")):
        for group in _folders(genome, passed_over):
            for asset in _folders(group, passed_over):
                try:
                    yield Place(archive_folder, AssetKey(genome.name, group.name, asset.name))
                except BadRegistryPathError:
                    continue


def manifests(
    archive_folder: str | os.PathLike[str],
) -> Iterator[tuple[Place, Manifest | DamagedArchiveError]]:
    """Every manifest in the archive folder, removed ones too, or what is wrong with it."""
    for place in places(archive_folder):
        try:
            yield place, manifest_at(place)
        except ArchiveNotFoundError:
            continue
        except DamagedArchiveError as error:
            yield place, error
        except UnreadableError as error:
            yield place, DamagedArchiveError(error.message, hint=error.hint)


def _folders(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if passed_over is None or error.errno in SHORTAGE_ERRNOS:
            raise unreadable(folder, error) from error
        passed_over(error)
        return []
    return [folder / name for name in sorted(names)]


def _has_size(path: Path, size: int) -> None:
    try:
        info = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(f"{path} is missing") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(info.st_mode) or info.st_size != size:
        raise DamagedArchiveError(f"{path} has {info.st_size} bytes, and its manifest says {size}")


def _agree(path: Path, size: int, digest: str, check: Check) -> None:
    """Size and md5."""
    _has_size(path, size)
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb", buffering=0, opener=opener) as file:
            while chunk := file.read(_CHUNK):
                check()
                md5.update(chunk)
    except OSError as error:
        raise unreadable(path, error) from error
    if md5.hexdigest() != digest:
        raise DamagedArchiveError(f"{path} has the md5 {md5.hexdigest()}, not {digest}")
