"""Brings the archive folder into the state that refgenieserver needs, step by step, from any state.

After an archive was published and recorded, the order is: the files of its page, its flat name, then the config. So the
config never names a digest before the file with that digest has the flat name. Until then the old file has it.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from refgenied.archive.adopt import REPLACED
from refgenied.archive.format.manifest import Manifest, read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames
from refgenied.catalog.entry import ServedEntry, write_pages
from refgenied.catalog.faults import Faults
from refgenied.catalog.kept import Kept
from refgenied.catalog.server_config import ConfigFile, Head, archive_digest_in, why_not_served
from refgenied.files.durable import keep_beside
from refgenied.model import (
    Access,
    ArchiveNotFoundError,
    ArchiveRecord,
    Asset,
    AssetKey,
    BadRegistryPathError,
    DamagedArchiveError,
    Genome,
    Look,
    RefgeniedError,
    Removal,
)
from refgenied.policy import access_now

log = structlog.get_logger("serving")

NOT_AS_RECORDED = "whose file is missing or is not as recorded"
PRIVATE = "of private assets: only the owner may read some file (archive.publish_private = true serves them)"


class Wanted(msgspec.Struct, frozen=True):
    """The state that the folder must get."""

    records: Mapping[AssetKey, ArchiveRecord]
    removals: Mapping[AssetKey, Removal]
    look: Look
    """The last look; an empty look when the genome folder is missing."""
    head: Head
    files: bool
    """Whether each asset's files in the genome folder are linked beside its archive."""
    publish_private: bool = False
    """Whether archives that only their owner may read are served too."""

    def private(self, record: ArchiveRecord) -> bool:
        """Whether the archive must stay hidden, because only the owner may read some file in it."""
        access = access_now(record, self.look.assets.get(record.key))
        return access is Access.OWNER and not self.publish_private

    def groups(self) -> frozenset[tuple[str, str]]:
        """(genome, asset group) of each archive. A group's folder has such a name; no link may take it."""
        return frozenset((key.genome_digest, key.asset_group) for key in (*self.look.assets, *self.records))


class Served(msgspec.Struct, frozen=True):
    """The state that the folder has got."""

    archives: int = 0
    left_out: tuple[str, ...] = ()
    """Plain lines: which archives are not in the server's config, and why; then other faults of single archives."""
    faulty: int = 0
    """The number of archives that are not served because of a fault that a person can repair."""
    unwell: bool = False
    """Whether there is a fault that the next refresh may repair."""
    changed: bool = False
    """Whether the config was written now."""
    doubtful: frozenset[AssetKey] = frozenset()
    """Archives whose record, manifest and file do not fit together; each of them must be checked."""


