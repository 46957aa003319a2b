"""A survey of refgenie 1's layout, and the next one made from it at the cost of what has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet

from refgenied.genomes.alias_links import Links, Name, Place
from refgenied.genomes.aliases import first_aliases
from refgenied.genomes.build_folder import Flags
from refgenied.genomes.enclosure import shown
from refgenied.genomes.layout import Judgement, Sighting, build_folders
from refgenied.genomes.link_facts import LinkFacts
from refgenied.genomes.problems import Problems
from refgenied.model import AssetKey, AssetState


class LinkSurvey(LinkFacts):
    """See `layout.Survey`. A survey that is kept never changes; `again` makes another one."""

    servers: tuple[str, ...] = ()
    config_version = ""

    def place_of(self, key: AssetKey) -> Place | None:
        """The data folder of an asset."""
        return self._places.get(key)

    def places_below(self, folders: Collection[tuple[str, ...]]) -> set[Place]:
        """The data folders that this survey knows below these folders of data/, which are gone. It looks at all."""
        return (
            {place for place in self._keys if any(place[: len(names)] == names for names in folders)}
            if folders
            else set()
        )

    def all(self) -> Iterator[Sighting]:
        return (self._sighting(key, place) for key, place in self._places.items())

    def one(self, key: AssetKey) -> Sighting | None:
        place = self._places.get(key)
        return self._sighting(key, place) if place else None

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
        names = self._called.get(self._places[sighting.key], ())
        if not names:
            return "but alias/ has no links to it"
        links = [self._names[name] for name in names]
        broken = next((one.broken for one in links if one.broken), "")
        if broken:
            return f"but {shown(broken)} leads nowhere"
        if len({place for one in links for place in one.places}) > 1:
            return "but its links in alias/ lead into other folders too"
        return ""

    def _sighting(self, key: AssetKey, place: Place) -> Sighting:
        folder = f"{self._root}/data/{'/'.join(place)}"
        known = self._aliases.get(place.digest, ())
        return Sighting(key, folder, build_folders(self._root, folder, key, known or self._unclaimed), known)

    # ----------------------------------------------------------------- reading what may have changed

    def again(
        self,
        places: set[Place],
        noticed: AbstractSet[Place] = frozenset(),
        built: AbstractSet[Name] = frozenset(),
        folders: Iterable[tuple[str, ...]] = (),
        *,
        alone: bool = False,
    ) -> tuple[LinkSurvey, set[AssetKey]] | None:
        """Read the links to these data folders again, and those of these builds; all else is as in this survey.

        With it come the keys of the assets that may have changed. None: what was read changes more than this.
        `noticed`: data folders to which a new link may lead too. `folders`: the names that lead to what was noticed,
        three at most. `alone`: only one asset is asked for; what changes other assets too is left to the next look.
        """
        problems = Problems()  # a full survey tells them
        listed = self._builds.names()
        unclaimed = self._unclaimed if listed is self._listed else self._unclaimed_of(listed)
        noticed = noticed | self._built_in(built, unclaimed)
        joined = self._joined(places | noticed, built, unclaimed)
        if joined and not alone:
            return None
        names = built | self._names_for(places | noticed, noticed, problems) | self._names_of(places, joined)
        read = {name: self._alias.links_of(name, problems) for name in names}
        changed = {name: links for name, links in read.items() if links != self._names.get(name)}
        known = [self._names[name] for name in read if name in self._names]
        affected = places.union(noticed, *(links.places for links in (*known, *read.values()) if links))
        groups = {place[:2] for place in affected}
        affected |= {place for place in (*self._nameless, *self._left_out) if place[:2] in groups}
        if unclaimed != self._unclaimed:
            affected |= {place for place in self._keys if place.digest not in self._aliases}
        moved = {place for place in affected if self._is_known(place) is not self._is_there(place)}
        watch = self._watched_too(listed, folders) if not alone else set[str]()
        following = self
        if unclaimed != self._unclaimed or (listed is not self._listed and not alone) or watch - self._watched:
            following = self._copy(listed, unclaimed, watch)
        if not (
            changed
            or joined
            or any(place not in self._called for place in moved)
            or following.calls_otherwise(affected)
        ):
            return following, {self._keys[place] for place in affected if place in self._keys}
        following = self._copy(listed, unclaimed, watch) if following is self else following
        following.take(changed)
        digests = following.name_genomes(affected, self._lost(changed, following), joined, alone=alone)
        if digests is None:
            return None
        affected |= {place for place in (*self._keys, *self._left_out) if place.digest in digests}
        return following.renamed(self, affected)

    def _copy(self, listed: tuple[str, ...], unclaimed: tuple[str, ...], watch: set[str]) -> LinkSurvey:
        copy = LinkSurvey(self._root, self._alias, self._builds)
        copy._names, copy._called, copy._aliases = dict(self._names), dict(self._called), dict(self._aliases)
        copy._places, copy._keys, copy._nameless = dict(self._places), dict(self._keys), self._nameless
        copy._left_out = dict(self._left_out)
        copy._claimed, copy._listed, copy._unclaimed = self._claimed, listed, unclaimed
        copy.genomes, copy.problems, copy._began = self.genomes, self.problems, self._began
        copy.watch, copy._watched = self.watch, self._watched
        if watch - self._watched:
            copy.watch_too(watch)
        return copy

    def _built_in(self, names: AbstractSet[Name], unclaimed: tuple[str, ...]) -> set[Place]:
        """The data folders of these builds, as far as they can be told."""
        groups = {name.group for name in names}
        return {
            place
            for place in (self._keys if names else ())
            if place.group in groups
            and (place not in self._called or not names.isdisjoint(self._called[place]))
            and any(name.alias in (self._aliases.get(place.digest) or unclaimed) for name in names)
        }

    def _joined(
        self, places: AbstractSet[Place], built: AbstractSet[Name], unclaimed: tuple[str, ...]
    ) -> dict[str, set[str]]:
        """The aliases that genomes with an alias got lately and that have builds of these assets, by genome."""
        wanted: dict[str, set[str]] = {}
        for place in places:
            key = self._keys.get(place)
            for alias in unclaimed if key and place.digest in self._aliases else ():
                if key and os.path.isdir(f"{self._root}/builds/{alias}/{key.asset_group}/{key.asset}"):
                    wanted.setdefault(alias, set()).add(place.digest)
        for alias in {name.alias for name in built}.intersection(unclaimed):
            wanted.setdefault(alias, set()).update(self._aliases)
        joined: dict[str, set[str]] = {}
        for alias, digests in wanted.items():
            for digest in self._alias.digests_of(alias) & digests:
                joined.setdefault(digest, set()).add(alias)
        return joined

    def _names_of(self, places: AbstractSet[Place], joined: dict[str, set[str]]) -> set[Name]:
        """The names of these assets under aliases that are new."""
        return {
            Name(alias, place.group, key.asset)
            for place in places
            if (key := self._keys.get(place))
            for alias in joined.get(place.digest, ())
        }

    def _names_for(self, places: AbstractSet[Place], noticed: AbstractSet[Place], problems: Problems) -> set[Name]:
        """The names that lead to data folders. For those without a name, and noticed ones, also what may do so now."""
        names = {name for place in places for name in self._called.get(place, ())}
        groups = {(place.digest, place.group) for place in places if place in noticed or place not in self._called}
        strange = [alias for alias in self._alias.aliases() if alias not in self._claimed] if groups else []
        for digest, group in groups:
            for alias in dict.fromkeys((*self._aliases.get(digest, ()), *strange)):
                for asset in self._alias.folders(problems, alias, group):
                    name = Name(alias, group, asset)
                    if name not in self._names or self._alias.changed_since(name, self._began):
                        names.add(name)
        return names

    def calls_otherwise(self, places: set[Place]) -> bool:
        """Whether builds give one of these data folders another name than before."""
        built: dict[tuple[str, str], set[str]] = {}
        return any(
            self._key_of(place, built) != self._keys.get(self._left_out.get(place, place))
            for place in self._nameless & places
            if self._is_known(place)
        )

    def _is_known(self, place: Place) -> bool:
        return place in self._keys or place in self._left_out

    def take(self, changed: dict[Name, Links | None]) -> None:
        for name, links in changed.items():
            old = self._names.pop(name, None)
            for place in old.places if old else ():
                left = tuple(one for one in self._called[place] if one != name)
                self._called[place] = left
                if not left:
                    del self._called[place]
            if links:
                self._names[name] = links
            for place in links.places if links else ():
                self._called[place] = tuple(sorted((*self._called.get(place, ()), name)))

    def _lost(self, changed: Iterable[Name], following: LinkSurvey) -> dict[str, set[str]]:
        """The aliases that genomes have no longer, as far as these names tell, by genome."""
        may_be = {
            (place.digest, name.alias) for name in changed if name in self._names for place in self._names[name].places
        }
        for name, links in following._names.items() if may_be else ():
            if self._alias.has(name.alias):
                may_be.difference_update((place.digest, name.alias) for place in links.places)
        lost: dict[str, set[str]] = {}
        for digest, alias in may_be:
            lost.setdefault(digest, set()).add(alias)
        return lost

    def name_genomes(
        self, places: set[Place], lost: dict[str, set[str]], joined: dict[str, set[str]], *, alone: bool
    ) -> set[str] | None:
        """Give genomes without an alias the aliases of their first links, and return the genomes that this changes.

        None: a genome has one more alias, or one less, so each of its assets has.
        """
        found: dict[str, set[str]] = {digest: set(aliases) for digest, aliases in joined.items()}
        for place in places:
            found.setdefault(place.digest, set()).update(name.alias for name in self._called.get(place, ()))
        changed: set[str] = set()
        for digest, aliases in found.items():
            old = set(self._aliases.get(digest, ()))
            new = (old | aliases) - lost.get(digest, set())
            if new == old:
                continue
            if old and not alone:
                return None
            changed.add(digest)
            self._aliases[digest] = first_aliases(sorted(new))[0]
            if not new:
                del self._aliases[digest]
        unclaimed = self._unclaimed
        if changed:
            self._claim()
        if unclaimed != self._unclaimed:
            changed |= {place.digest for place in self._keys if place.digest not in self._aliases}
        return changed

    def renamed(self, before: LinkSurvey, places: set[Place]) -> tuple[LinkSurvey, set[AssetKey]] | None:
        """Give the assets at these places their keys. None: two have the same, which was not so before."""
        changed = {self._keys.pop(place) for place in places if place in self._keys}
        for key in changed:
            del self._places[key]
        built: dict[tuple[str, str], set[str]] = {}
        watch: set[str] = set()
        there = {place: self._is_there(place) for place in places}
        for place in sorted(places, key=lambda place: (not there[place], place)):
            other = self._left_out.pop(place, None)
            if place in self._called or there[place]:
                key = self._key_of(place, built)
                if key in self._places:
                    if other is None or self._places[key] != other:
                        return None
                    self._left_out[place] = other
                    continue
                self._places[key] = place
                self._keys[place] = key
                changed.add(key)
                watch |= self._beside(place)
        self._nameless = (self._nameless - places) | {
            place for place in places if self._is_known(place) and self._is_nameless(place)
        }
        if watch - self._watched:
            self.watch_too(watch)
        digests = {key.genome_digest for key in changed}
        keys = (key for key in self._places if key.genome_digest in digests)
        others = {digest: genome for digest, genome in self.genomes.items() if digest not in digests}
        self.genomes = others | self._genomes_of(keys, before.genomes)
        return self, changed

    def _beside(self, place: Place) -> set[str]:
        """The folders to watch for one asset."""
        data, builds = f"{self._root}/data", f"{self._root}/builds"
        folders = {data, f"{data}/{place.digest}", f"{data}/{place.digest}/{place.group}"}
        for alias in self._aliases.get(place.digest) or self._unclaimed:
            folders |= {builds, f"{builds}/{alias}", f"{builds}/{alias}/{place.group}"}
        return {folder for folder in folders if os.path.isdir(folder)}
