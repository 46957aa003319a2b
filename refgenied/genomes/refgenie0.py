"""The layout of refgenie 0.12 and 0.13: `genome_config.yaml` says what there is, `data/` whether it is."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from refgenied.genomes.build_folder import BUILD_FOLDER, map_config, unreadable
from refgenied.genomes.config_reader import ConfigReader, Reading
from refgenied.genomes.enclosure import MAX_LINKS, MAX_NAMES, absolute
from refgenied.genomes.genome_config import MOST_ASSETS, Entry, expanded, named_folder, parse_config
from refgenied.genomes.layout import Judgement, Sighting, Survey
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import AssetKey, AssetState, ConfigError, Genome

if TYPE_CHECKING:
    from collections.abc import Callable

    from refgenied.genomes.build_folder import Flags

CONFIG_NAME = "genome_config.yaml"


class Header(NamedTuple):
    """What refgenie's config says about itself; folders are absolute, no archive folder is ""."""

    genome_folder: str
    genome_archive_folder: str
    servers: tuple[str, ...]


def read_header(config: str) -> Header:
    """ConfigError when the config cannot be read now."""
    reading = ConfigReader(absolute(config)).read(time.time())
    if reading.config is None:
        problem = reading.problems[0]
        raise ConfigError(f"{problem.path}: {problem.message}", hint="name refgenie's genome_config.yaml")
    found = reading.config
    archives = named_folder(found.archive_folder, config) if found.archive_folder else ""
    return Header(named_folder(found.genome_folder, config), archives, found.servers)


class RefgenconfLayout:
    """One genome folder with its config, which may lie elsewhere."""

    def __init__(self, root: str, config: str) -> None:
        self._root = absolute(root)
        self._config = absolute(config)
        self._reader = ConfigReader(self._config)

    @property
    def title(self) -> str:
        return f"refgenie 0.13 ({os.path.basename(self._config)})"

    def survey(self, now: float) -> Survey:
        reading = self._reader.read(now)
        problems = Problems()
        config = reading.config
        genomes = dict(config.genomes) if config else {}
        sightings = {
            key: self._sighting(key, entry, genomes[key.genome_digest])
            for key, entry in (config.entries.items() if config else ())
        }
        if config and config.doubtful and os.path.isdir(_own_place(self._root, config.doubtful)):
            # its path may be cut off
            key = config.doubtful
            entry = config.entries[key]._replace(asset_path=key.asset_group)
            sightings[key] = self._sighting(key, entry, genomes[key.genome_digest])
        if config and reading.fresh and not self._is_root(config.genome_folder):
            named = named_folder(config.genome_folder, self._config)
            problems.add(self._config, f"names another genome_folder, {named}, than {self._root}")
        for key in self._on_disk(problems):
            if key not in sightings:
                genome = genomes.setdefault(key.genome_digest, Genome(key.genome_digest))
                sightings[key] = self._sighting(key, None, genome)
        return Survey(
            _Judge(self._root, self._reader, reading),
            sightings,
            genomes,
            (*reading.problems, *problems.told()),
            _folders_on_the_way(self._config),
            config.servers if config else (),
            config.version if config else "",
        )

    def _sighting(self, key: AssetKey, entry: Entry | None, genome: Genome) -> Sighting:
        own = _own_place(self._root, key)
        folder = self._folder(key, entry) if entry else own
        return Sighting(
            key,
            folder,
            (f"{folder}/{BUILD_FOLDER}",),
            genome.aliases,
            entry,
            transfer=f"{os.path.dirname(own)}/{key.asset_group}__{key.asset}.tgz",
        )

    def _folder(self, key: AssetKey, entry: Entry) -> str:
        """Where refgenconf 0.13.1 finds it (`RefGenConf.seek_src`): the first that exists of the path as
        written, when that is absolute; its own place under data/; the path below the genome folder.
        """
        own = ""
        for path in dict.fromkeys((entry.asset_path, expanded(entry.asset_path))):  # before 0.13 it was expanded
            place = os.path.normpath(os.path.join(self._root, "data", key.genome_digest, path, key.asset))
            below = os.path.normpath(os.path.join(self._root, path))
            if os.path.isabs(path) and os.path.exists(path):
                return os.path.normpath(path)
            if os.path.lexists(place):
                return place
            if os.path.exists(below):
                return below
            own = own or place
        return own

    def _is_root(self, folder: str) -> bool:
        try:
            return os.path.samefile(named_folder(folder, self._config), self._root)
        except (OSError, ValueError):
            return False

    def _on_disk(self, problems: Problems) -> list[AssetKey]:
        """Assets under data/ that a build has left its folder in."""
        data = f"{self._root}/data"
        found: list[AssetKey] = []
        for digest in folders_in(data, problems):
            for group in folders_in(f"{data}/{digest}", problems):
                for asset in folders_in(f"{data}/{digest}/{group}", problems):
                    if len(found) == MOST_ASSETS:
                        problems.add(data, f"has more than {MOST_ASSETS} assets: the rest is left out")
                        return found
                    if os.path.isdir(f"{data}/{digest}/{group}/{asset}/{BUILD_FOLDER}"):
                        found.append(AssetKey(digest, group, asset))
        return found