class ServedFolder:
    """Blocking; one call at a time."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.config = ConfigFile(self.path)
        self.kept = Kept(self.path)
        self._faults = Faults()
        self._entries: dict[AssetKey, ServedEntry] = {}
        """The entries of the archives that were shown last, made from their manifests."""
        self._linked: dict[AssetKey, tuple[str, str]] = {}
        """The folder to which the links of each asset lead, and the asset's stamp when they were made."""
        self._shown: dict[AssetKey, str] = {}
        """Digests whose pages are known to be right."""
        self._groups: frozenset[tuple[str, str]] = frozenset()
        """The last answer of `Wanted.groups`."""

    def refresh(self, wanted: Wanted) -> Served:
        """Bring the folder into the wanted state. If nothing has changed, this costs a few system calls per archive.

        An archive whose files are wrong is left out. OSError, RefgeniedError: an error that concerns all archives (the
        config cannot be written, the disk is full, the process has too little memory or too few descriptors).
        """
        faults = self._faults
        faults.begin(wanted.records.values())
        self.config.read()  # if this fails, nothing is changed
        self._groups = wanted.groups() if wanted.files else frozenset()
        skipped: Counter[str] = Counter()
        doubtful: set[AssetKey] = set()
        entries: list[ServedEntry] = []
        flat: set[Path] = set()
        for key, record in sorted(wanted.records.items()):
            try:
                served = self._served(record, wanted, flat)
            except (OSError, RefgeniedError, ValueError) as error:
                faults.note(key, error, served=False)
                if isinstance(error, DamagedArchiveError | ArchiveNotFoundError):
                    doubtful.add(key)
                continue
            if isinstance(served, ServedEntry):
                entries.append(served)
                continue
            skipped[served] += 1
            if served == NOT_AS_RECORDED and os.path.exists(Place(self.path, key).archive):
                doubtful.add(key)
        left_out = tuple(
            f"{number} {'archive' if number == 1 else 'archives'} {why}" for why, number in sorted(skipped.items())
        )
        changed = self._write_config(wanted, entries)
        self._clear_removed(wanted, flat)
        return Served(
            len(entries),
            left_out + self.config.mended + faults.lines,
            faults.not_served,
            bool(faults),
            changed,
            frozenset(doubtful),
        )

    def _write_config(self, wanted: Wanted, entries: list[ServedEntry]) -> bool:
        digests = {key.genome_digest: record.aliases for key, record in wanted.records.items()}
        genomes = {digest: Genome(digest, aliases) for digest, aliases in digests.items()} | wanted.look.genomes
        known = frozenset((*wanted.records, *wanted.removals))
        return self.config.write(wanted.head, entries, genomes, known, self._is_foreign)

    def _is_foreign(self, key: AssetKey) -> bool:
        """Whether another program archived it: there is a file, but no manifest of ours."""
        try:
            names = ServedNames(Place(self.path, key))
            return names.archive.exists() and not os.path.lexists(names.place.manifest)
        except (BadRegistryPathError, ValueError):
            return False
        except OSError as error:
            self._faults.note(key, error, served=False)
            return True

    # ----------------------------------------------------------------- one archive

    def _served(self, record: ArchiveRecord, wanted: Wanted, flat: set[Path]) -> ServedEntry | str:
        """The archive's entry in the config, or why it has none. `flat`: the names that are taken."""
        key = record.key
        why_not = "found damaged" if record.damaged is not None else why_not_served(key)
        if not why_not and wanted.private(record):
            why_not = PRIVATE
        if why_not:
            return why_not
        names = ServedNames(Place(self.path, key), wanted.head.genome_folder)
        if names.archive in flat:
            return "whose file name another asset has already (two underscores in a name)"
        entry = self._show(names, record) or self._kept_entry(names, record)
        if entry is None:
            return NOT_AS_RECORDED
        asset = wanted.look.assets.get(key)
        self._link_files(names, asset, on=wanted.files)
        flat.add(names.archive)
        return entry.brought_up(record, asset)

    def _link_files(self, names: ServedNames, asset: Asset | None, *, on: bool) -> None:
        """Make the server's file paths lead into the genome folder, unless another group's archives have that name."""
        key = names.place.key
        in_the_way = (key.genome_digest, f"{key.asset_group}__{key.asset}") in self._groups
        folder, stamp = (asset.folder, asset.stamp) if on and asset and not in_the_way else ("", "")
        if self._linked.get(key) == (folder, stamp) and names.files.path.exists() is bool(folder):
            return
        try:
            names.files.lead_to(folder)
        except OSError as error:
            self._faults.note(key, error, served=True)
        else:
            self._linked[key] = folder, stamp

    def _show(self, names: ServedNames, record: ArchiveRecord) -> ServedEntry | None:
        """Show the recorded archive under its flat name. None: another archive, or none, has the nested name."""
        if _size(names.place.archive) != record.size:
            return None
        entry, manifest = self._known_entry(record), None
        shown = self._shown.get(record.key) == record.digest and names.shows() and os.path.exists(names.contents)
        if entry is None or not shown:
            manifest = read_manifest(names.place.manifest)
            if manifest.digest != record.digest:
                return None
            entry = ServedEntry.of(record.key, manifest)
        if (record.asset_digest, record.source_size) != (entry.asset_digest, entry.asset_size):
            raise DamagedArchiveError("its record and its manifest differ; both are checked now")
        if manifest is not None:
            self._show_anew(names, record, manifest)
            self._entries[record.key] = entry
        return entry

    def _show_anew(self, names: ServedNames, record: ArchiveRecord, manifest: Manifest) -> None:
        whole = write_pages(names, manifest, record.access or Access.EVERYONE, self._faults)
        if not names.shows():
            self._keep_foreign(names, record)
            key = names.place.key
            self.kept.keep(names, self._last_digest(key) or archive_digest_in(self.config.read(), key))
            names.show()
        if whole:
            self._shown[record.key] = record.digest

    def _keep_foreign(self, names: ServedNames, record: ArchiveRecord) -> None:
        """Keep the archive of another program that has taken the name of this one. OSError."""
        shown = self._shown.get(record.key) == record.digest
        if shown and _size(names.archive) not in (None, record.size):  # the same archive made again has the same bytes
            aside = keep_beside(names.archive, REPLACED)
            log.warning("archive.set_aside", asset=record.key.registry_path, path=str(aside))

    def _last_digest(self, key: AssetKey) -> str:
        """The digest of the last archive of this asset that this run has shown; "" when there was none."""
        known = self._entries.get(key)
        return known.archive_digest if known else ""

    def _kept_entry(self, names: ServedNames, record: ArchiveRecord) -> ServedEntry | None:
        """The archive's entry if its flat name still leads to it: while it is being replaced, or after a crash then."""
        if names.shows() or _size(names.archive) != record.size:
            return None
        return self._known_entry(record) or ServedEntry.of(record.key, read_manifest(names.place.manifest))

    def _known_entry(self, record: ArchiveRecord) -> ServedEntry | None:
        entry = self._entries.get(record.key)
        return entry if entry is not None and entry.archive_digest == record.digest else None

    # ----------------------------------------------------------------- removed archives

    def _clear_removed(self, wanted: Wanted, flat: set[Path]) -> None:
        """Delete the other names and the pages of removed archives. The config does not name them any more.

        Newer files of another program stay, and so does the archive itself (`archive remove` without `--delete-file`).
        A private archive loses its other names too.
        """
        private = {key for key, record in wanted.records.items() if wanted.private(record)}
        for key in (wanted.removals.keys() - wanted.records.keys()) | private:
            self._shown.pop(key, None)
            self._linked.pop(key, None)
            try:
                names = ServedNames(Place(self.path, key), wanted.head.genome_folder)
                if names.archive not in flat:
                    names.hide() if key in private else self._clear(names, wanted.removals[key].removed_at)
            except BadRegistryPathError:
                continue
            except OSError as error:
                self._faults.note(key, error, served=True)

    def _clear(self, names: ServedNames, removed_at: float) -> None:
        if names.archive_is_over(removed_at):
            self.kept.keep(names, self._removed_digest(names))
        names.clear(removed_at)
        self._entries.pop(names.place.key, None)

    def _removed_digest(self, names: ServedNames) -> str:
        try:
            return self._last_digest(names.place.key) or read_manifest(names.place.manifest).digest
        except RefgeniedError:
            return ""


def _size(path: Path) -> int | None:
    """The size of a file; None when there is no such file. OSError: the system does not say whether there is one."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
