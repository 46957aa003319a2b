"""A survey of refgenie 1's layout, and the next one made from it at the cost of what has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

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

    def again(self, places: set[Place], built: set[Name]) -> tuple[LinkSurvey, set[AssetKey]] | None:
        """Read the links to these data folders again, and those of these builds; all else is as in this survey.

        With it come the keys of the assets that may have changed. None: what was read changes more than this.
        """
        problems = Problems()  # a full survey tells them
        places = places | self._built_in(built)
        names = built.union(*(self._names_for(place, problems) for place in places))
        read = {name: self._alias.links_of(name, problems) for name in names}
        changed = {name: links for name, links in read.items() if links != self._names.get(name)}
        known = [self._names[name] for name in read if name in self._names]
        affected = places.union(*(links.places for links in (*known, *read.values()) if links))
        moved = {place for place in affected if (place in self._keys) is not self._is_there(place)}
        if not changed and not (moved - self._called.keys()):
            return self, {self._keys[place] for place in affected if place in self._keys}
        following = self._copy()
        following.take(changed)
        digests = following.name_genomes(affected)
        if digests is None:
            return None
        affected |= {place for place in self._keys if place.digest in digests}
        return following.renamed(self, affected)

    def _copy(self) -> LinkSurvey:
        copy = LinkSurvey(self._root, self._alias)
        copy._names, copy._called, copy._aliases = dict(self._names), dict(self._called), dict(self._aliases)
        copy._places, copy._keys = dict(self._places), dict(self._keys)
        copy._unclaimed, copy.genomes, copy.problems, copy.watch = (
            self._unclaimed, self.genomes, self.problems, self.watch
        )  # fmt: skip
        return copy

    def _built_in(self, names: set[Name]) -> set[Place]:
        """The data folders of these builds, as far as they can be told."""
        groups = {name.group for name in names}
        return {
            place
            for place in (self._keys if names else ())
            if place.group in groups
            and (place not in self._called or not names.isdisjoint(self._called[place]))
            and any(name.alias in (self._aliases.get(place.digest) or self._unclaimed) for name in names)
        }

    def _names_for(self, place: Place, problems: Problems) -> set[Name]:
        """The names that lead to a data folder, or may do so now."""
        if place in self._called:
            return set(self._called[place])
        aliases = self._aliases.get(place.digest)
        if aliases is None:
            claimed = {alias for known in self._aliases.values() for alias in known}
            aliases = tuple(alias for alias in self._alias.folders(problems) if alias not in claimed)
        found = (
            Name(alias, place.group, asset)
            for alias in aliases
            for asset in self._alias.folders(problems, alias, place.group)
        )
        return {name for name in found if name not in self._names}

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

    def name_genomes(self, places: set[Place]) -> set[str] | None:
        """Give genomes without an alias the aliases of their first links, and return these genomes.

        None: a genome has one more alias, or one less, so each of its assets has.
        """
        found: dict[str, set[str]] = {}
        for place in places:
            found.setdefault(place.digest, set()).update(name.alias for name in self._called.get(place, ()))
        new = {digest: aliases for digest, aliases in found.items() if aliases and digest not in self._aliases}
        if any(not aliases <= set(self._aliases.get(digest, aliases)) for digest, aliases in found.items()):
            return None
        for digest, aliases in new.items():
            self._aliases[digest] = first_aliases(sorted(aliases))[0]
        if new or not all(digest in self._aliases for digest in found):
            self._unclaimed = self._unclaimed_now()
        return set(new)

    def renamed(self, before: LinkSurvey, places: set[Place]) -> tuple[LinkSurvey, set[AssetKey]] | None:
        """Give the assets at these places their keys. None: two have the same."""
        changed = {self._keys.pop(place) for place in places if place in self._keys}
        for key in changed:
            del self._places[key]
        built: dict[tuple[str, str], set[str]] = {}
        watch: set[str] = set()
        for place in sorted(places):
            if place in self._called or self._is_there(place):
                key = self._key_of(place, built)
                if key in self._places:
                    return None
                self._places[key] = place
                self._keys[place] = key
                changed.add(key)
                watch |= self._beside(place)
        if not watch <= (known := set(self.watch)):
            self.watch = tuple(sorted(known | watch))
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