class _Judge:
    """Judges by the config as one survey read it."""

    def __init__(self, root: str, reader: ConfigReader, reading: Reading) -> None:
        self._root = root
        self._reader = reader
        self._reading = reading
        self._name = os.path.basename(reader.path)

    def outdated(self) -> bool:
        return self._reading.fresh and self._reader.identity() != self._reading.identity

    def finished(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        doubt = self._doubt(sighting, flags)
        if doubt:
            return AssetState.UNREGISTERED, f"complete on disk, {doubt}"
        return AssetState.COMPLETE, "built and registered"

    def unbuilt(self, sighting: Sighting, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        key, entry = sighting.key, sighting.entry
        if entry is None:
            return AssetState.MISSING, "neither registered nor built"
        own_path = os.path.normpath(entry.asset_path) == key.asset_group
        if own_path and sighting.folder == _own_place(self._root, key):
            return AssetState.PULLED, "downloaded with refgenie pull: no build flags"
        return AssetState.ADDED, "added with refgenie add: no build flags"

    def _doubt(self, sighting: Sighting, flags: Flags) -> str:
        """What is missing in the config for the asset to count as complete; "" when nothing is."""
        entry, config = sighting.entry, self._reading.config
        doubts = (
            (
                not self._reading.fresh and (entry is None or (flags.built_at or 0.0) > self._reading.read_at),
                f"but {self._name} cannot be read now",
            ),
            (
                entry is None and flags.mapped,
                f"absent from {self._name}: built with --map, run refgenie build --reduce",
            ),
            (
                entry is None,
                f"absent from {self._name} (two builds at once? build it again, or run refgenie add)",
            ),
            (
                config is not None and config.doubtful == sighting.key,
                f"but {self._name} ends within its entry (no newline at the end of the file)",
            ),
            (not (entry and entry.asset_digest), f"but its entry in {self._name} has no asset_digest"),
            (not (entry and entry.seek_keys), f"but its entry in {self._name} has no seek_keys"),
            (
                flags.mapped and self._mapped_digest(sighting) != (entry and entry.asset_digest),
                f"but {self._name} has an older build of it: run refgenie build --reduce",
            ),
        )
        return next((text for holds, text in doubts if holds), "")

    def _mapped_digest(self, sighting: Sighting) -> str | None:
        try:
            built = parse_config(map_config(sighting.builds, self._root), "")
        except GarbledError:
            return None
        entry = built.entries.get(sighting.key)
        return entry.asset_digest if entry else None


def _own_place(root: str, key: AssetKey) -> str:
    return f"{root}/data/{key.genome_digest}/{key.asset_group}/{key.asset}"


def _folders_on_the_way(path: str) -> tuple[str, ...]:
    """The folder of a file, and if that is a link those of all that it leads to: a change in any is worth a look."""
    folders: dict[str, None] = {}
    for _ in range(MAX_LINKS):
        folders[os.path.dirname(path)] = None
        try:
            path = absolute(os.path.join(os.path.dirname(path), os.readlink(path)))
        except OSError:
            break
    return tuple(folders)


def folders_in(folder: str, problems: Problems) -> list[str]:
    """The names of the folders in a folder that can be names of ours, sorted; hidden ones are nobody's."""
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == MAX_NAMES:
                    problems.add(folder, f"holds more than {MAX_NAMES} names: the rest is left out")
                    break
                if entry.name.startswith(".") or not entry.is_dir():
                    continue
                if is_name(entry.name):
                    names.append(entry.name)
                else:
                    problems.add(repr(entry.path), "is left out: it has a name that no asset can have")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.add(folder, unreadable(error, folder))
    return sorted(names)
