"""The layout of refgenie 0.12 and 0.13: `genome_config.yaml` says what there is, `data/` whether it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from refgenied.genomes.build_folder import BUILD_FOLDER, map_config, unreadable
from refgenied.genomes.config_reader import ConfigReader, Reading
from refgenied.genomes.enclosure import absolute
from refgenied.genomes.genome_config import Entry, parse_config
from refgenied.genomes.layout import Judgement, Sighting, Survey
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_text import GarbledError
from refgenied.model import AssetKey, AssetState, Genome, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from refgenied.genomes.build_folder import Flags

CONFIG_NAME = "genome_config.yaml"


class RefgenconfLayout:
    """One genome folder with its config, which may lie elsewhere."""

    def __init__(self, root: str, config: str) -> None:
        self._root = absolute(root)
        self._config = absolute(config)
        self._reader = ConfigReader(self._config)
        self._reading = Reading(None, fresh=False, read_at=0.0, identity=None, problems=())

    @property
    def title(self) -> str:
        return f"refgenie 0.13 ({os.path.basename(self._config)})"

    def survey(self, now: float) -> Survey:
        self._reading = reading = self._reader.read(now)
        problems = list(reading.problems)
        config = reading.config
        genomes = dict(config.genomes) if config else {}
        sightings = {
            key: self._sighting(key, entry, genomes[key.genome_digest])
            for key, entry in (config.entries.items() if config else ())
        }
        if config and reading.fresh and not self._is_root(config.genome_folder):
            problems.append(
                Problem(
                    self._config, f"names another genome_folder, {config.genome_folder}, than {self._root}"
                )
            )
        for key in self._on_disk(problems):
            if key not in sightings:
                genome = genomes.setdefault(key.genome_digest, Genome(key.genome_digest))
                sightings[key] = self._sighting(key, None, genome)
        return Survey(
            sightings,
            genomes,
            tuple(problems),
            (os.path.dirname(self._config),),
            config.servers if config else (),
            config.version if config else "",
        )

    def outdated(self) -> bool:
        return self._reading.fresh and self._reader.identity() != self._reading.identity

    def finished(self, sighting: Sighting, flags: Flags, *, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        name = os.path.basename(self._config)
        entry = sighting.entry
        config = self._reading.config
        built_at = flags.built_at or 0.0
        doubt = ""
        if not self._reading.fresh and (entry is None or built_at > self._reading.read_at):
            doubt = f"but {name} cannot be read now"
        elif entry is None and flags.mapped:
            doubt = f"absent from {name}: built with --map, run refgenie build --reduce"
        elif entry is None:
            doubt = f"absent from {name} (two builds at once? build it again, or run refgenie add)"
        elif not entry.asset_digest:
            doubt = f"but its entry in {name} has no asset_digest"
        elif not entry.seek_keys:
            doubt = f"but its entry in {name} has no seek_keys"
        elif config and config.doubtful == sighting.key:
            doubt = f"but {name} ends within its entry (no newline at the end of the file)"
        elif flags.mapped and self._mapped_digest(sighting) != entry.asset_digest:
            doubt = f"but {name} has an older build: run refgenie build --reduce"
        if doubt:
            comma = "" if doubt.startswith("but") else ","
            return AssetState.UNREGISTERED, f"complete on disk{comma} {doubt}"
        return AssetState.COMPLETE, "built and registered"

    def unbuilt(self, sighting: Sighting, *, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        key, entry = sighting.key, sighting.entry
        own_place = sighting.folder == self._own_place(key)
        if entry is None:
            return AssetState.MISSING, "neither registered nor built"
        if own_place and os.path.normpath(entry.asset_path) == key.asset_group:
            return AssetState.PULLED, "downloaded with refgenie pull: no build flags"
        return AssetState.ADDED, "added with refgenie add: no build flags"

    def _own_place(self, key: AssetKey) -> str:
        return f"{self._root}/data/{key.genome_digest}/{key.asset_group}/{key.asset}"

    def _sighting(self, key: AssetKey, entry: Entry | None, genome: Genome) -> Sighting:
        folder = self._folder(key, entry) if entry else self._own_place(key)
        group = os.path.dirname(self._own_place(key))
        return Sighting(
            key,
            folder,
            (f"{folder}/{BUILD_FOLDER}",),
            genome.aliases,
            entry,
            transfer=f"{group}/{key.asset_group}__{key.asset}.tgz",
        )

    def _folder(self, key: AssetKey, entry: Entry) -> str:
        """Where refgenconf 0.13.1 finds it (`RefGenConf.seek_src`): the first that exists of the path as
        written, when that is absolute; its own place under data/; the path below the genome folder.
        """
        path = entry.asset_path
        own = os.path.normpath(os.path.join(self._root, "data", key.genome_digest, path, key.asset))
        if os.path.isabs(path) and os.path.exists(path):
            return os.path.normpath(path)
        below = os.path.normpath(os.path.join(self._root, path))
        if not os.path.lexists(own) and os.path.exists(below):
            return below
        return own

    def _mapped_digest(self, sighting: Sighting) -> str | None:
        try:
            built = parse_config(map_config(sighting.builds, self._root), "")
        except GarbledError:
            return None
        entry = built.entries.get(sighting.key)
        return entry.asset_digest if entry else None

    def _is_root(self, folder: str) -> bool:
        return not folder or os.path.realpath(folder) == os.path.realpath(self._root)

    def _on_disk(self, problems: list[Problem]) -> list[AssetKey]:
        """Assets under data/ that a build has left its folder in."""
        data = f"{self._root}/data"
        return [
            AssetKey(digest, group, asset)
            for digest in folders_in(data, problems)
            for group in folders_in(f"{data}/{digest}", problems)
            for asset in folders_in(f"{data}/{digest}/{group}", problems)
            if Path(data, digest, group, asset, BUILD_FOLDER).is_dir()
        ]


def folders_in(folder: str, problems: list[Problem]) -> list[str]:
    """The names of the folders in a folder that can be names of ours, sorted; hidden ones are nobody's."""
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_dir():
                    continue
                if is_name(entry.name):
                    names.append(entry.name)
                else:
                    problems.append(
                        Problem(repr(entry.path), "is left out: it has a name that no asset can have")
                    )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.append(Problem(folder, unreadable(error, folder)))
    return sorted(names)
