"""The layout of refgenie 0.12 and 0.13: `genome_config.yaml` lists the assets, and `data/` shows which exist."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from refgenied.genomes.build_folder import BUILD_FOLDER, Flags
from refgenied.genomes.config_head import head_of
from refgenied.genomes.config_judge import ConfigJudge, own_place
from refgenied.genomes.config_reader import UNTOUCHED_SECONDS, ConfigReader, KnownConfig
from refgenied.genomes.enclosure import MAX_LINKS
from refgenied.genomes.genome_config import MAX_ASSETS, ConfigEntry, GenomeConfig, expanded, named_folder
from refgenied.genomes.layout import Judgement, Sighting, build_folders, folders_in, listing, names_below
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name
from refgenied.model import AssetKey, AssetState, ConfigError, Genome, Look, Problem

CONFIG_NAME = "genome_config.yaml"


def read_header(config: str) -> dict[str, Any]:
    """The settings in refgenie's config, by their `section.key`, and its `servers`. Folders are absolute.

    ConfigError: the config cannot be read now.
    """
    known = ConfigReader(os.path.abspath(config), part=head_of).read(time.time())
    if known.config is None:  # the whole of it may make sense
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

    def survey(self, now: float) -> "ConfigSurvey":
        """Read the config."""
        return ConfigSurvey(self._root, self._reader, now)

    def survey_of(self, key: AssetKey, before: object, now: float) -> "ConfigSurvey":  # noqa: ARG002
        """The same; for one asset it is cheap too, because a config that has not changed is not read again."""
        return self.survey(now)

    def survey_again(
        self, before: "ConfigSurvey", look: Look, now: float, noticed: Collection[str], keys: Collection[AssetKey]
    ) -> "tuple[ConfigSurvey, set[AssetKey]] | None":
        """Read the config, and name the assets that may have changed since the survey of this look."""
        found = {*keys, *self._under(noticed, problems := Problems())}
        if any(names_below(self._root, path) == ("data",) for path in noticed) or problems.told():
            return None
        survey = self.survey(now)
        changed = survey.changed_since(before)
        found |= changed
        if not (survey.known.fresh and before.known.fresh):
            found |= {key for key, asset in look.assets.items() if asset.state is AssetState.UNREGISTERED}
        survey.compared = before.compared
        if not changed and survey.known.identity != before.known.identity:
            found |= _built_since(look, before.compared)
            survey.compared = survey.began
        survey.take_over(before, found)
        return survey, found

    def _under(self, noticed: Iterable[str], problems: Problems) -> Iterator[AssetKey]:
        """The assets at these paths or below them."""
        for path in noticed:
            match names_below(self._root, path):
                case ("data", digest, group, asset, *_):
                    yield AssetKey(digest, group, asset)
                case ("data", digest, *group):
                    for name in group or folders_in(f"{self._root}/data/{digest}", problems):
                        for asset in folders_in(f"{self._root}/data/{digest}/{name}", problems):
                            yield AssetKey(digest, name, asset)
                case _:
                    pass


class ConfigSurvey:
    """refgenie's config as one read found it, and what is in data/. See `layout.Survey`."""

    def __init__(self, root: str, reader: ConfigReader, now: float) -> None:
        self.began = now
        self.compared = now
        """When all assets were looked at for builds that have left refgenie's config as it was, Unix seconds."""
        self.known: KnownConfig = reader.read(now)
        self._root = root
        self._reader = reader
        self.config = self.known.config or GenomeConfig()
        self.entries = self.config.entries
        doubtful = self.config.doubtful
        if doubtful and os.path.isdir(own_place(root, doubtful)):  # the path in this entry may be cut off
            entry = msgspec.structs.replace(self.entries[doubtful], asset_path=doubtful.asset_group)
            self.entries = {**self.entries, doubtful: entry}
        self.on_disk: dict[AssetKey, None] = {}
        """Assets that only data/ shows."""
        self.disk_problems = Problems()
        self._judge = ConfigJudge(root, reader.path, self.known)
        self.servers = self.config.servers
        self.config_version = self.config.version

    @property
    def genomes(self) -> dict[str, Genome]:
        more = {key.genome_digest for key in self.on_disk} - self.config.genomes.keys()
        return {**self.config.genomes, **{digest: Genome(digest) for digest in sorted(more)}}

    @property
    def problems(self) -> tuple[Problem, ...]:
        problems = Problems()
        if self.known.fresh and not self._is_root(self.config.genome_folder):
            named = named_folder(self.config.genome_folder, self._reader.path)
            problems.add(self._reader.path, f"names another genome_folder, {named}, than {self._root}")
        return (*self.known.problems, *problems.told(), *self.disk_problems.told())

    @property
    def watch(self) -> tuple[str, ...]:
        return _folders_on_the_way(self._reader.path)

    def outdated(self) -> bool:
        return self.known.fresh and self._reader.identity() != self.known.identity

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:
        return self._judge.judge(sighting, flags, lately)

    # ----------------------------------------------------------------- what has changed

    def changed_since(self, before: "ConfigSurvey") -> set[AssetKey]:
        """The assets whose entry, or whose genome's aliases, differ."""
        now, old = self.entries, before.entries
        if now is old:
            return set()
        changed = {key for key, entry in now.items() if old.get(key) is not entry}
        changed |= old.keys() - now.keys() if len(old) > len(now) - len(changed) else set()
        renamed = {
            digest
            for digest in self.config.genomes.keys() | before.config.genomes.keys()
            if self.aliases(digest) != before.aliases(digest)
        }
        if renamed:
            changed |= {key for key in (*now, *before.on_disk) if key.genome_digest in renamed}
        return changed

    def take_over(self, before: "ConfigSurvey", found: set[AssetKey]) -> None:
        """Take what an earlier survey found in data/, except for these assets."""
        self.disk_problems = before.disk_problems
        self.on_disk = dict(before.on_disk)
        for key in found:
            self.on_disk.pop(key, None)
            if self._is_only_on_disk(key):
                self.on_disk[key] = None

    # ----------------------------------------------------------------- the assets

    def one(self, key: AssetKey) -> Sighting | None:
        entry = self.entries.get(key)
        if entry is None and not self._is_only_on_disk(key):
            return None
        return self._sighting(key, entry, self._folder(key, entry) if entry else own_place(self._root, key))

    def all(self) -> Iterator[Sighting]:
        """Each group's folder is listed just before its assets."""
        entries: dict[str, dict[str, dict[str, AssetKey]]] = {}
        for key in self.entries:
            entries.setdefault(key.genome_digest, {}).setdefault(key.asset_group, {})[key.asset] = key
        data = f"{self._root}/data"
        for digest in dict.fromkeys((*entries, *folders_in(data, self.disk_problems))):
            groups = entries.get(digest, {})
            for group in dict.fromkeys((*groups, *folders_in(f"{data}/{digest}", self.disk_problems))):
                yield from self._group(digest, group, groups.get(group, {}))

    def _group(self, digest: str, group: str, registered: dict[str, AssetKey]) -> Iterator[Sighting]:
        place = f"{self._root}/data/{digest}/{group}"
        there = listing(place, self.disk_problems)
        names = frozenset(there.folders)
        for asset, key in registered.items():
            entry = self.entries[key]
            own = f"{place}/{asset}"
            folder = own if asset in names and entry.asset_path == group else self._folder(key, entry)
            yield self._sighting(key, entry, folder, there.others)
        for asset in there.folders:
            if asset not in registered and os.path.isdir(f"{place}/{asset}/{BUILD_FOLDER}"):
                if len(self.on_disk) == MAX_ASSETS:
                    self.disk_problems.add(place, f"there are more than {MAX_ASSETS} assets: the rest is left out")
                    return
                key = AssetKey(digest, group, asset)
                self.on_disk[key] = None
                yield self._sighting(key, None, f"{place}/{asset}", there.others)

    def _is_only_on_disk(self, key: AssetKey) -> bool:
        """Whether a build has left its folder under data/ for an asset that the config lacks."""
        names = (key.genome_digest, key.asset_group, key.asset)
        return (
            key not in self.entries
            and all(is_name(name) and not name.startswith(".") for name in names)
            and os.path.isdir(f"{own_place(self._root, key)}/{BUILD_FOLDER}")
        )

    def _sighting(
        self, key: AssetKey, entry: ConfigEntry | None, folder: str, beside: Collection[str] | None = None
    ) -> Sighting:
        """`beside`: the names of the files in the group's folder, if they are known."""
        transfer = f"{key.asset_group}__{key.asset}.tgz"
        is_there = beside is None or transfer in beside
        return Sighting(
            key,
            folder,
            build_folders(self._root, folder, key),
            self.aliases(key.genome_digest),
            entry,
            transfer=f"{self._root}/data/{key.genome_digest}/{key.asset_group}/{transfer}" if is_there else "",
        )

    def aliases(self, digest: str) -> tuple[str, ...]:
        genome = self.config.genomes.get(digest)
        return genome.aliases if genome else ()

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
            return os.path.samefile(named_folder(folder, self._reader.path), self._root)
        except (OSError, ValueError):
            return False


def _built_since(look: Look, since: float) -> set[AssetKey]:
    """The assets in whose build folder something was made or renamed since then (Unix seconds).

    refgenie writes its config after each build. If it wrote the same as before, an asset was built again.
    """
    found: set[AssetKey] = set()
    for key, asset in look.assets.items():
        with suppress(OSError):
            if os.stat(f"{asset.folder}/{BUILD_FOLDER}").st_mtime > since - UNTOUCHED_SECONDS:
                found.add(key)
    return found


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
