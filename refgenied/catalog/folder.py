"""The archive folder as refgenieserver wants it: brought up to what is archived, step by step, from any state.

The order, after an archive was published and recorded: its side files, its flat name, then the config. So the config
never names a digest before the file with that digest is under the flat name, and until then the old file is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import structlog

from refgenied.archive import REPLACED, Place, read_manifest
from refgenied.archive_folder.names import ServedNames, write_whole
from refgenied.catalog import server_config
from refgenied.catalog.entry import Facts, ServedEntry, entry_of
from refgenied.catalog.faults import Faults
from refgenied.catalog.kept import Kept
from refgenied.catalog.pages import write_pages
from refgenied.catalog.server_config import CONFIG_NAME, UnreadableConfigError
from refgenied.catalog.sound import Sound
from refgenied.catalog.wanted import PRIVATE, Served, Wanted
from refgenied.files.durable import keep_beside
from refgenied.files.regular import read_regular
from refgenied.genomes.yaml_reader import MAX_BYTES
from refgenied.model import (
    Access,
    ArchiveNotFoundError,
    ArchiveRecord,
    Asset,
    AssetKey,
    BadRegistryPathError,
    DamagedArchiveError,
    Genome,
    RefgeniedError,
)

log = structlog.get_logger("serving")

NOT_AS_RECORDED = "whose file is missing or is not as recorded"


class ServedFolder:
    """Blocking; one call at a time."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.config = self.path / CONFIG_NAME
        self._facts: dict[AssetKey, tuple[str, Facts]] = {}
        """By the archive's digest."""
        self._linked: dict[AssetKey, tuple[str, str]] = {}
        """Where each asset's links lead, and its stamp then."""
        self._shown: dict[AssetKey, str] = {}
        """Digests whose side files are known to be right."""
        self._faults = Faults()
        self.kept = Kept(self.path)
        self._groups: frozenset[tuple[str, str]] = frozenset()
        """What `Wanted.groups` said last."""
        self._composed: tuple[object, ...] | None = None
        """What the config was made of last, and what file it became."""
        self._written: tuple[object, server_config.Tree] | None = None
        """The config's identity and content when it was written or read last."""
        self._mended: tuple[str, ...] = ()
        """What of it was changed or left out for the server's sake."""

    def refresh(self, wanted: Wanted) -> Served:
        """Bring the folder up to what is wanted; costs a few system calls an archive when nothing has changed.

        What is wrong with one archive's files leaves out that one. OSError and RefgeniedError for what concerns all:
        the config cannot be written, the disk is full, the process is short of something.
        """
        self._faults.begin(wanted.records.values())
        self._existing()  # when nothing can be known of it, nothing is changed
        self._groups = wanted.groups() if wanted.files else frozenset()
        skipped: Counter[str] = Counter()
        doubtful: set[AssetKey] = set()
        entries: list[ServedEntry] = []
        flat: set[Path] = set()
        for key, record in sorted(wanted.records.items()):
            try:
                entry, why_not = self._served(key, record, wanted, flat)
            except (OSError, RefgeniedError, ValueError) as error:
                self._faults.note(key, error, served=False)
                if isinstance(error, DamagedArchiveError | ArchiveNotFoundError):
                    doubtful.add(key)
                continue
            if entry is None:
                skipped[why_not] += 1
                if why_not == NOT_AS_RECORDED and os.path.exists(Place(self.path, key).archive):
                    doubtful.add(key)
            else:
                entries.append(entry)
        left_out = tuple(
            f"{number} {'archive' if number == 1 else 'archives'} {why}" for why, number in sorted(skipped.items())
        )
        changed = self._write_config(wanted, entries)
        self._clear_removed(wanted, flat)
        faults = self._faults
        return Served(
            len(entries),
            left_out + self._mended + faults.lines,
            faults.not_served,
            bool(faults),
            changed,
            frozenset(doubtful),
        )

    # ----------------------------------------------------------------- one archive

    def _served(
        self, key: AssetKey, record: ArchiveRecord, wanted: Wanted, flat: set[Path]
    ) -> tuple[ServedEntry | None, str]:
        """Its entry in the config, or why it has none. `flat`: the names that are taken."""
        why_not = "found damaged" if record.damaged is not None else server_config.why_not_served(key)
        if not why_not and wanted.private(record):
            why_not = PRIVATE
        if why_not:
            return None, why_not
        names = ServedNames(Place(self.path, key), wanted.head.genome_folder)
        if names.archive in flat:
            return None, "whose file name another asset has already (two underscores in a name)"
        entry = self._entry(names, record, wanted)
        if entry is not None:
            flat.add(names.archive)
        return entry, NOT_AS_RECORDED

    def _entry(self, names: ServedNames, record: ArchiveRecord, wanted: Wanted) -> ServedEntry | None:
        """Make its names and side files; None when the archive is not there as recorded."""
        asset = wanted.look.assets.get(record.key)
        facts = self._shown_facts(names, record) or self._kept_facts(names, record)
        if facts is None:
            return None
        self._link_files(names, asset, on=wanted.files)
        return entry_of(record, facts, asset)

    def _link_files(self, names: ServedNames, asset: Asset | None, *, on: bool) -> None:
        """Let the server's file paths lead into the genome folder, unless another group's archives lie there."""
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

    def _shown_facts(self, names: ServedNames, record: ArchiveRecord) -> Facts | None:
        """Show the recorded archive under its flat name; None when another one, or none, is under the nested name."""
        if _size(names.place.archive) != record.size:
            return None
        known = self._facts.get(record.key)
        right = self._shown.get(record.key) == record.digest and names.shows() and os.path.exists(names.contents)
        if right and known is not None and known[0] == record.digest:
            return _agreed(record, known[1])
        manifest = read_manifest(names.place.manifest)
        if manifest.digest != record.digest:
            return None
        _agreed(record, Facts.of(manifest))
        whole = write_pages(names, manifest, record.access or Access.EVERYONE, self._faults)
        if not names.shows():
            self._keep_foreign(names, record)
            self._keep(names)
            names.show()
        if whole:
            self._shown[record.key] = record.digest
        self._facts[record.key] = (record.digest, Facts.of(manifest))
        return Facts.of(manifest)

    def _keep_foreign(self, names: ServedNames, record: ArchiveRecord) -> None:
        """Another program has put its archive where this very one was shown. OSError."""
        shown = self._shown.get(record.key) == record.digest
        if shown and _size(names.archive) not in (None, record.size):  # one of ours made anew is byte for byte the same
            aside = keep_beside(names.archive, REPLACED)
            log.warning("archive.set_aside", asset=record.key.registry_path, path=str(aside))

    def _kept_facts(self, names: ServedNames, record: ArchiveRecord) -> Facts | None:
        """The recorded archive is being replaced (or a crash came between): its flat name may still lead to it."""
        if names.shows() or _size(names.archive) != record.size:
            return None
        known = self._facts.get(record.key)
        if known is not None and known[0] == record.digest:
            return known[1]
        return Facts.of(read_manifest(names.place.manifest))

    def _keep(self, names: ServedNames) -> None:
        """Keep for a while what the flat name leads to: the archive that was shown last, in this run or before it."""
        known = self._facts.get(names.place.key)
        shown = known[0] if known else server_config.digest_of(self._existing(), names.place.key)
        self.kept.keep(names, shown)

    # ----------------------------------------------------------------- the config

    def _write_config(self, wanted: Wanted, entries: Sequence[ServedEntry]) -> bool:
        genomes = {
            key.genome_digest: Genome(key.genome_digest, record.aliases) for key, record in wanted.records.items()
        }
        genomes |= wanted.look.genomes
        inputs = (entries, genomes, wanted.head, frozenset(wanted.records), frozenset(wanted.removals))
        if self._composed == (inputs, _identity(self.config)):
            return False
        existing = self._existing()

        def stays(key: AssetKey) -> bool:
            return key not in wanted.records and key not in wanted.removals and self._is_foreign(key)

        sound = Sound(server_config.compose(wanted.head, entries, genomes, existing, stays))
        tree, self._mended = sound.tree, sound.lines
        changed = write_whole(self.config, server_config.render(tree))
        self._composed = (inputs, _identity(self.config))
        self._written = (_identity(self.config), tree)
        if changed:
            log.info("serving.config_written", path=str(self.config), archives=len(entries))
        return changed

    def _existing(self) -> server_config.Tree:
        identity = _identity(self.config)
        if self._written is not None and self._written[0] == identity:
            return self._written[1]  # reading it takes a second for 2,000 archives
        try:
            text = read_regular(self.config, MAX_BYTES)
        except FileNotFoundError:
            return {}
        try:
            existing = server_config.parse(text)
        except UnreadableConfigError as error:
            existing = server_config.Existing({}, str(error))
        if existing.left_out:
            aside = keep_beside(self.config, "unreadable")
            error = existing.left_out
            log.warning("serving.config_unreadable", path=str(self.config), kept_as=str(aside), error=error)
        elif existing.tree and server_config.OURS not in existing.tree:
            aside = keep_beside(self.config, "before-refgenied")
            log.warning("serving.config_taken_over", path=str(self.config), kept_as=str(aside))
        self._written = (identity, existing.tree)
        return existing.tree

    def _is_foreign(self, key: AssetKey) -> bool:
        """Whether another program archived it: its file is there, and no manifest of ours."""
        try:
            names = ServedNames(Place(self.path, key))
            return names.archive.exists() and not os.path.lexists(names.place.manifest)
        except (BadRegistryPathError, ValueError):
            return False
        except OSError as error:
            self._faults.note(key, error, served=False)
            return True

    # ----------------------------------------------------------------- what was removed

    def _clear_removed(self, wanted: Wanted, flat: set[Path]) -> None:
        """A removed archive leaves none of its other names, nor its pages, behind; once the config is without it.

        What another program has put there since then stays, and so does an archive that was left (`archive remove`).
        A private archive has no other names either.
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
        self._facts.pop(names.place.key, None)

    def _removed_digest(self, names: ServedNames) -> str:
        known = self._facts.get(names.place.key)
        if known is not None:
            return known[0]
        try:
            return read_manifest(names.place.manifest).digest
        except RefgeniedError:
            return ""


def _agreed(record: ArchiveRecord, facts: Facts) -> Facts:
    """DamagedArchiveError: a value that is served is another in the database than in the manifest."""
    if (record.asset_digest, record.source_size) != (facts.asset_digest, facts.source_size):
        raise DamagedArchiveError("its record and its manifest differ; both are checked now")
    return facts


def _size(path: Path) -> int | None:
    """None when it is not there. OSError when that cannot be known."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
