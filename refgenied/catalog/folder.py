"""Brings the archive folder into the state that refgenieserver needs, from any state: some assets, or all of them.

A refresh has five steps. `begin` reads the config if another program has changed it, and finds what the new look and
new settings concern. `bring` shows the archives of some assets (`showing`). `write` brings the new names to the disk,
and then the config. `clear` deletes the other names and the pages of archives that the config does not name any more.
Only `bring` and `clear` compare records with files, so only they need the publishing lock.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import structlog

from refgenied.archive.format.manifest import read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames, same_named
from refgenied.catalog.faults import Faults
from refgenied.catalog.kept import Kept
from refgenied.catalog.parts import Head
from refgenied.catalog.server_config import ConfigFile
from refgenied.catalog.showing import Showing
from refgenied.catalog.wanted import NOT_AS_RECORDED, Served, Wanted
from refgenied.files.durable import sync_folder
from refgenied.model import (
    ArchiveNotFoundError,
    AssetKey,
    BadRegistryPathError,
    DamagedArchiveError,
    Genome,
    Look,
    RefgeniedError,
)
from refgenied.reconciler.last_look import differing

log = structlog.get_logger("serving")

_FAULT = ""
"""Why an archive with a fault is not served: the faults say more."""


class ServedFolder:
    """Blocking; one call at a time."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.config = ConfigFile(self.path)
        self.kept = Kept(self.path)
        self._content = self.config.content
        self._faults = Faults()
        self._showing = Showing(self.path, self._content, self.kept, self._faults)
        self._setting: tuple[Head, bool, bool] | None = None
        """What the settings wanted of the last refresh."""
        self._look: Look | None = None
        """The look that the last refresh took."""
        self._out: dict[AssetKey, str] = {}
        """Recorded archives that are not served, and why."""
        self._reasons: Counter[str] = Counter()
        self._over: dict[AssetKey, str] = {}
        """Assets whose names and pages `clear` deletes, and the digests of their archives."""
        self._doubtful: set[AssetKey] = set()
        self._doubted: set[AssetKey] = set()
        """Those that this refresh has found."""

    # ----------------------------------------------------------------- a whole refresh, in its steps

    def refresh(self, wanted: Wanted) -> Served:
        """All steps at once, for the `keys` of `wanted`. If nothing has changed, this costs a few system calls each.

        An archive whose files are wrong is left out. OSError, RefgeniedError: an error that concerns all archives (the
        config cannot be written, the disk is full, the process has too little memory or too few descriptors).
        """
        self.begin(wanted)
        self.bring(wanted)
        served = self.write(wanted)
        self.clear(wanted)
        return served

    def begin(self, wanted: Wanted, keys: Iterable[AssetKey] = ()) -> set[AssetKey] | None:
        """Begin a refresh of `keys`. Returns the assets that must be looked at; None: all. OSError: nothing is changed.

        All are looked at when the config was changed by another program, or the settings are others. Of two assets
        with one flat name each depends on the other.
        """
        whole = self.config.read()
        setting = (wanted.head, wanted.files, wanted.publish_private)
        whole |= setting != self._setting
        before, self._look, self._setting = self._look, wanted.look, setting
        self._faults.end()
        self._doubted.clear()
        found = {*keys}
        genomes: set[str] = set()
        if before is not None and before is not wanted.look:
            for digest, genome in wanted.look.genomes.items():
                if before.genomes.get(digest) is not genome:
                    self._content.name(genome)
            genomes.update(before.genomes)
            found.update(filter(self.knows, differing(before, wanted.look)))
        if wanted.files:
            found |= self._in_the_way(wanted.look, found)
        genomes.update(key.genome_digest for key in found)
        found.update(self._naming(genomes.difference(wanted.look.genomes), found))
        found.update([other for key in found for other in same_named(key) if self.knows(other)])
        return None if whole else found

    def bring(self, wanted: Wanted) -> None:
        """Show the archives of `wanted.keys`, and take out of the config what is not served. Errors as `refresh`."""
        genomes: dict[str, Genome] = {}
        for key in sorted(self.all_keys(wanted) if wanted.keys is None else wanted.keys):
            self._faults.begin(key)
            self._doubtful.discard(key)
            record = wanted.records.get(key)
            if record is None:
                self._leave(key, removed=key in wanted.removals)
                continue
            genomes[key.genome_digest] = Genome(key.genome_digest, record.aliases)
            try:
                why_not = self._showing.show(record, wanted) or None
            except (OSError, RefgeniedError, ValueError) as error:
                self._faults.note(key, error, served=False, aliases=record.aliases)
                why_not = _FAULT
                if isinstance(error, DamagedArchiveError | ArchiveNotFoundError):
                    self._doubt(key)
            if why_not == NOT_AS_RECORDED and os.path.exists(Place(self.path, key).archive):
                self._doubt(key)
            self._note_out(key, why_not)
            if why_not is not None:
                self._take_out(key, over=wanted.private(record))
        for digest, genome in genomes.items():
            self._content.name(wanted.look.genomes.get(digest, genome))

    def write(self, wanted: Wanted) -> Served:
        """Bring new names to the disk, then the config. Returns what is served now. OSError.

        EditedError: another program has changed the config since `begin`. Then begin again, with all assets.
        """
        for folder, keys in list(self._showing.unsynced.items()):
            try:
                sync_folder(folder)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._not_on_disk(keys, error)
            del self._showing.unsynced[folder]
        changed = self.config.write(wanted.head)
        left_out = tuple(
            f"{number} {'archive' if number == 1 else 'archives'} {why}"
            for why, number in sorted(self._reasons.items())
            if number and why
        )
        faults = self._faults
        return Served(
            self._content.number,
            left_out + self._content.lines + faults.lines,
            faults.not_served,
            bool(faults),
            changed,
            frozenset(self._doubted),
        )

    @property
    def over(self) -> list[AssetKey]:
        """The assets that `clear` must look at."""
        return list(self._over)

    def clear(self, wanted: Wanted) -> None:
        """Delete the other names and the pages of removed archives. The config does not name them any more.

        Newer files of another program stay, and so does the archive itself (`archive remove` without `--delete-file`).
        A private archive loses its other names too. An asset that was archived again meanwhile keeps all.
        """
        for key in sorted(self._over.keys() & (self._over if wanted.keys is None else set(wanted.keys))):
            digest = self._over.pop(key)
            record, removal = wanted.records.get(key), wanted.removals.get(key)
            hidden = record is not None and wanted.private(record)
            if not hidden and (record is not None or removal is None):
                continue
            try:
                if not any(map(self._showing.serves, same_named(key))):
                    names = ServedNames(Place(self.path, key), wanted.head.genome_folder)
                    names.hide() if removal is None or hidden else self._clear(names, digest, removal.removed_at)
            except BadRegistryPathError:
                continue
            except OSError as error:
                self._faults.note(key, error, served=True)

    # ----------------------------------------------------------------- which assets

    def knows(self, key: AssetKey) -> bool:
        """Whether the asset has an archive that was looked at, or an entry in the config."""
        return key in self._out or self._content.at(key) is not None

    def serves(self, key: AssetKey) -> bool:
        """Whether the archive is served. Any thread may call this."""
        return self._showing.serves(key)

    def all_keys(self, wanted: Wanted | None = None) -> set[AssetKey]:
        """The assets that are known here, and those in `wanted`."""
        known = self._content.keys().union(self._out)
        return known.union(wanted.records, wanted.removals) if wanted else known

    @property
    def faulty(self) -> frozenset[AssetKey]:
        """The archives that the next refresh may find repaired."""
        return self._faults.keys | self._doubtful

    def _naming(self, gone: set[str], found: set[AssetKey]) -> Iterable[AssetKey]:
        """Of each genome that the look does not know: the last of its other assets. Its record says the aliases."""
        last: dict[str, AssetKey] = {}
        if gone:
            known = (key for key in self._out if key.genome_digest in gone)
            for key in sorted((*filter(self.serves, self._content.keys(gone)), *known)):
                if key not in found:
                    last[key.genome_digest] = key
        return last.values()

    def _in_the_way(self, look: Look, keys: set[AssetKey]) -> set[AssetKey]:
        """Assets whose links have a name that a new group has, or had."""
        before = {*self._showing.groups}
        groups = {(key.genome_digest, key.asset_group) for key in (*look.assets, *self._out, *keys)}
        groups.update((digest, name) for digest, part in self._content.genomes.items() for name in part.groups)
        self._showing.groups = groups
        return {
            key
            for genome, name in before ^ groups
            for at in range(1, len(name) - 2)
            if name.startswith("__", at) and self.knows(key := AssetKey(genome, name[:at], name[at + 2 :]))
        }

    # ----------------------------------------------------------------- archives that are not served

    def _leave(self, key: AssetKey, *, removed: bool) -> None:
        """There is no archive of ours. The entry of another program stays."""
        self._note_out(key, None)
        part = self._content.at(key)
        if removed:
            self._take_out(key, over=True)
        elif part is not None and not part.ours and self._is_foreign(key):
            self._content.stay(key)
        elif part is not None:
            self._take_out(key, over=False)

    def _take_out(self, key: AssetKey, *, over: bool) -> None:
        part = self._content.drop(key)
        self._showing.forget(key)
        if over:
            self._over[key] = part.digest if part else self._over.get(key, "")

    def _note_out(self, key: AssetKey, why_not: str | None) -> None:
        before = self._out.pop(key, None)
        if before is not None:
            self._reasons[before] -= 1
        if why_not is not None:
            self._out[key] = why_not = sys.intern(why_not)  # thousands may have the same reason
            self._reasons[why_not] += 1

    def _not_on_disk(self, keys: set[AssetKey], error: OSError) -> None:
        """The folder with the names of these archives cannot be synced. An error that concerns all is raised again."""
        for key in filter(self.serves, sorted(keys)):
            self._faults.note(key, error, served=False)
            self._note_out(key, _FAULT)
            self._take_out(key, over=False)
        self._showing.not_synced |= keys

    def _doubt(self, key: AssetKey) -> None:
        self._doubtful.add(key)
        self._doubted.add(key)

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

    def _clear(self, names: ServedNames, digest: str, removed_at: float) -> None:
        if names.archive_is_over(removed_at):
            self.kept.keep(names, digest or _digest_in(names.place))
        names.clear(removed_at)


def _digest_in(place: Place) -> str:
    try:
        return read_manifest(place.manifest).digest
    except RefgeniedError:
        return ""
