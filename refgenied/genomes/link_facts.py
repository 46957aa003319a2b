"""What the links in alias/ and the folders in data/ of refgenie 1 say: data folders, names, aliases, keys."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Self

from refgenied.genomes.alias_links import AliasFolder, Links, Name, Place
from refgenied.genomes.aliases import first_aliases
from refgenied.genomes.kept_folder import CLOCK_SECONDS, KeptFolder
from refgenied.genomes.layout import first_assets, folders_in
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import default_of, is_name
from refgenied.model import AssetKey, Genome, Problem

_GENOME_DIGEST = re.compile(r"[A-Za-z0-9_-]{32}|[0-9a-f]{48}")
_ASSET_DIGEST = re.compile(r"[0-9a-f]{64}")


class LinkFacts:
    """Read from the whole genome folder by `whole`."""

    def __init__(self, root: str, alias: AliasFolder, builds: KeptFolder) -> None:
        self._root = root
        self._alias = alias
        self._builds = builds
        self._began = time.time() - CLOCK_SECONDS
        """What has changed later than this (Unix seconds) may have been read before."""
        self._names: dict[Name, Links] = {}
        self._called: dict[Place, tuple[Name, ...]] = {}
        """The names whose links lead to a data folder."""
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._claimed: frozenset[str] = frozenset()
        """The aliases of all genomes."""
        self._listed: tuple[str, ...] = ()
        """The folders in builds/."""
        self._unclaimed: tuple[str, ...] = ()
        """The aliases in builds/ without a link: the first build of a genome has no other name."""
        self._places: dict[AssetKey, Place] = {}
        self._keys: dict[Place, AssetKey] = {}
        self._left_out: dict[Place, Place] = {}
        """The data folders whose key another one has, and the other one."""
        self._nameless: frozenset[Place] = frozenset()
        """The data folders without a name that are called by their asset digest: their builds may give them a key."""
        self.genomes: dict[str, Genome] = {}
        self.problems: tuple[Problem, ...] = ()
        self.watch: tuple[str, ...] = ()
        self._watched: frozenset[str] = frozenset()
        """The same."""

    @classmethod
    def whole(cls, root: str, alias: AliasFolder, builds: KeptFolder) -> Self:
        """Read everything."""
        survey = cls(root, alias, builds)
        problems = Problems()
        survey._names = alias.names(problems)
        there = survey._data_folders(problems)
        same = {place: place for place in there}  # one object for a place, and one for what its names say
        called: dict[Place, list[Name]] = {}
        for name, links in survey._names.items():
            places = tuple(same.setdefault(place, place) for place in links.places)
            survey._names[name] = links._replace(places=places)
            for place in places:
                called.setdefault(place, []).append(name)
        survey._called = {place: tuple(names) for place, names in called.items()}
        survey._aliases = survey._all_aliases(problems)
        survey._listed = builds.names(anew=True)
        survey._claim()
        survey._name_all(there, problems)
        survey._nameless = frozenset(filter(survey._is_nameless, there))
        survey.genomes = survey._genomes_of(survey._places, {})
        survey.problems = problems.told()
        survey.watch_too(survey._watch())
        return survey

    # ----------------------------------------------------------------- reading all

    def _data_folders(self, problems: Problems) -> list[Place]:
        """The data folders. The folders above them are watched, also those that are empty now."""
        data = f"{self._root}/data"
        above: set[str] = set()

        def found() -> Iterator[Place]:
            for digest in folders_in(data, problems):
                if _GENOME_DIGEST.fullmatch(digest):
                    above.add(f"{data}/{digest}")
                    for group in folders_in(f"{data}/{digest}", problems):
                        above.add(f"{data}/{digest}/{group}")
                        for folder in folders_in(f"{data}/{digest}/{group}", problems):
                            yield Place(digest, group, folder)

        places = first_assets(found(), data, problems)
        self.watch_too(above)
        return places

    def _all_aliases(self, problems: Problems) -> dict[str, tuple[str, ...]]:
        found: dict[str, set[str]] = {}
        for name, links in self._names.items():
            for place in links.places:
                found.setdefault(place.digest, set()).add(name.alias)
        taken: dict[str, tuple[str, ...]] = {}
        for digest, aliases in found.items():
            taken[digest], left_out = first_aliases(sorted(aliases))
            if left_out:
                message = f"has too many aliases of {digest}: {left_out} of them are left out"
                problems.add(f"{self._root}/alias", message)
        return taken

    def _claim(self) -> None:
        self._claimed = frozenset(alias for aliases in self._aliases.values() for alias in aliases)
        self._unclaimed = self._unclaimed_of(self._listed)

    def _unclaimed_of(self, builds: tuple[str, ...]) -> tuple[str, ...]:
        """The first of these folders in builds/ that are no alias of any genome."""
        return first_aliases(alias for alias in builds if alias not in self._claimed)[0]

    def _is_nameless(self, place: Place) -> bool:
        return place not in self._called and _ASSET_DIGEST.fullmatch(place.folder) is not None

    def _name_all(self, there: list[Place], problems: Problems) -> None:
        lost = self._called.keys() - set(there)  # data folders that links lead to, but that are not there
        built: dict[tuple[str, str], set[str]] = {}
        for place in (*there, *sorted(lost)):
            key = self._key_of(place, built)
            if key in self._places:
                folders = [f"{self._root}/data/{'/'.join(one)}" for one in (place, self._places[key])]
                problems.add(folders[0], f"is left out: {folders[1]} has the same name")
                self._left_out[place] = self._places[key]
                continue
            self._places[key] = place
            self._keys[place] = key

    def _key_of(self, place: Place, built: dict[tuple[str, str], set[str]]) -> AssetKey:
        """An asset's name: from its links; else from its build, if the folder is named by digest; else its folder.

        `built` keeps, for each genome and group, the builds that have no links yet.
        """
        called = self._called.get(place)
        asset = place.folder
        if called:
            asset = min(name.asset for name in called)
        elif _ASSET_DIGEST.fullmatch(place.folder):
            at = place.digest, place.group
            if at not in built:
                built[at] = self._built(*at)
            if len(built[at]) == 1:
                (asset,) = built[at]
        return AssetKey(place.digest, place.group, asset)

    def _built(self, digest: str, group: str) -> set[str]:
        return {
            asset
            for alias in self._aliases.get(digest) or self._unclaimed
            for asset in folders_in(f"{self._root}/builds/{alias}/{group}", Problems())
            if Name(alias, group, asset) not in self._names
        }

    def _watch(self) -> set[str]:
        """builds/, what is above its builds, and data/; never alias/."""
        tops = (f"{self._root}/data", f"{self._root}/builds")
        return set(filter(os.path.isdir, tops)).union(*map(self._builds_of, self._listed))

    def watch_too(self, folders: set[str]) -> None:
        """Watch these folders too."""
        self._watched |= folders
        self.watch = tuple(sorted(self._watched))

    def _watched_too(self, builds: tuple[str, ...], noticed: Iterable[tuple[str, ...]]) -> set[str]:
        """The folders to watch that are new, as far as the names that lead to what was noticed tell."""
        watch: set[str] = set()
        for names in noticed:
            is_upper = names[0] == "builds" or (names[0] == "data" and _GENOME_DIGEST.fullmatch("".join(names[1:2])))
            if is_upper and all(is_name(name) and not name.startswith(".") for name in names):
                paths = ["/".join((self._root, *names[:depth])) for depth in range(1, len(names) + 1)]
                if len(names) == 2:
                    paths += [f"{paths[-1]}/{group}" for group in folders_in(paths[-1], Problems())]
                watch |= {path for path in paths if os.path.isdir(path)}
        if builds is not self._listed:
            watch = watch.union(*map(self._builds_of, set(builds).difference(self._listed)))
        return watch

    def _builds_of(self, alias: str) -> set[str]:
        """The folders to watch for the builds under one alias."""
        builds = f"{self._root}/builds/{alias}"
        return {builds, *(f"{builds}/{group}" for group in folders_in(builds, Problems()))}

    def _genomes_of(self, keys: Iterable[AssetKey], before: dict[str, Genome]) -> dict[str, Genome]:
        groups: dict[str, dict[str, list[str]]] = {}
        for key in keys:
            groups.setdefault(key.genome_digest, {}).setdefault(key.asset_group, []).append(key.asset)
        genomes: dict[str, Genome] = {}
        for digest, assets_of in groups.items():
            defaults = {group: default for group, assets in assets_of.items() if (default := default_of(assets))}
            genome = Genome(digest, self._aliases.get(digest, ()), default_assets=defaults)
            known = before.get(digest)
            genomes[digest] = known if known == genome and known else genome
        return genomes

    def _is_there(self, place: Place) -> bool:
        return (
            _GENOME_DIGEST.fullmatch(place.digest) is not None
            and all(is_name(name) and not name.startswith(".") for name in place)
            and os.path.isdir(f"{self._root}/data/{'/'.join(place)}")
        )
