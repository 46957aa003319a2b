"""The layout of refgenie 0.12 and 0.13: `genome_config.yaml` lists the assets, and `data/` shows which exist."""

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from refgenied.genomes.build_folder import BUILD_FOLDER, Flags, map_config
from refgenied.genomes.config_reader import ConfigReader, KnownConfig
from refgenied.genomes.enclosure import MAX_LINKS
from refgenied.genomes.genome_config import ConfigEntry, GenomeConfig, expanded, named_folder, parse_config
from refgenied.genomes.layout import Judgement, Sighting, Survey, build_folders, first_assets, folders_in
from refgenied.genomes.problems import Problems
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import AssetKey, AssetState, ConfigError, Genome

CONFIG_NAME = "genome_config.yaml"


def read_header(config: str) -> dict[str, Any]:
    """The settings in refgenie's config, by their `section.key`, and its `servers`. Folders are absolute.

    ConfigError: the config cannot be read now.
    """
    known = ConfigReader(os.path.abspath(config)).read(time.time())
    if known.config is None:
        problem = known.problems[0]
        raise ConfigError(f"{problem.path}: {problem.message}", hint="name refgenie's genome_config.yaml")
    found = known.config
    archives = named_folder(found.archive_folder, config) if found.archive_folder else ""
    return {
        "servers": found.servers,
        "refgenie.genome_folder": named_folder(found.genome_folder, config),
        "refgenie.genome_archive_folder": archives,
    }


class Refgenie0Layout:
    """One genome folder with its config, which may lie elsewhere."""

    def __init__(self, root: str, config: str) -> None:
        self._root = os.path.abspath(root)
        self._config = os.path.abspath(config)
        self._reader = ConfigReader(self._config)
        self.title = f"refgenie 0.13 ({os.path.basename(self._config)})"

    def survey(self, now: float) -> Survey:
        known = self._reader.read(now)
        problems = Problems()
        config = known.config or GenomeConfig()
        genomes, entries = dict(config.genomes), dict(config.entries)
        if config.doubtful and os.path.isdir(_own_place(self._root, config.doubtful)):
            # the path in this entry may be cut off
            key = config.doubtful
            entries[key] = msgspec.structs.replace(entries[key], asset_path=key.asset_group)
        sightings = {key: self._sighting(key, entry, genomes[key.genome_digest]) for key, entry in entries.items()}
        if known.fresh and not self._is_root(config.genome_folder):
            named = named_folder(config.genome_folder, self._config)
            problems.add(self._config, f"names another genome_folder, {named}, than {self._root}")
        for key in self._on_disk(problems):
            if key not in sightings:
                genome = genomes.setdefault(key.genome_digest, Genome(key.genome_digest))
                sightings[key] = self._sighting(key, None, genome)
        return Survey(
            _ConfigJudge(self._root, self._reader, known),
            sightings,
            genomes,
            (*known.problems, *problems.told()),
            _folders_on_the_way(self._config),
            config.servers,
            config.version,
        )

    def _sighting(self, key: AssetKey, entry: ConfigEntry | None, genome: Genome) -> Sighting:
        own = _own_place(self._root, key)
        folder = self._folder(key, entry) if entry else own
        return Sighting(
            key,
            folder,
            build_folders(self._root, folder, key),
            genome.aliases,
            entry,
            transfer=f"{os.path.dirname(own)}/{key.asset_group}__{key.asset}.tgz",
        )

    def _folder(self, key: AssetKey, entry: ConfigEntry) -> str:
        """The folder where refgenconf 0.13.1 finds the asset (`RefGenConf.seek_src`): the first of these that exists.

        The path as written, if it is absolute; the asset's own place under data/; the path below the genome folder.
        """
        own = ""
        for path in dict.fromkeys((entry.asset_path, expanded(entry.asset_path))):  # refgenie before 0.13 expanded it
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
        """Assets under data/ in which a build has left its folder."""
        data = f"{self._root}/data"
        found = (
            AssetKey(digest, group, asset)
            for digest in folders_in(data, problems)
            for group in folders_in(f"{data}/{digest}", problems)
            for asset in folders_in(f"{data}/{digest}/{group}", problems)
            if os.path.isdir(f"{data}/{digest}/{group}/{asset}/{BUILD_FOLDER}")
        )
        return first_assets(found, data, problems)


class _ConfigJudge:
    """Judges by the config as one survey read it."""

    def __init__(self, root: str, reader: ConfigReader, known: KnownConfig) -> None:
        self._root = root
        self._reader = reader
        self._known = known
        self._name = os.path.basename(reader.path)

    def outdated(self) -> bool:
        return self._known.fresh and self._reader.identity() != self._known.identity

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        key, entry = sighting.key, sighting.entry
        if flags.completed:
            doubt = self._doubt(sighting, flags)
            if doubt:
                return AssetState.UNREGISTERED, f"complete on disk, {doubt}"
            return AssetState.COMPLETE, "built and registered"
        if entry is None:
            return AssetState.MISSING, "neither registered nor built"
        own_path = os.path.normpath(entry.asset_path) == key.asset_group
        if own_path and sighting.folder == _own_place(self._root, key):
            return AssetState.PULLED, "downloaded with refgenie pull: no build flags"
        return AssetState.ADDED, "added with refgenie add: no build flags"

    def _doubt(self, sighting: Sighting, flags: Flags) -> str:
        """Why the config does not show the asset as complete; "" when it does."""
        entry, known, name = sighting.entry, self._known, self._name
        if not known.fresh and (entry is None or (flags.built_at or 0.0) > known.read_at):
            return f"but {name} cannot be read now"
        if entry is not None:
            return self._doubt_of_entry(entry, sighting, flags)
        if flags.mapped:
            return f"absent from {name}: built with --map, run refgenie build --reduce"
        return f"absent from {name} (two builds at once? build it again, or run refgenie add)"

    def _doubt_of_entry(self, entry: ConfigEntry, sighting: Sighting, flags: Flags) -> str:
        config, name = self._known.config, self._name
        if config is not None and config.doubtful == sighting.key:
            return f"but {name} ends within its entry (no newline at the end of the file)"
        if not entry.asset_digest:
            return f"but its entry in {name} has no asset_digest"
        if not entry.seek_keys:
            return f"but its entry in {name} has no seek_keys"
        if flags.mapped and self._mapped_digest(sighting) != entry.asset_digest:
            return f"but {name} has an older build of it: run refgenie build --reduce"
        return ""

    def _mapped_digest(self, sighting: Sighting) -> str | None:
        """The digest of the asset that was built with `--map`."""
        try:
            built = parse_config(map_config(sighting.builds, self._root), "")
        except GarbledError:
            return None
        entry = built.entries.get(sighting.key)
        return entry.asset_digest if entry else None


def _own_place(root: str, key: AssetKey) -> str:
    return f"{root}/data/{key.genome_digest}/{key.asset_group}/{key.asset}"


def _folders_on_the_way(path: str) -> tuple[str, ...]:
    """The folder of a file, and the folders of all targets if the file is a link: a change there is worth a look."""
    folders: dict[str, None] = {}
    for _ in range(MAX_LINKS):
        folders[os.path.dirname(path)] = None
        try:
            path = os.path.abspath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except OSError:
            break
    return tuple(folders)
