"""Reads the links in alias/ of refgenie 1: which data folder each name means."""

import os
from collections.abc import Iterator
from itertools import islice
from sys import intern
from typing import NamedTuple

from refgenied.genomes.build_folder import why_unreadable
from refgenied.genomes.kept_folder import KeptFolder
from refgenied.genomes.layout import first_assets, folders_in
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name

_MAX_LINK_DEPTH = 20
"""The most folders inside one another in alias/."""
MAX_LINKS_IN_ALIAS = 1_000_000
"""The most links in alias/. refgenie 1 makes one link for each file."""


_FIRST_NAMES = 8
"""The names of an alias that tell which genomes it belongs to; those of one alias belong to the same."""
_NAME_DEPTH = 4
"""The folders from the genome folder into one name: alias, ALIAS, GROUP, ASSET."""
_ODD_STEPS = frozenset({"", ".", ".."})


class Place(NamedTuple):
    """One data folder: `data/DIGEST/GROUP/FOLDER`."""

    digest: str
    group: str
    folder: str


class Name(NamedTuple):
    """One folder of links: `alias/ALIAS/GROUP/ASSET`."""

    alias: str
    group: str
    asset: str


class Links(NamedTuple):
    """Where the links lead: all links of one name, or of all names of one asset."""

    places: tuple[Place, ...]
    broken: str
    """A link without a target, or ""."""


class AliasFolder:
    """alias/ of one genome folder."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._alias = f"{root}/alias"
        self._kept = KeptFolder(self._alias)

    def aliases(self) -> tuple[str, ...]:
        """The names of the folders in alias/, listed again only when alias/ has changed."""
        return () if self._leads_out(self._alias) else self._kept.names()

    def digests_of(self, alias: str) -> set[str]:
        """The genomes to which the first names of an alias lead. The cost does not depend on the number of names."""
        names = islice(self._names_of(alias, problems := Problems()), _FIRST_NAMES)
        found = [self.links_of(name, problems) for name in names]
        return {place.digest for links in found if links for place in links.places}

    def changed_since(self, name: Name, since: float) -> bool:
        """Whether a link was made or removed in the folder of a name since then (Unix seconds), or it is gone."""
        try:
            info = os.lstat("/".join((self._alias, *name)))
        except OSError:
            return True
        return max(info.st_mtime, info.st_ctime) > since

    def has(self, alias: str) -> bool:
        """Whether there is a folder for an alias."""
        return os.path.isdir(f"{self._alias}/{alias}")

    def names(self, problems: Problems) -> dict[Name, Links]:
        """Every name in alias/, and where its links lead."""
        found = (name for alias in self.folders(problems) for name in self._names_of(alias, problems))
        names: dict[Name, Links] = {}
        room = MAX_LINKS_IN_ALIAS
        for name in first_assets(found, self._alias, problems):
            names[name], room = self._links("/".join((self._alias, *name)), room, problems)
            if not room:
                problems.add(self._alias, f"holds more than {MAX_LINKS_IN_ALIAS} links: the rest is left out")
                break
        return names

    def _names_of(self, alias: str, problems: Problems) -> Iterator[Name]:
        for group in self.folders(problems, alias):
            for asset in self.folders(problems, alias, group):
                yield Name(alias, group, asset)

    def links_of(self, name: Name, problems: Problems) -> Links | None:
        """Where the links of one name lead now; None when there is no such name."""
        above = (self._alias, f"{self._alias}/{name.alias}", f"{self._alias}/{name.alias}/{name.group}")
        folder = f"{above[-1]}/{name.asset}"
        could_be = all(is_name(part) and not part.startswith(".") for part in name)
        if not could_be or not os.path.isdir(folder) or any(self._leads_out(path) for path in above):
            return None
        return self._links(folder, MAX_LINKS_IN_ALIAS, problems)[0]

    def folders(self, problems: Problems, *below: str) -> list[str]:
        """The names of the folders in alias/, or in a folder below it. A link that leads out is not followed."""
        folder = "/".join((self._alias, *below))
        if self._leads_out(folder):
            problems.add(folder, "is left out: it is a link that leads out of the genome folder")
            return []
        return folders_in(folder, problems)

    def _leads_out(self, folder: str) -> bool:
        return os.path.islink(folder) and not f"{os.path.realpath(folder)}/".startswith(f"{self._real_root}/")

    def _links(self, folder: str, room: int, problems: Problems) -> tuple[Links, int]:
        """Where the links in one folder of alias/ lead, and how many more may be read. The folder may be a link too."""
        places: set[Place] = set()
        broken: list[str] = []
        pending = [(folder, 0)]
        if os.path.islink(folder):
            pending = []
            room -= 1
            self._note(folder, _NAME_DEPTH - 1, places, broken, problems)
        while pending and room > 0:
            path, depth = pending.pop()
            room -= 1
            try:
                with os.scandir(path) as entries:
                    for entry in islice(entries, room):
                        if entry.is_symlink():
                            room -= 1
                            self._note(entry.path, _NAME_DEPTH + depth, places, broken, problems)
                        elif depth < _MAX_LINK_DEPTH and entry.is_dir(follow_symlinks=False):
                            pending.append((entry.path, depth + 1))
                        else:
                            room -= 1
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                problems.add(path, why_unreadable(error, path))
        return Links(tuple(sorted(places)), min(broken, default="")), max(room, 0)

    def _note(self, link: str, depth: int, places: set[Place], broken: list[str], problems: Problems) -> None:
        """`depth`: how many folders there are from the genome folder to the link."""
        try:
            place = self._place_of(link, depth)
            if place:
                places.add(place)
            if not os.path.exists(link):
                broken.append(link)
        except OSError as error:
            problems.add(link, why_unreadable(error, link))

    def _place_of(self, link: str, depth: int) -> Place | None:
        """The data folder of a link's target. If the text begins with the genome folder, only the text is used."""
        written = os.readlink(link)
        steps = written.split("/")
        inside = steps[depth:]
        if steps[:depth].count("..") == depth and _ODD_STEPS.isdisjoint(inside) and len(inside) > 3:
            # as refgenie 1 writes them: up to the genome folder, and down again
            return _named(inside[1:]) if inside[0] == "data" else None
        target = os.path.normpath(os.path.join(os.path.dirname(link), written))
        if not target.startswith((f"{self._root}/", f"{self._real_root}/")):
            target = os.path.realpath(target)  # perhaps another spelling of the genome folder
        for root in (self._root, self._real_root):
            if target.startswith(f"{root}/data/"):
                return _named(target.removeprefix(f"{root}/data/").split("/"))
        return None


def _named(steps: list[str]) -> Place | None:
    """The data folder in which the path below data/ lies."""
    return Place(*map(intern, steps[:3])) if len(steps) >= 3 and all(map(is_name, steps[:3])) else None
