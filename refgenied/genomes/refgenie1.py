"""The layout of refgenie 1, without YAML. `data/` holds the assets, and `alias/` holds their names.

It has three variants (REFGENIE.md): build files in the asset's `_refgenie_build`; build files in
`builds/ALIAS/GROUP/ASSET/`; and data folders that are named by their asset digest (64 hex digits).
"""

import os
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from refgenied.genomes.aliases import first_aliases
from refgenied.genomes.build_folder import Flags, why_unreadable
from refgenied.genomes.enclosure import shown
from refgenied.genomes.layout import Judgement, Sighting, Survey, build_folders, first_assets, folders_in
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import default_of, is_name
from refgenied.genomes.small_files import some_names
from refgenied.model import AssetKey, AssetState, Genome

_GENOME_DIGEST = re.compile(r"[A-Za-z0-9_-]{32}|[0-9a-f]{48}")
_ASSET_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_LINK_DEPTH = 20
"""The most folders inside one another in alias/."""
MAX_LINKS_IN_ALIAS = 1_000_000
"""The most links in alias/. refgenie 1 makes one link for each file."""


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
    """Where the links lead: all links of one name, or of all names of one asset."""

    places: tuple[_Place, ...]
    broken: str
    """A link without a target, or ""."""


class Refgenie1Layout:
    """One genome folder of refgenie 1."""

    title = "refgenie 1"

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._real_root = os.path.realpath(root)

    def survey(self, now: float) -> Survey:  # noqa: ARG002 - nothing here depends on the time
        problems = Problems()
        names = self._names(problems)
        places = self._places(problems)
        aliases = self._aliases(names, problems)
        builds = folders_in(f"{self._root}/builds", Problems())
        claimed = set(chain.from_iterable(aliases.values()))
        unclaimed, _ = first_aliases(alias for alias in builds if alias not in claimed)
        by_place: dict[_Place, dict[_Name, _Links]] = {}
        for name, links in names.items():
            for place in links.places:
                by_place.setdefault(place, {})[name] = links
        linked: dict[AssetKey, _Links] = {}
        sightings: dict[AssetKey, Sighting] = {}
        lost = by_place.keys() - set(places)  # data folders that links lead to, but that are not there
        for place in (*places, *sorted(lost)):
            called = by_place.get(place, {})
            # the first build of a genome runs before alias/ has a link from its alias to the genome
            known = aliases.get(place.digest, ())
            built_as = known or unclaimed
            asset = self._asset_name(place, called, names, built_as)
            key = AssetKey(place.digest, place.group, asset)
            folder = f"{self._root}/data/{'/'.join(place)}"
            if key in sightings:
                problems.add(folder, f"is left out: {sightings[key].folder} has the same name")
                continue
            sightings[key] = Sighting(key, folder, build_folders(self._root, folder, key, built_as), known)
            if called:
                linked[key] = _Links(
                    tuple({place for links in called.values() for place in links.places}),
                    next((links.broken for links in called.values() if links.broken), ""),
                )
        genomes = _genomes(sightings, aliases)
        return Survey(_LinkJudge(linked), sightings, genomes, problems.told(), self._watch(places))

    def _watch(self, places: list[_Place]) -> tuple[str, ...]:
        """builds/ and the upper levels of data/; never alias/."""
        data, builds = Path(self._root, "data"), Path(self._root, "builds")
        folders = {data, builds, *(data / p.digest for p in places), *(data / p.digest / p.group for p in places)}
        for alias in folders_in(str(builds), Problems()):
            groups = folders_in(str(builds / alias), Problems())
            folders |= {builds / alias, *(builds / alias / group for group in groups)}
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
        return first_assets(found, data, problems)

    def _asset_name(
        self,
        place: _Place,
        called: dict[_Name, _Links],
        names: dict[_Name, _Links],
        built_as: tuple[str, ...],
    ) -> str:
        """An asset's name: from its links; else from its build, if the folder is named by digest; else its folder."""
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
            taken[digest], left_out = first_aliases(sorted(aliases))
            if left_out:
                message = f"has too many aliases of {digest}: {left_out} of them are left out"
                problems.add(f"{self._root}/alias", message)
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
        room = MAX_LINKS_IN_ALIAS
        for name in first_assets(found, alias_folder, problems):
            names[name], room = self._links("/".join((alias_folder, *name)), room, problems)
            if not room:
                problems.add(alias_folder, f"holds more than {MAX_LINKS_IN_ALIAS} links: the rest is left out")
                break
        return names

    def _folders_inside(self, folder: str, problems: Problems) -> list[str]:
        """As `folders_in`, but a link that leads out of the genome folder is not followed."""
        if os.path.islink(folder) and not f"{os.path.realpath(folder)}/".startswith(f"{self._real_root}/"):
            problems.add(folder, "is left out: it is a link that leads out of the genome folder")
            return []
        return folders_in(folder, problems)

    def _links(self, folder: str, room: int, problems: Problems) -> tuple[_Links, int]:
        """Where the links in one folder of alias/ lead, and how many more may be read. The folder may be a link too."""
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
                elif depth < _MAX_LINK_DEPTH and os.path.isdir(path):
                    pending += [(f"{path}/{name}", depth + 1) for name in some_names(path, room)]
            except OSError as error:
                problems.add(path, why_unreadable(error, path))
        return _Links(tuple(sorted(places)), broken), room

    def _place_of(self, link: str) -> _Place | None:
        """The data folder of a link's target. If the text begins with the genome folder, only the text is used."""
        target = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
        if not target.startswith((f"{self._root}/", f"{self._real_root}/")):
            target = os.path.realpath(target)  # perhaps another spelling of the genome folder
        for root in (self._root, self._real_root):
            if target.startswith(f"{root}/data/"):
                parts = target.removeprefix(f"{root}/data/").split("/")
                if len(parts) >= 3 and all(is_name(part) for part in parts[:3]):
                    return _Place(*parts[:3])
        return None


class _LinkJudge:
    """Judges by the links that one survey found."""

    def __init__(self, linked: dict[AssetKey, _Links]) -> None:
        self._linked = linked

    def outdated(self) -> bool:
        return False

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:
        doubt = self._doubt(sighting)
        if flags.completed:
            if not doubt:
                return AssetState.COMPLETE, "built, and linked in alias/"
            if lately():
                return AssetState.BUILDING, f"being built: it has its completed flag, {doubt}"
            return AssetState.UNREGISTERED, f"complete on disk, {doubt}"
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


def _genomes(sightings: dict[AssetKey, Sighting], aliases: dict[str, tuple[str, ...]]) -> dict[str, Genome]:
    groups: dict[str, dict[str, list[str]]] = {}
    for key in sightings:
        groups.setdefault(key.genome_digest, {}).setdefault(key.asset_group, []).append(key.asset)
    genomes: dict[str, Genome] = {}
    for digest, assets_of in groups.items():
        defaults = {group: default for group, assets in assets_of.items() if (default := default_of(assets))}
        genomes[digest] = Genome(digest, aliases.get(digest, ()), default_assets=defaults)
    return genomes
