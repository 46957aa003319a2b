"""What the layouts of the genome folder share: they find assets, and judge those that are at rest."""

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
    """One asset that is there, or should be; its state is not known yet."""

    key: AssetKey
    folder: str
    builds: tuple[str, ...]
    """Folders where a build of it leaves its flags; they may be missing."""
    aliases: tuple[str, ...] = ()
    entry: ConfigEntry | None = None
    """What refgenie's config says; None in refgenie 1, or when the config has no entry."""
    transfer: str = ""
    """A file that is there while the asset is being downloaded."""


class Judge(Protocol):
    """Judges the assets of one survey by what the survey saw."""

    def outdated(self) -> bool:
        """Whether an asset may have been finished while the survey was made."""
        ...

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:
        """For an asset whose folder is there and whose flags, if there are any, say that it is completed.

        `lately`: has anything moved?
        """
        ...


class Survey(NamedTuple):
    """All that a layout found, before anybody looked into the assets' own folders."""

    judge: Judge
    sightings: dict[AssetKey, Sighting]
    genomes: dict[str, Genome]
    problems: tuple[Problem, ...]
    watch: tuple[str, ...]
    servers: tuple[str, ...] = ()
    config_version: str = ""


def build_folders(root: str, folder: str, key: AssetKey, aliases: Iterable[str] = ()) -> tuple[str, ...]:
    """Where a build of an asset leaves its flags: in the asset's own folder, and with refgenie 1 also in builds/."""
    beside = (f"{root}/builds/{alias}/{key.asset_group}/{key.asset}" for alias in aliases)
    return (f"{folder}/{BUILD_FOLDER}", *beside)


def folders_in(folder: str, problems: Problems) -> list[str]:
    """The names of the folders in a folder that can be names of ours, sorted, without hidden ones."""
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
    """As many of the assets found in a folder as there may be."""
    taken = list(islice(found, MAX_ASSETS + 1))
    if len(taken) > MAX_ASSETS:
        problems.add(folder, f"has more than {MAX_ASSETS} assets: the rest is left out")
        del taken[MAX_ASSETS:]
    return taken
