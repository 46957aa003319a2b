"""Publishing: make finished files appear under their final names, durably, and take them away again."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format.manifest import Manifest, Removed, encode, read_manifest
from refgenied.files.durable import NEW_FILE_FLAGS, allow, sync_folder, write_all, writing
from refgenied.model import WriteError

if TYPE_CHECKING:
    from pathlib import Path

    from refgenied.archive.place import Place
    from refgenied.model import Access


class Draft:
    """A proved archive under its partial names: all is on the disk, and nobody sees it yet."""

    def __init__(self, place: Place, manifest: Manifest) -> None:
        self.place = place
        self.manifest = manifest

    def publish(self) -> None:
        """Make the archive appear. WriteError; after one, `reconcile` tells what is there."""
        finish(self.place, self.manifest)

    def discard(self) -> None:
        """Remove the partial files, and folders that are empty then. Harmless after `publish`, also after one that
        failed: once the archive has its final name the partial manifest is all that describes it.
        """
        if os.path.lexists(self.place.archive_partial):
            discard(self.place)


def make_folders(place: Place, access: Access | None = None) -> None:
    """The asset's folder in the archive folder, and what is missing above it, each entered durably in its
    parent. `access` decides who may enter the asset's folder; None: that stays as it is.

    WriteError, also when a link stands there: it would lead out of the archive folder; and when a folder is where a
    file must go: that is found here, before hours of packing.
    """
    for folder in (place.folder.parent, place.folder):
        if folder.is_relative_to(place.archive_folder) and folder != place.archive_folder and folder.is_symlink():
            raise WriteError(f"{folder} is a link: archives are not written through it", hint="move it away")
    for path in (*place.partials, place.archive, place.entries, place.manifest):
        if path.is_dir() and not path.is_symlink():  # a file cannot take its place, and it may hold anything
            raise WriteError(f"{path} is a folder where a file must go", hint="move it away")
    with writing(place.folder):
        for _ in range(3):  # a neighbour's `discard` may take an empty folder away under our feet
            try:
                _make(place.folder)
            except FileNotFoundError:
                continue
            break
        else:
            _make(place.folder)
        if access is not None and place.folder != place.archive_folder:
            allow(place.folder, access.folder_mode)


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_manifest_partial(place: Place, manifest: Manifest) -> None:
    """On the disk, under its partial name, in place of one that may be left there; whoever may read the archive may
    read it.
    """
    with writing(place.manifest_partial):
        mode = _mode_of(place.archive_partial) or _mode_of(place.archive) or 0o644
        place.manifest_partial.unlink(missing_ok=True)
        fd = os.open(place.manifest_partial, NEW_FILE_FLAGS, mode)
        try:
            write_all(fd, encode(manifest))
            os.fsync(fd)
        finally:
            os.close(fd)


def _mode_of(path: Path) -> int:
    """Who may read and write a file; 0 without one."""
    try:
        return stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode) & 0o666
    except OSError:
        return 0


def replace_manifest(place: Place, manifest: Manifest) -> Manifest:
    """Put it in place of the one that is there, in one step, durably and with the same mode; as it was read back.

    The caller has reserved the asset, or runs its job. WriteError, NoSpaceError.
    """
    write_manifest_partial(place, manifest)
    with writing(place.manifest):
        place.manifest_partial.chmod(stat.S_IMODE(place.manifest.stat().st_mode))
        _rename(place.manifest_partial, place.manifest)
        sync_folder(place.folder)
    return read_manifest(place.manifest)


def finish(place: Place, manifest: Manifest) -> None:
    """The steps of publishing, from whichever is the first not done yet.

    The archive goes first: from then on only the partial manifest describes it, and `reconcile` finds that
    out.
    """
    with writing(place.archive):
        _rename(place.archive_partial, place.archive)
        _rename(place.entries_partial, place.entries)
        _rename(place.manifest_partial, place.manifest)
        if manifest.entries_file is None:
            place.entries.unlink(missing_ok=True)
        sync_folder(place.folder)


def _rename(partial: Path, final: Path) -> None:
    """Renaming onto another link of the same file does nothing and would leave the partial name."""
    try:
        if os.path.lexists(final) and partial.samefile(final):
            partial.unlink()
        else:
            partial.rename(final)
    except FileNotFoundError:
        if os.path.lexists(partial):
            raise


def discard(place: Place, *, folders: bool = True) -> None:
    """Remove partial files, and folders up to the archive folder that are empty."""
    for partial in place.partials:
        with writing(partial):
            partial.unlink(missing_ok=True)
    if folders:
        _remove_empty(place)


def _remove_empty(place: Place) -> None:
    folder = place.folder
    while folder != place.archive_folder:
        try:
            folder.rmdir()
        except OSError:  # not empty, which is the usual case
            return
        folder = folder.parent


def remove(place: Place, *, at: float, by: str, stamp: str, delete_file: bool) -> Manifest:
    """Mark the manifest as removed, durably, and with `delete_file` take the archive itself away.

    `at` in Unix seconds. The manifest stays, so that a database made anew from the folder knows of it.
    Repeating it is harmless; the first mark stays. ArchiveNotFoundError without a manifest,
    DamagedArchiveError, WriteError.
    """
    manifest = read_manifest(place.manifest)
    if manifest.removed is None:
        manifest = msgspec.structs.replace(manifest, removed=Removed(at, by, stamp))
        manifest = replace_manifest(place, manifest)
    if delete_file:
        with writing(place.archive):
            place.archive.unlink(missing_ok=True)
            place.entries.unlink(missing_ok=True)
            sync_folder(place.folder)
    return manifest


def bring_back(place: Place) -> Manifest:
    """Undo `remove`, as far as the archive's file is there: take the mark from the manifest, durably.

    Repeating it is harmless. ArchiveNotFoundError without a manifest, DamagedArchiveError, WriteError.
    """
    manifest = read_manifest(place.manifest)
    if manifest.removed is None:
        return manifest
    return replace_manifest(place, msgspec.structs.replace(manifest, removed=None))
