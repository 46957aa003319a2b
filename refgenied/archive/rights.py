"""Who may read an archive that is in place: its permission bits and those of what lies beside it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format.entries import access_to_all
from refgenied.archive.format.manifest import entries_of
from refgenied.archive.presence import manifest_at
from refgenied.files.durable import allow, writing
from refgenied.files.regular import reading
from refgenied.model import Access, ArchiveRecord, RefgeniedError

if TYPE_CHECKING:
    from refgenied.archive.format.manifest import Manifest
    from refgenied.archive.place import Place


def access_inside(place: Place) -> Access:
    """Who might read all that is in an archive where it was packed, as its list of members says.

    Streams. ArchiveNotFoundError, DamagedArchiveError, UnreadableError.
    """
    return access_to_all(entries_of(manifest_at(place), place.folder))


def recorded(place: Place, manifest: Manifest, proved_at: float | None = None, *, listing: str = "") -> ArchiveRecord:
    """`Manifest.record`, and who may read the asset also when its members are listed in a file beside the manifest.

    `listing`: that file's name, if it has not its final one yet. What cannot be read stays unknown.
    """
    record = manifest.record(place.relative, proved_at)
    if record.access is None and manifest.entries_file is not None:
        with suppress(RefgeniedError):
            access = access_to_all(entries_of(manifest, place.folder, listing or None))
            return msgspec.structs.replace(record, access=access)
    return record


def access_to(place: Place) -> Access:
    """Who may read the archive's file. UnreadableError."""
    with reading(place.archive):
        return Access.of(stat.S_IMODE(os.stat(place.archive).st_mode), folder=False)


def give(place: Place, access: Access) -> bool:
    """Let just these read the archive, its manifest and its folder. Whether that changed any. WriteError."""
    changed = False
    with writing(place.archive):
        for path in (place.archive, place.manifest, place.entries):
            if os.path.lexists(path):
                changed |= allow(path, access.file_mode)
        if place.folder != place.archive_folder:
            changed |= allow(place.folder, access.folder_mode)
    return changed
