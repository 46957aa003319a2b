"""The shared part of the layouts of the genome folder. A layout finds assets, and judges those that are at rest."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from sys import intern
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


class Survey(Protocol):
    """What a layout knows of the genome folder, apart from the assets' own folders. It is kept until the next look."""

    @property
    def genomes(self) -> dict[str, Genome]: ...

    @property
    def problems(self) -> tuple[Problem, ...]: ...

    @property
    def watch(self) -> tuple[str, ...]: ...

    @property
    def servers(self) -> tuple[str, ...]: ...

    @property
    def config_version(self) -> str: ...

    def all(self) -> Iterator[Sighting]:
        """Every asset, once. Only after the last one `genomes` and `problems` are complete."""
        ...

    def one(self, key: AssetKey) -> Sighting | None:
        """One asset; None when there is none. The cost does not depend on the number of assets."""
        ...

    def outdated(self) -> bool:
        """Whether a build may have finished while the survey was made."""
        ...

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:
        """Judge an asset whose folder exists and whose flags, if there are any, say that it is completed.

        `lately`: whether any file has changed a short time ago.
        """
        ...


def names_below(root: str, path: str) -> tuple[str, ...]:
    """The names that lead from the genome folder to a path in it; empty for the folder itself, and for others."""
    return tuple(path.removeprefix(f"{root}/").split("/")) if path.startswith(f"{root}/") else ()


def build_folders(root: str, folder: str, key: AssetKey, aliases: Iterable[str] = ()) -> tuple[str, ...]:
    """The folders for the flags of an asset's builds: in the asset's folder, and with refgenie 1 also in builds/."""
    beside = (f"{root}/builds/{alias}/{key.asset_group}/{key.asset}" for alias in aliases)
    return (f"{folder}/{BUILD_FOLDER}", *beside)


class Listing(NamedTuple):
    """What is in a folder, without names that no asset can have."""

    folders: list[str]
    """Names of the folders, sorted, without hidden ones."""
    others: frozenset[str]
    """Names of all else."""


def listing(folder: str, problems: Problems) -> Listing:
    """What is in a folder. A problem is noted; then what was read until then is taken."""
    names: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                name = entry.name
                if number == MAX_NAMES:
                    problems.add(folder, f"holds more than {MAX_NAMES} names: the rest is left out")
                    break
                if name.startswith(".") or not entry.is_dir():
                    others.append(name)
                elif is_name(name):
                    names.append(intern(name))  # many folders have the same
                else:
                    problems.add(repr(entry.path), "is left out: it has a name that no asset can have")
    except (FileNotFoundError, NotADirectoryError):
        return _EMPTY
    except OSError as error:
        problems.add(folder, why_unreadable(error, folder))
    names.sort()
    return Listing(names, frozenset(others))


_EMPTY = Listing([], frozenset())


def folders_in(folder: str, problems: Problems) -> list[str]:
    """The names of the folders in a folder, sorted; without hidden names, and without names that no asset can have."""
    return listing(folder, problems).folders


def first_assets(found: Iterable[_T], folder: str, problems: Problems) -> list[_T]:
    """The first assets that were found in a folder, at most MAX_ASSETS."""
    taken = list(islice(found, MAX_ASSETS + 1))
    if len(taken) > MAX_ASSETS:
        problems.add(folder, f"has more than {MAX_ASSETS} assets: the rest is left out")
        del taken[MAX_ASSETS:]
    return taken
