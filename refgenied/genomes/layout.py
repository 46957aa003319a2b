"""The shared part of the layouts of the genome folder. A layout finds assets, and judges those that are at rest."""

import os
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from refgenied.genomes.build_folder import BUILD_FOLDER, Flags, why_unreadable
from refgenied.genomes.enclosure import MAX_NAMES
from refgenied.genomes.genome_config import MAX_ASSETS, ConfigEntry
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name
from refgenied.model import AssetKey, AssetState, Genome, Problem

Judgement = tuple[AssetState, str]
"""A state, and one plain line why."""
_T = TypeVar("_T")


class Sighting(NamedTuple):
    """One asset that exists or should exist. Its state is not known yet."""

    key: AssetKey
    folder: str
    builds: tuple[str, ...]
    """The folders for the flags of its builds; they may be missing."""
    aliases: tuple[str, ...] = ()
    entry: ConfigEntry | None = None
    """The entry in refgenie's config; None in refgenie 1, or when the config has no entry."""
    transfer: str = ""
    """A file that exists while the asset is being downloaded."""


class Judge(Protocol):
    """Judges the assets of one survey by the facts in the survey."""

    def outdated(self) -> bool:
        """Whether a build may have finished while the survey was made."""
        ...

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:
        """Judge an asset whose folder exists and whose flags, if there are any, say that it is completed.

        `lately`: whether any file has changed a short time ago.
        """
        ...


class Survey(NamedTuple):
    """The result of a layout's search, before anybody has looked into the assets' own folders."""

    judge: Judge
    sightings: dict[AssetKey, Sighting]
    genomes: dict[str, Genome]
    problems: tuple[Problem, ...]
    watch: tuple[str, ...]
    servers: tuple[str, ...] = ()
    config_version: str = ""


def build_folders(root: str, folder: str, key: AssetKey, aliases: Iterable[str] = ()) -> tuple[str, ...]:
    """The folders for the flags of an asset's builds: in the asset's folder, and with refgenie 1 also in builds/."""
    beside = (f"{root}/builds/{alias}/{key.asset_group}/{key.asset}" for alias in aliases)
    return (f"{folder}/{BUILD_FOLDER}", *beside)


def folders_in(folder: str, problems: Problems) -> list[str]:
    """The names of the folders in a folder, sorted; without hidden names, and without names that no asset can have."""
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
        problems.add(folder, why_unreadable(error, folder))
    return sorted(names)


def first_assets(found: Iterable[_T], folder: str, problems: Problems) -> list[_T]:
    """The first assets that were found in a folder, at most MAX_ASSETS."""
    taken = list(islice(found, MAX_ASSETS + 1))
    if len(taken) > MAX_ASSETS:
        problems.add(folder, f"has more than {MAX_ASSETS} assets: the rest is left out")
        del taken[MAX_ASSETS:]
    return taken
