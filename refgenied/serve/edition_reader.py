"""Reads the config again and again. A new edition costs what has changed, and shares the rest with the one before.

The parser, `Sound` and this reader give the same objects for what is the same, so the next step finds with `is` what
changed. The files of other archives are not looked at: a server with 10,000 archives reads a config in which one has
changed with one look at one file.

*Which file is it?* A config names digests, not files. For each archive that is new in the config, the file under the
flat name is noted. Its manifest would say whether this is the archive with that digest. Reading 10,000 manifests at
each start takes seconds, on a cold disk minutes, so only those archives are asked now that are about as new as the
config (`RECENT_SECONDS`): a config that was written a moment ago may not have followed yet. The others are asked when a
client wants them (`served_archive`); a wrong one would be an old config from a backup, and is never given out.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames, flat_name
from refgenied.catalog.sound import ConfigTree, Sound
from refgenied.files.regular import identity_of, is_shortage, read_regular, unreadable
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_limits import OF_SERVED
from refgenied.model import AssetKey, BadRegistryPathError
from refgenied.serve.config_content import ConfigContent
from refgenied.serve.editions import ConfigEdition
from refgenied.serve.served_archive import ServedArchive, ServedFolder, is_another

log = structlog.get_logger("serve")

RECENT_SECONDS = 60.0
"""An archive whose file got a name less than this long before the config was written, or after it, may be newer than
the config's content. The daemon shows archives and writes the config within seconds."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
"""A name that needs none of the checks of `Place`."""


class NotReadyError(Exception):
    """An archive is being published: the config will be rewritten in a moment."""


class _Basis(NamedTuple):
    """What the next reading builds upon."""

    sound: Sound
    """With all archives of the config."""
    shown: Sound
    """Without those that are not served."""
    archives: dict[AssetKey, ServedArchive]
    not_served: frozenset[AssetKey]
    """They are looked for at each reading."""
    alike: frozenset[AssetKey]
    """Assets whose file name could also be the file name of an asset with other names (`a__b:c` and `a:b__c`)."""


_NOTHING = _Basis(Sound({}), Sound({}), {}, frozenset(), frozenset())


class EditionReader:
    """Reads the config of one archive folder. Its calls block; one call at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = ServedFolder(folder)
        self.config = folder / CONFIG_NAME
        self._content = ConfigContent()
        self._basis = _NOTHING
        self._mended: tuple[str, ...] = ()

    def read(self, *, patient: bool = True) -> ConfigEdition:
        """Read the config and note which file each archive is.

        NotReadyError (if `patient`): an archive is newer than the config. If not `patient`, such an archive is left
        out. ShortageError: try again. OSError, UnreadableConfigError, or any error of refgenconf: the config cannot be
        used. After an error the next call builds upon the last edition.
        """
        try:
            state = os.stat(self.config)
        except OSError:
            return self.nothing()
        sound = Sound(self._content.read(_read(self.config)), self._basis.sound)
        for line in sound.lines if sound.lines != self._mended else ():
            log.warning("serve.config_mended", what=line)
        self._mended = sound.lines
        search = _Search(self.folder, self._basis, sound.tree, state.st_mtime - RECENT_SECONDS, patient=patient)
        search.run()
        shown = sound
        if search.not_served:
            left = _without(sound.tree["genomes"], search.not_served)
            shown = Sound(sound.tree | {"genomes": left}, self._basis.shown)
        edition = _edition(shown.tree, search.archives, identity_of(state), sound.lines)
        self._basis = _Basis(sound, shown, search.archives, frozenset(search.not_served), frozenset(search.alike))
        return edition

    def nothing(self) -> ConfigEdition:
        """An edition without archives: there is no config, or the first one cannot be read."""
        return _edition({"config_version": 0.4, "genomes": {}}, {}, (), ())


def _edition(
    tree: ConfigTree, archives: dict[AssetKey, ServedArchive], state: tuple[int, ...], mended: tuple[str, ...]
) -> ConfigEdition:
    from refgenconf import RefGenConf  # noqa: PLC0415 - an extra

    # We do not use from_yaml_file: it takes 20 times as long, and writes lock files where we may have no rights.
    entries: ConfigTree = {"remotes": {}}
    rgc: Any = RefGenConf(entries=entries | tree)
    rgc["genomes"].get_aliases = _aliases_of(tree["genomes"])
    return ConfigEdition(rgc, tree["genomes"], archives, state, mended)


def _aliases_of(genomes: ConfigTree) -> Callable[[str], list[str]]:
    """Replaces yacman's function, which goes through the aliases of all genomes for each genome of a list."""
    from yacman import UndefinedAliasError  # noqa: PLC0415 - an extra

    def get_aliases(key: str) -> list[str]:
        aliases = genomes[key]["aliases"] if key in genomes else ()
        if not aliases:
            raise UndefinedAliasError(f"No alias defined for: {key}")
        return list(aliases)

    return get_aliases


def _read(config: Path) -> bytes:
    try:
        return read_regular(config, OF_SERVED.max_bytes)
    except OSError as error:
        if is_shortage(error):
            raise unreadable(config, error) from error
        raise


# ----------------------------------------------------------------- which file each archive is


