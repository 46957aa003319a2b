"""Shows one archive to refgenieserver, step by step, from any state.

The order is: the files of its page, its flat name, its entry in the config (which is written later, for several at
once). So the config never names a digest before the file with that digest has the flat name. Until then the old file
has it.
"""

import os
from collections.abc import Collection
from pathlib import Path

import structlog

from refgenied.archive.adopt import REPLACED
from refgenied.archive.format.manifest import read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames, Shown, same_named, shown
from refgenied.catalog.entry import ServedEntry, made_of, write_pages
from refgenied.catalog.faults import Faults
from refgenied.catalog.kept import Kept
from refgenied.catalog.parted import Parted
from refgenied.catalog.parts import TagPart
from refgenied.catalog.server_config import why_not_served
from refgenied.catalog.wanted import NAME_TAKEN, NOT_AS_RECORDED, PRIVATE, Wanted
from refgenied.files.durable import keep_beside
from refgenied.model import Access, ArchiveRecord, Asset, AssetKey, DamagedArchiveError

log = structlog.get_logger("serving")

_NO_LINKS = ("", "")


class Showing:
    """Blocking; one call at a time."""

    def __init__(self, path: Path, content: Parted, kept: Kept, faults: Faults) -> None:
        self._path = path
        self._folder = str(path)
        self._content = content
        self._kept = kept
        self._faults = faults
        self._linked: dict[AssetKey, tuple[str, str]] = {}
        """The folder to which the links of an asset lead, and the asset's stamp when they were made."""
        self.groups: Collection[tuple[str, str]] = ()
        """(genome, asset group) of each archive. A group's folder has such a name; no link may take it."""
        self.unsynced: dict[Path, set[AssetKey]] = {}
        """Folders with new flat names that are not on the disk yet, and the archives with these names."""
        self.not_synced: set[AssetKey] = set()
        """Archives whose flat names may not be on the disk, and which are not in `unsynced`."""

    def show(self, record: ArchiveRecord, wanted: Wanted) -> str:
        """Show the archive as it is recorded. Returns why it is not served; "" when it is.

        An archive that is shown already costs three system calls. OSError, RefgeniedError, ValueError: its files are
        wrong, or an error concerns all archives.
        """
        key = record.key
        why_not = "found damaged" if record.damaged is not None else why_not_served(key)
        if not why_not and wanted.private(record):
            why_not = PRIVATE
        if why_not:
            return why_not
        if any(other < key and self.serves(other) for other in same_named(key)):
            return NAME_TAKEN
        part = self._content.at(key)
        known = part if part is not None and part.ours else None
        asset = wanted.look.assets.get(key)
        links = self._links(key, asset) if wanted.files else _NO_LINKS
        if known is not None and self._is_shown(known, record, asset):
            if not self._are_linked(key, links):
                self._link_files(self._names(key, wanted), links)
            return ""
        names = self._names(key, wanted)
        if known is not None and known.digest != record.digest:
            known = None
        if not (self._show(names, record, known, asset) or self._is_kept(names, record, known, asset)):
            return NOT_AS_RECORDED
        if links == _NO_LINKS or not self._are_linked(key, links):
            self._link_files(names, links)
        return ""

    def serves(self, key: AssetKey) -> bool:
        part = self._content.at(key)
        return part is not None and part.ours

    def forget(self, key: AssetKey) -> None:
        """The archive is not shown any more."""
        self._linked.pop(key, None)

    def _names(self, key: AssetKey, wanted: Wanted) -> ServedNames:
        return ServedNames(Place(self._path, key), wanted.head.genome_folder)

    def _is_shown(self, known: TagPart, record: ArchiveRecord, asset: Asset | None) -> bool:
        if not known.paged or known.made_of != made_of(record, asset):
            return False
        return shown(self._folder, record.key) == Shown(record.size, flat=True, page=True)

    def _show(self, names: ServedNames, record: ArchiveRecord, known: TagPart | None, asset: Asset | None) -> bool:
        """Show the recorded archive under its flat name. False: another archive, or none, has the nested name."""
        if size_of(names.place.archive) != record.size:
            return False
        manifest = read_manifest(names.place.manifest)
        if manifest.digest != record.digest:
            return False
        entry = ServedEntry.of(record.key, manifest)
        if (record.asset_digest, record.source_size) != (entry.asset_digest, entry.asset_size):
            raise DamagedArchiveError("its record and its manifest differ; both are checked now")
        paged = known is not None and known.paged and os.path.exists(names.contents)
        if not paged:
            access = record.access or Access.EVERYONE
            paged = write_pages(names, manifest, access, self._faults, aliases=record.aliases)
        if not names.shows():
            self._keep_foreign(names, record, known)
            last = self._content.at(record.key)
            self._kept.keep(names, last.digest if last else "")
            names.show()
            self.not_synced.add(record.key)
        if record.key in self.not_synced:
            self.not_synced.discard(record.key)
            self.unsynced.setdefault(names.folder, set()).add(record.key)
        self._content.put(entry.brought_up(record, asset), made_of(record, asset), paged=paged)
        return True

    def _keep_foreign(self, names: ServedNames, record: ArchiveRecord, known: TagPart | None) -> None:
        """Keep the archive of another program that has taken the name of this one. OSError."""
        was_shown = known is not None and known.paged
        if was_shown and size_of(names.archive) not in (None, record.size):  # the same archive again has the same bytes
            aside = keep_beside(names.archive, REPLACED)
            log.warning("archive.set_aside", asset=record.key.registry_path, path=str(aside))

    def _is_kept(self, names: ServedNames, record: ArchiveRecord, known: TagPart | None, asset: Asset | None) -> bool:
        """Whether the flat name still leads to the archive: while it is being replaced, or after a crash then.

        Then its entry stays as it is.
        """
        if names.shows() or size_of(names.archive) != record.size:
            return False
        if known is None or not known.made_of:
            entry = ServedEntry.of(record.key, read_manifest(names.place.manifest))
            self._content.put(entry.brought_up(record, asset), made_of(record, asset), paged=False)
        return True

    # ----------------------------------------------------------------- links to the asset's files

    def _links(self, key: AssetKey, asset: Asset | None) -> tuple[str, str]:
        """The value that `_linked` should have, if another group's archives do not have the name of the links."""
        in_the_way = (key.genome_digest, f"{key.asset_group}__{key.asset}") in self.groups
        return _NO_LINKS if asset is None or in_the_way else (asset.folder, asset.stamp)

    def _are_linked(self, key: AssetKey, links: tuple[str, str]) -> bool:
        if self._linked.get(key, _NO_LINKS) != links:
            return False
        there = f"{self._folder}/{key.genome_digest}/{key.asset_group}__{key.asset}"
        return links == _NO_LINKS or os.path.exists(there)

    def _link_files(self, names: ServedNames, links: tuple[str, str]) -> None:
        """Make the server's file paths lead into the genome folder."""
        key = names.place.key
        try:
            names.files.lead_to(links[0])
        except OSError as error:
            self._faults.note(key, error, served=True)
            return
        self.forget(key)
        if links != _NO_LINKS:
            self._linked[key] = links


def size_of(path: Path) -> int | None:
    """The size of a file; None when there is no such file. OSError: the system does not say whether there is one."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
