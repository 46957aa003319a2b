"""The layout of refgenie 1, without YAML. `data/` holds the assets, `alias/` says what they are called.

Three variants (REFGENIE.md): build side files in the asset's `_refgenie_build`, or in
`builds/ALIAS/GROUP/ASSET/`; and data folders that are named by their 64-hex asset digest.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from refgenied.genomes.aliases import bounded
from refgenied.genomes.build_folder import BUILD_FOLDER, unreadable
from refgenied.genomes.enclosure import absolute, shown, some_names
from refgenied.genomes.genome_config import MOST_ASSETS
from refgenied.genomes.layout import Judgement, Sighting, Survey
from refgenied.genomes.problems import Problems
from refgenied.genomes.refgenie0 import folders_in
from refgenied.genomes.registry_path import is_name
from refgenied.model import AssetKey, AssetState, Genome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from refgenied.genomes.build_folder import Flags

_GENOME_DIGEST = re.compile(r"[A-Za-z0-9_-]{32}|[0-9a-f]{48}")
_ASSET_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEEPEST_LINK = 20
_MOST_LINKS = 1_000_000  # in alias/: refgenie 1 makes one for each file


class _Place(NamedTuple):
    """One data folder: `data/DIGEST/GROUP/FOLDER`."""

    digest: str
    group: str
    folder: str


class _Name(NamedTuple):
    """One folder of links: `alias/ALIAS/GROUP/ASSET`."""

    alias: str
    group: str
    asset: str


class _Links(NamedTuple):
    """Where the links of one name lead."""

    places: tuple[_Place, ...]
    broken: str
    """A link that leads nowhere, or ""."""


class Refgenie1Layout:
    """One genome folder of refgenie 1."""

    title = "refgenie 1"

    def __init__(self, root: str) -> None:
        self._root = absolute(root)
        self._real_root = os.path.realpath(root)

    def survey(self, now: float) -> Survey:  # noqa: ARG002 - nothing here depends on the time
        problems = Problems()
        names = self._names(problems)
        places = self._places(problems)
        aliases = self._aliases(names, problems)
        claimed = {alias for known in aliases.values() for alias in known}
        unclaimed, _ = bounded(
            alias for alias in folders_in(f"{self._root}/builds", Problems()) if alias not in claimed
        )
        by_place: dict[_Place, dict[_Name, _Links]] = {}
        for name, links in names.items():
            for place in links.places:
                by_place.setdefault(place, {})[name] = links
        linked: dict[AssetKey, _Links] = {}
        sightings: dict[AssetKey, Sighting] = {}
        for place in (*places, *self._lost(names, places)):
            called = by_place.get(place, {})
            # the first build of a genome runs before alias/ says which genome its alias means
            known = aliases.get(place.digest, ())
            built_as = known or unclaimed
            asset = self._asset_name(place, called, names, built_as)
            key = AssetKey(place.digest, place.group, asset)
            folder = f"{self._root}/data/{place.digest}/{place.group}/{place.folder}"
            if key in sightings:
                problems.add(folder, f"is left out: {sightings[key].folder} has the same name")
                continue
            builds = [f"{self._root}/builds/{alias}/{place.group}/{asset}" for alias in built_as]
            sightings[key] = Sighting(key, folder, (f"{folder}/{BUILD_FOLDER}", *builds), known)
            if called:
                linked[key] = _Links(
                    tuple({p for links in called.values() for p in links.places}),
                    next((links.broken for links in called.values() if links.broken), ""),
                )
        genomes = _genomes(sightings, aliases)
        return Survey(_Judge(linked), sightings, genomes, problems.told(), self._watch(places))

    def _watch(self, places: list[_Place]) -> tuple[str, ...]:
        """builds/ and the upper levels of data/; never alias/."""
        data, builds = Path(self._root, "data"), Path(self._root, "builds")
        folders = [data, builds]
        folders += [data / digest for digest in {place.digest for place in places}]
        folders += [data / d / g for d, g in {(place.digest, place.group) for place in places}]
        for alias in folders_in(str(builds), Problems()):
            folders.append(builds / alias)
            folders += [builds / alias / group for group in folders_in(str(builds / alias), Problems())]
        return tuple(sorted(str(folder) for folder in folders if folder.is_dir()))

    def _places(self, problems: Problems) -> list[_Place]:
        data = f"{self._root}/data"
        found = (
            _Place(digest, group, folder)
            for digest in folders_in(data, problems)
            if _GENOME_DIGEST.fullmatch(digest)
            for group in folders_in(f"{data}/{digest}", problems)
            for folder in folders_in(f"{data}/{digest}/{group}", problems)
        )
        return _bounded(found, data, problems)

    def _lost(self, names: dict[_Name, _Links], places: list[_Place]) -> list[_Place]:
        """Data folders that links lead to, but that are not there."""
        there = set(places)
        return sorted({place for links in names.values() for place in links.places if place not in there})

    def _asset_name(
        self,
        place: _Place,
        called: dict[_Name, _Links],
        names: dict[_Name, _Links],
        built_as: tuple[str, ...],
    ) -> str:
        """What an asset is called: as its links say; of a folder named by digest also as its build says."""
        if called:
            return min(name.asset for name in called)
        if _ASSET_DIGEST.fullmatch(place.folder):
            built = {
                asset
                for alias in built_as
                for asset in folders_in(f"{self._root}/builds/{alias}/{place.group}", Problems())
                if _Name(alias, place.group, asset) not in names
            }
            if len(built) == 1:
                return built.pop()
        return place.folder

    def _aliases(self, names: dict[_Name, _Links], problems: Problems) -> dict[str, tuple[str, ...]]:
        found: dict[str, set[str]] = {}
        for name, links in names.items():
            for place in links.places:
                found.setdefault(place.digest, set()).add(name.alias)
        taken: dict[str, tuple[str, ...]] = {}
        for digest, aliases in found.items():
            taken[digest], beyond = bounded(sorted(aliases))
            if beyond:
                problems.add(f"{self._root}/alias", f"has too many aliases of {digest}: {beyond} of them are left out")
        return taken

    def _names(self, problems: Problems) -> dict[_Name, _Links]:
        alias_folder = f"{self._root}/alias"
        found = (
            _Name(alias, group, asset)
            for alias in self._folders_inside(alias_folder, problems)
            for group in self._folders_inside(f"{alias_folder}/{alias}", problems)
            for asset in self._folders_inside(f"{alias_folder}/{alias}/{group}", problems)
        )
        names: dict[_Name, _Links] = {}
        room = _MOST_LINKS
        for name in _bounded(found, alias_folder, problems):
            names[name], room = self._links("/".join((alias_folder, *name)), room, problems)
            if not room:
                problems.add(alias_folder, f"holds more than {_MOST_LINKS} links: the rest is left out")
                break
        return names

    def _folders_inside(self, folder: str, problems: Problems) -> list[str]:
        """Those of a folder in the genome folder; a link that leads out is not followed."""
        if os.path.islink(folder) and not f"{os.path.realpath(folder)}/".startswith(f"{self._real_root}/"):
            problems.add(folder, "is left out: it is a link that leads out of the genome folder")
            return []
        return folders_in(folder, problems)

    def _links(self, folder: str, room: int, problems: Problems) -> tuple[_Links, int]:
        """Where the links in one folder of alias/ lead, and the room that is left. The folder may be a link itself."""
        places: set[_Place] = set()
        broken = ""
        pending = [(folder, 0)]
        while pending and room:
            path, depth = pending.pop()
            room -= 1
            try:
                if os.path.islink(path):
                    place = self._place_of(path)
                    if place:
                        places.add(place)
                    if not os.path.exists(path):
                        broken = broken or path
                elif depth < _DEEPEST_LINK and os.path.isdir(path):
                    pending += [(f"{path}/{name}", depth + 1) for name in some_names(path, room)]
            except OSError as error:
                problems.add(path, unreadable(error, path))
        return _Links(tuple(sorted(places)), broken), room

    def _place_of(self, link: str) -> _Place | None:
        """The data folder that a link leads into, by its text alone when that begins with the genome folder."""
        target = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
        if not target.startswith((f"{self._root}/", f"{self._real_root}/")):
            target = os.path.realpath(target)  # another spelling of the genome folder, perhaps
        for root in (self._root, self._real_root):
            if target.startswith(f"{root}/data/"):
                parts = target[len(root) + 6 :].split("/")
                if len(parts) >= 3 and all(is_name(part) for part in parts[:3]):
                    return _Place(*parts[:3])
        return None


class _Judge:
    """Judges by the links that one survey found."""

    def __init__(self, linked: dict[AssetKey, _Links]) -> None:
        self._linked = linked

    def outdated(self) -> bool:
        return False

    def finished(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        doubt = self._doubt(sighting)
        if not doubt:
            return AssetState.COMPLETE, "built, and linked in alias/"
        if lately():
            return AssetState.BUILDING, f"being built: it has its completed flag, {doubt}"
        return AssetState.UNREGISTERED, f"complete on disk, {doubt}"

    def unbuilt(self, sighting: Sighting, lately: Callable[[], bool]) -> Judgement:
        doubt = self._doubt(sighting)
        if not doubt:
            return AssetState.PULLED, "downloaded with refgenie1 pull: no build flags"
        if lately():
            return AssetState.BUILDING, f"being built or downloaded: it has no build flags, {doubt}"
        return AssetState.INTERRUPTED, f"neither built nor downloaded whole: it has no build flags, {doubt}"

    def _doubt(self, sighting: Sighting) -> str:
        links = self._linked.get(sighting.key)
        if links is None:
            return "but alias/ has no links to it"
        if links.broken:
            return f"but {shown(links.broken)} leads nowhere"
        if len(links.places) > 1:
            return "but its links in alias/ lead into other folders too"
        return ""


_T = TypeVar("_T")


def _bounded(found: Iterable[_T], folder: str, problems: Problems) -> list[_T]:
    taken = list(islice(found, MOST_ASSETS + 1))
    if len(taken) > MOST_ASSETS:
        problems.add(folder, f"has more than {MOST_ASSETS} assets: the rest is left out")
        del taken[MOST_ASSETS:]
    return taken


def _genomes(sightings: dict[AssetKey, Sighting], aliases: dict[str, tuple[str, ...]]) -> dict[str, Genome]:
    groups: dict[tuple[str, str], list[str]] = {}
    for key in sightings:
        groups.setdefault((key.genome_digest, key.asset_group), []).append(key.asset)
    defaults: dict[str, dict[str, str]] = {}
    for (digest, group), assets in groups.items():
        of_genome = defaults.setdefault(digest, {})
        if "default" in assets or len(assets) == 1:
            of_genome[group] = "default" if "default" in assets else assets[0]
    return {
        digest: Genome(digest, aliases.get(digest, ()), default_assets=of_genome)
        for digest, of_genome in defaults.items()
    }
