"""Publishes archives (gives files their final names, durably), removes them, and decides who may read them."""

import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from refgenied.archive.format.entries import access_to_all
from refgenied.archive.format.manifest import Manifest, Removed, encode, entries_of, read_manifest
from refgenied.archive.place import Place, manifest_at
from refgenied.files.durable import allow, sync_folder, write_new, writing
from refgenied.files.regular import reading
from refgenied.model import Access, ArchiveRecord, RefgeniedError, WriteError


class Draft:
    """A proved archive under its partial names: all of it is on the disk, and nobody sees it yet."""

    def __init__(self, place: Place, manifest: Manifest) -> None:
        self.place = place
        self.manifest = manifest

    def publish(self) -> None:
        """Make the archive appear. WriteError: `settle` tells what the place holds then."""
        finish(self.place, self.manifest)

    def discard(self) -> None:
        """Remove the partial files, and the folders that are empty then.

        This is harmless after `publish`. After a `publish` that failed it removes nothing once the archive has its
        final name, because only the partial manifest describes the archive then.
        """
        if os.path.lexists(self.place.archive_partial):
            discard(self.place)


# --------------------------------------------------------------------- before a publish


@contextmanager
def drafting(place: Place, access: Access | None = None) -> Generator[None]:
    """A context in which partial files are written. After an error none of them is left. Errors as `make_folders`."""
    make_folders(place, access)
    try:
        discard(place, folders=False)
        yield
    except BaseException:
        with suppress(WriteError):  # the caller needs the first error; `settle` removes the rest later
            discard(place)
        raise


def make_folders(place: Place, access: Access | None = None) -> None:
    """Make the asset's folder in the archive folder, and the missing folders above it, each of them durably.

    `access` decides who may enter the asset's folder; None: its rights stay as they are. WriteError: a folder cannot be
    made, one of these folders is a link (it would lead out of the archive folder), or a folder has the name of one of
    the files. All this is found here, before hours of packing.
    """
    for folder in (place.folder.parent, place.folder):
        if folder.is_relative_to(place.archive_folder) and folder != place.archive_folder and folder.is_symlink():
            raise WriteError(f"{folder} is a link: archives are not written through it", hint="move it away")
    for path in (*place.partials, place.archive, place.entries, place.manifest):
        if path.is_dir() and not path.is_symlink():  # a rename cannot replace it, and it may hold anything
            raise WriteError(f"{path} is a folder where a file must go", hint="move it away")
    with writing(place.folder):
        for _ in range(3):  # the `discard` of another asset may remove an empty folder that we need
            with suppress(FileNotFoundError):
                _make(place.folder)
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


def write_manifest_partial(place: Place, manifest: Manifest) -> Manifest:
    """Write the manifest under its partial name, durably. Returns the manifest as it was read back.

    An older partial manifest is replaced. The people who may read the archive may read it. WriteError, NoSpaceError.
    """
    with writing(place.manifest_partial):
        mode = _mode_of(place.archive_partial) or _mode_of(place.archive) or 0o644
        write_new(place.manifest_partial, encode(manifest), mode)
    return read_manifest(place.manifest_partial)


def _mode_of(path: Path) -> int:
    """The bits that say who may read and write a file; 0 when there is no file."""
    try:
        return stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode) & 0o666
    except OSError:
        return 0


# --------------------------------------------------------------------- publishing


def finish(place: Place, manifest: Manifest) -> None:
    """Do the steps of publishing, beginning with the first that is not done yet. WriteError.

    The archive is renamed first. From then on only the partial manifest describes it, so `settle` can finish. The
    folder is synced before the manifest is renamed: a power cut may keep the later of two renames and lose the earlier
    one, and a manifest must not describe an archive that has no name yet.
    """
    for step in _STEPS:
        step(place, manifest)


def publish_together(drafts: Sequence[Draft]) -> list[Exception | None]:
    """Publish several drafts, all of them step by step, so the disk can do their syncs at once.

    Returns the error of each, or None; an error of one does not touch the others.
    """
    errors: list[Exception | None] = [None] * len(drafts)
    for step in _STEPS:
        for number, draft in enumerate(drafts):
            if errors[number] is None:
                try:
                    step(draft.place, draft.manifest)
                except Exception as error:  # noqa: BLE001 - the caller gets it
                    errors[number] = error
    return errors


def _name_archive(place: Place, manifest: Manifest) -> None:
    with writing(place.archive):
        _rename(place.archive_partial, place.archive)
        if manifest.entries_file is not None:
            _rename(place.entries_partial, place.entries)


