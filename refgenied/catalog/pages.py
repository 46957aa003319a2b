"""What the page of an archive shows: its directory contents, its recipe and its build log, a file each."""

from __future__ import annotations

import msgspec

from refgenied.archive import Manifest, iter_files
from refgenied.archive_folder.names import ServedNames, write_whole
from refgenied.catalog.entry import contents
from refgenied.catalog.faults import Faults
from refgenied.model import Access


def write_pages(names: ServedNames, manifest: Manifest, access: Access, faults: Faults) -> bool:
    """Write the files. Whether all are there; what is not is noted as a fault, and the archive is served without it."""
    build = manifest.build
    files = {
        names.contents: msgspec.json.encode(contents(iter_files(names.place.manifest))),
        names.recipe: None if build.recipe is None else msgspec.json.encode(build.recipe),
        names.log: build.log.encode("utf-8", "replace") if build.log else None,
    }
    mode = access.file_mode if access is Access.GROUP else 0o644  # what is private is shown to all or not at all
    whole = True
    for path, data in files.items():
        try:
            write_whole(path, data, mode)
        except OSError as error:
            faults.note(manifest.key, error, served=True)
            whole = False
    return whole