class _Search:
    """Looks for the archives that are new in a sound config. `recent`: ctime from which on the manifest is asked."""

    def __init__(self, folder: ServedFolder, basis: _Basis, tree: ConfigTree, recent: float, *, patient: bool) -> None:
        self._folder = folder
        self._basis = basis
        self._tree = tree
        self._recent = recent
        self._patient = patient
        self._path = os.fspath(folder.path)
        self.archives = dict(basis.archives)
        self.not_served = set(basis.not_served)
        self.alike = set(basis.alike)

    def run(self) -> None:
        """NotReadyError, ShortageError."""
        wanted = self._wanted()
        self.not_served = self._of_another_asset()
        for key in self.not_served:
            self.archives.pop(key, None)
            if key not in self._basis.not_served:
                log.warning("serve.name_of_another_asset", asset=key.registry_path)
        for key in wanted.keys() - self.not_served:
            archive = self._basis.archives.get(key)
            if archive is None or archive.digest != wanted[key]:
                archive = self._found(key, wanted[key])
            if archive is not None:
                self.archives[key] = archive
            else:
                self.not_served.add(key)

    def _wanted(self) -> dict[AssetKey, str]:
        """The digests of archives in changed groups, and of archives that were not served. Forgets what was there."""
        wanted: dict[AssetKey, str] = {}
        for genome, group, old, new in _changed(self._basis.sound.tree["genomes"], self._tree["genomes"]):
            for name in old:
                key = AssetKey(genome, group, name)
                self.archives.pop(key, None)
                self.not_served.discard(key)
                self.alike.discard(key)
            for name, tag in new.items():
                wanted[AssetKey(genome, group, name)] = tag["archive_digest"]
        self.alike.update(filter(_is_alike, wanted))
        for key in self.not_served:
            tags = self._tree["genomes"][key.genome_digest]["assets"][key.asset_group]["tags"]
            wanted[key] = tags[key.asset]["archive_digest"]
        return wanted

    def _of_another_asset(self) -> set[AssetKey]:
        """Assets whose archive needs the same file name as the archive of another asset, which has it already."""
        by_name: dict[tuple[str, str], list[AssetKey]] = {}
        for key in self.alike:
            by_name.setdefault((key.genome_digest, flat_name(key)), []).append(key)

        def is_shown(key: AssetKey) -> bool:
            with suppress(BadRegistryPathError):
                return ServedNames(Place(self._folder.path, key)).shows()
            return False

        return {
            key
            for same in by_name.values()
            if len(same) > 1
            for key in sorted(same, key=lambda key: (not is_shown(key), key))[1:]
        }

    def _found(self, key: AssetKey, digest: str) -> ServedArchive | None:
        """The archive with this digest; None when it is not there. NotReadyError, ShortageError."""
        try:
            path = self._flat_path(key)
            flat = os.stat(path)
        except (OSError, BadRegistryPathError) as error:
            return self._missing(key, str(error))
        if not stat.S_ISREG(flat.st_mode):
            return self._missing(key, f"{path} is not a regular file")
        recent = flat.st_ctime >= self._recent
        if recent and is_another(ServedNames(Place(self._folder.path, key)), flat, digest):
            kept = ServedArchive.kept(self._folder, key, digest)
            if kept is None and self._patient:
                raise NotReadyError(f"{key.registry_path} was published again a moment ago")
            if kept is None and key not in self._basis.not_served:
                log.warning("serve.archive_is_newer_than_config", asset=key.registry_path)
            return kept
        return ServedArchive(self._folder, key, digest, identity_of(flat), believed=recent)

    def _flat_path(self, key: AssetKey) -> str:
        """The path that `ServedNames` would say, in a tenth of the time. BadRegistryPathError."""
        if all(map(_PLAIN.fullmatch, (key.genome_digest, key.asset_group, key.asset))):
            return f"{self._path}/{key.genome_digest}/{flat_name(key)}"
        return os.fspath(ServedNames(Place(self._folder.path, key)).archive)

    def _missing(self, key: AssetKey, error: str) -> None:
        if key not in self._basis.not_served:
            log.warning("serve.archive_unreadable", asset=key.registry_path, error=error)


def _changed(old: ConfigTree, new: ConfigTree) -> Iterator[tuple[str, str, ConfigTree, ConfigTree]]:
    """Genome, asset group, and the tags before and now, of each group that is not the same object in both."""
    for genome in [*new, *(genome for genome in old if genome not in new)]:
        was: ConfigTree = old[genome]["assets"] if genome in old else {}
        now: ConfigTree = new[genome]["assets"] if genome in new else {}
        if was is now:
            continue
        for group, body in now.items():
            before = was.get(group)
            if before is not body:
                yield genome, group, before["tags"] if before else {}, body["tags"]
        for group in was.keys() - now.keys():
            yield genome, group, was[group]["tags"], {}


def _is_alike(key: AssetKey) -> bool:
    name = flat_name(key)
    return "__" in name[name.index("__") + 1 :]


def _without(genomes: ConfigTree, left_out: Collection[AssetKey]) -> ConfigTree:
    """The genomes without these assets; what holds none of them stays the same object."""
    genomes = dict(genomes)
    by_genome: dict[str, list[AssetKey]] = {}
    for key in left_out:
        by_genome.setdefault(key.genome_digest, []).append(key)
    for digest, keys in by_genome.items():
        assets = dict(genomes[digest]["assets"])
        for key in keys:
            group = assets[key.asset_group]
            tags = {name: tag for name, tag in group["tags"].items() if name != key.asset}
            assets[key.asset_group] = group | {"tags": tags}
        genomes[digest] = genomes[digest] | {"assets": assets}
    return genomes