def _name_manifest(place: Place, manifest: Manifest) -> None:
    with writing(place.manifest):
        _rename(place.manifest_partial, place.manifest)
        if manifest.entries_file is None:
            place.entries.unlink(missing_ok=True)


def _sync(place: Place, _: Manifest) -> None:
    with writing(place.archive):
        sync_folder(place.folder)


_STEPS = (_name_archive, _sync, _name_manifest, _sync)


def _rename(partial: Path, final: Path) -> None:
    """Rename a file. When both names belong to one file, `rename` does nothing: then remove the partial name."""
    try:
        if os.path.lexists(final) and partial.samefile(final):
            partial.unlink()
        else:
            partial.rename(final)
    except FileNotFoundError:
        if os.path.lexists(partial):
            raise


def replace_manifest(place: Place, manifest: Manifest) -> Manifest:
    """Replace a manifest in one step, durably and with the same mode. Returns the new manifest as it was read back.

    The caller has reserved the asset, or runs its job. WriteError, NoSpaceError.
    """
    written = write_manifest_partial(place, manifest)
    with writing(place.manifest):
        place.manifest_partial.chmod(stat.S_IMODE(place.manifest.stat().st_mode))
        _rename(place.manifest_partial, place.manifest)
        sync_folder(place.folder)
    return written


# --------------------------------------------------------------------- taking away


def discard(place: Place, *, folders: bool = True) -> None:
    """Remove the partial files, and with `folders` the empty folders up to the archive folder too."""
    for partial in place.partials:
        with writing(partial):
            partial.unlink(missing_ok=True)
    folder = place.folder
    with suppress(OSError):  # usually the folder is not empty, and stays
        while folders and folder != place.archive_folder:
            folder.rmdir()
            folder = folder.parent


def remove(place: Place, *, at: float, by: str, stamp: str, delete_file: bool) -> Manifest:
    """Mark the manifest as removed, durably, and with `delete_file` delete the archive itself.

    `at` in Unix seconds. The manifest stays: a database that is rebuilt from the folder must know of the removal.
    A second call is harmless; the first mark stays. ArchiveNotFoundError (there is no manifest), DamagedArchiveError,
    WriteError.
    """
    manifest = read_manifest(place.manifest)
    if manifest.removed is None:
        manifest = replace_manifest(place, msgspec.structs.replace(manifest, removed=Removed(at, by, stamp)))
    if delete_file:
        with writing(place.archive):
            place.archive.unlink(missing_ok=True)
            place.entries.unlink(missing_ok=True)
            sync_folder(place.folder)
    return manifest


def bring_back(place: Place) -> Manifest:
    """Undo `remove` while the archive's file exists: take the mark from the manifest, durably.

    A second call is harmless. ArchiveNotFoundError (there is no manifest), DamagedArchiveError, WriteError.
    """
    manifest = read_manifest(place.manifest)
    if manifest.removed is None:
        return manifest
    return replace_manifest(place, msgspec.structs.replace(manifest, removed=None))


# --------------------------------------------------------------------- who may read


def access_inside(place: Place) -> Access:
    """Who could read all the files when they were packed, as the archive's list of members says.

    The list is streamed. ArchiveNotFoundError, DamagedArchiveError, UnreadableError.
    """
    return access_to_all(entries_of(manifest_at(place), place.folder))


def record_of(
    place: Place, manifest: Manifest, proved_at: float | None = None, *, listing: str | None = None
) -> ArchiveRecord:
    """`Manifest.record` with the `access` of the asset, also when a separate file lists its members.

    `listing`: the name of that file, when it does not have its final name yet. `access` is None when the file cannot be
    read.
    """
    record = manifest.record(place.relative, proved_at)
    if record.access is None and manifest.entries_file is not None:
        with suppress(RefgeniedError):
            access = access_to_all(entries_of(manifest, place.folder, listing))
            return msgspec.structs.replace(record, access=access)
    return record


def access_of_archive(place: Place) -> Access:
    """Who may read the archive's file. UnreadableError."""
    with reading(place.archive):
        return Access.of(stat.S_IMODE(os.stat(place.archive).st_mode), folder=False)


def give_access(place: Place, access: Access) -> bool:
    """Let only these people read the archive, its manifest and its folder. Returns whether any rights changed."""
    changed = False
    with writing(place.archive):
        for path in (place.archive, place.manifest, place.entries):
            if os.path.lexists(path):
                changed |= allow(path, access.file_mode)
        if place.folder != place.archive_folder:
            changed |= allow(place.folder, access.folder_mode)
    return changed
