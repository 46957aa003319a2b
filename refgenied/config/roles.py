"""Which folders and files of a configuration must not be one, or lie in one another: nothing is overwritten that is
not ours.

A *role* is what a path is used for. Several paths may lead to one place (links, bind mounts, `..`), so places are
compared by what the system says of them and never by their text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from refgenied.config.settings import Settings
from refgenied.files.mounts import origin
from refgenied.files.regular import read_regular
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_reader import MAX_BYTES

MARKER = ".refgenied"
"""In the archive folder: a file with its id. Without it an unmounted disk would look like an empty archive folder, and
every asset would be packed again into the folder underneath."""
DATABASE = "refgenied.sqlite3"
"""In the state folder."""
LOCK = "lock"
"""In the state folder: held by the daemon that runs."""


_MARK = re.compile(rb"^refgenied:", re.MULTILINE)
"""Of a config that the daemon wrote."""


class Role(NamedTuple):
    """One place and what it is for."""

    what: str
    setting: str
    """The setting that says where it is."""
    path: str
    file: bool = False
    """A file (or socket), which must not be a folder of another role."""


class Clash(NamedTuple):
    """Two roles that are too near."""

    settings: frozenset[str]
    message: str


_SAME = "each needs a folder of its own"
_OVERWRITTEN = "one would overwrite the other"
_GENOMES = "the genome folder"
_ARCHIVES = "the archive folder"
_STATE = "the daemon's state folder"
_SPOOL = "the server's state folder"
_CONFIG = "refgenie's config"
_SOCKET = "the control socket"
_OWN = "refgenie's own part of the genome folder"

# What may not lie within what, and why. What is not listed may. Below the genome folder only refgenie's own parts are
# closed (data/, alias/, builds/): `refgenie init -c ~/genome_config.yaml` makes a home folder the genome folder, with
# our state and socket somewhere below it, and refgenie allows an archive folder there. Archives may lie below the
# state folder, the state and the socket below the archive folder, and our configuration anywhere.
_WITHIN = (
    (_ARCHIVES, _OWN, "refgenie keeps its assets there"),
    (_STATE, _OWN, "refgenie keeps its assets there"),
    (_SPOOL, _OWN, "refgenie keeps its assets there"),
    (_SOCKET, _OWN, "refgenie keeps its assets there"),
    (_GENOMES, _ARCHIVES, "what lies in the archive folder is written, imported and served"),
)
# Only a service gives its folders, with all that is in them, to users of its own.
_WITHIN_FOR_A_SERVICE = (
    (_CONFIG, _ARCHIVES, "the archive folder is given to the daemon's user, and refgenie could not write it any more"),
    (_SPOOL, _ARCHIVES, "the archive folder is given to the daemon's user, and it belongs to the server's"),
    (_STATE, _SPOOL, "one is given to the server's user, and the other to the daemon's"),
)


def clashes(settings: Settings, *, service: bool = False) -> list[str]:
    """What is wrong with the places of a configuration, one line for each pair of settings; empty when all is well.

    Blocking: it asks the file system, and changes nothing. `service`: also what matters only to systemd's units.
    """
    roles = [(role, Spot(role.path)) for role in _roles(settings) if role.path]
    own = [(_part(settings, name), Spot(_part(settings, name).path)) for name in ("data", "alias", "builds")]
    found = [
        *_same(settings, roles),
        *_within([*roles, *own], [*_WITHIN, *(_WITHIN_FOR_A_SERVICE if service else ())]),
    ]
    first: dict[frozenset[str], str] = {}
    for clash in found or _stray(settings):
        first.setdefault(clash.settings, clash.message)
    return list(first.values())


def _roles(settings: Settings) -> Iterator[Role]:
    """Every place that is used, the less movable ones first: of two that clash the later one is to be changed."""
    refgenie = settings.refgenie
    genomes, archives, state = refgenie.genome_folder, refgenie.genome_archive_folder, settings.state.folder
    yield Role(_GENOMES, "refgenie.genome_folder", genomes)
    if refgenie.genome_config:
        yield Role(_CONFIG, "refgenie.genome_config", refgenie.genome_config, file=True)
    elif genomes:
        yield Role(_CONFIG, "refgenie.genome_folder", os.path.join(genomes, CONFIG_NAME), file=True)
    yield Role("our own configuration", "--config", settings.path, file=True)
    yield Role(_ARCHIVES, "refgenie.genome_archive_folder", archives)
    if archives and settings.serving.enabled:
        path = os.path.join(archives, CONFIG_NAME)
        yield Role("the server's config, which the daemon writes", "refgenie.genome_archive_folder", path, file=True)
    if archives:
        yield Role(
            "the archive folder's id", "refgenie.genome_archive_folder", os.path.join(archives, MARKER), file=True
        )
    yield Role(_STATE, "state.folder", state)
    if state:
        yield Role("the daemon's database", "state.folder", os.path.join(state, DATABASE), file=True)
        yield Role("the daemon's lock", "state.folder", os.path.join(state, LOCK), file=True)
    yield Role(_SPOOL, "serving.state_folder", settings.serving.state_folder)
    yield Role(_SOCKET, "control.socket", settings.control.socket, file=True)


def _stray(settings: Settings) -> Iterator[Clash]:
    """refgenie's own config in the archive folder, when nobody told us where refgenie's config is."""
    refgenie = settings.refgenie
    own = refgenie.genome_config or os.path.join(refgenie.genome_folder, CONFIG_NAME)
    path = os.path.join(refgenie.genome_archive_folder, CONFIG_NAME)
    wanted = refgenie.genome_folder and refgenie.genome_archive_folder and settings.serving.enabled
    if not wanted or os.path.exists(own):
        return
    try:
        text = read_regular(path, MAX_BYTES)
    except OSError:
        return  # the daemon tells of it when it would write there
    # A server's config has digests of archives, also one that refgenieserver began as a copy; ours has our mark.
    if b"asset_path" in text and b"archive_digest" not in text and not _MARK.search(text):
        yield Clash(
            frozenset({"refgenie.genome_archive_folder"}),
            f"refgenie.genome_archive_folder: {path} looks like refgenie's own config (refgenie.genome_config), as "
            "nothing in it is archived: the server's config would overwrite it; move that file away, or set "
            "refgenie.genome_archive_folder to another path",
        )


def _part(settings: Settings, name: str) -> Role:
    return Role(_OWN, "refgenie.genome_folder", os.path.join(settings.refgenie.genome_folder or "/nonexistent", name))


def _same(settings: Settings, roles: list[tuple[Role, Spot]]) -> Iterator[Clash]:
    """Two roles in one place, and folders where a file is to be (or below it)."""
    for number, (first, spot) in enumerate(roles):
        for second, other in roles[number + 1 :]:
            if first.setting == second.setting or _may_be_one(settings, first, second):
                continue
            if spot.is_at(other):
                both = first.file and second.file
                yield _clash(second, "must not be", first, _OVERWRITTEN if both else _SAME)
            elif first.file and other.is_within(spot):
                yield _clash(second, "must not lie in", first, "that is a file")
            elif second.file and spot.is_within(other):
                yield _clash(second, "must not be a folder above", first, "it is to be a file")


def _may_be_one(settings: Settings, first: Role, second: Role) -> bool:
    """By default each of the two processes has what systemd gives it as $STATE_DIRECTORY; that is one for both only
    where neither asks for the other's.
    """
    states = {first.setting, second.setting} == {"state.folder", "serving.state_folder"}
    return states and "default" in (settings.origins.get(first.setting), settings.origins.get(second.setting))


def _within(roles: list[tuple[Role, Spot]], rules: list[tuple[str, str, str]]) -> Iterator[Clash]:
    for inner_what, outer_what, why in rules:
        for inner, spot in roles:
            for outer, other in roles:
                if (inner.what, outer.what) != (inner_what, outer_what):
                    continue
                if spot.is_within(other) or (outer_what == _OWN and spot.is_at(other)):
                    yield _clash(inner, "must not lie in", outer, why)


def _clash(changed: Role, how: str, other: Role, why: str) -> Clash:
    place = "" if changed.path == other.path else f" {other.path}"
    message = f"{changed.setting}: {changed.path}{_called(changed)} {how} {other.what}{place} ({other.setting}): {why}"
    return Clash(frozenset((changed.setting, other.setting)), f"{message}; set {changed.setting} to another path")


def _called(role: Role) -> str:
    """What the path is, where that is more than its setting says."""
    plain = (_GENOMES, _CONFIG, _ARCHIVES, _STATE, _SPOOL, _SOCKET)
    return "" if role.what in plain else f" ({role.what})"


class Spot:
    """Where a path really is. What does not exist yet is known by its nearest folder that does, and the rest."""

    def __init__(self, path: str) -> None:
        self.path = path

    def is_at(self, other: Spot) -> bool:
        """Whether both are one place."""
        return self._keys[0] == other._keys[0] or self._is_origin(other)

    def is_within(self, other: Spot) -> bool:
        """Whether this lies somewhere below the other."""
        return other._keys[0] in self._keys[1:] or self._has_origin_within(other)

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.path)

    @cached_property
    def _keys(self) -> list[tuple[int, int, str]]:
        """Device, inode and what is missing below it, of the path and then of each folder above it."""
        keys: list[tuple[int, int, str]] = []
        below: list[str] = []
        path: str = self._real
        while True:
            try:
                info = os.stat(path)
            except OSError:  # not there, or not ours to ask
                below.append(os.path.basename(path))
            else:
                keys += [(info.st_dev, info.st_ino, "/".join(reversed(below[n:]))) for n in range(len(below))]
                keys.append((info.st_dev, info.st_ino, ""))
                below.clear()
            if path == "/":
                return keys
            path = os.path.dirname(path)

    @cached_property
    def _origin(self) -> tuple[str, str] | None:
        """File system and path in it: a part of a folder may be mounted elsewhere, where no folder above is shared."""
        return origin(self._real)

    def _is_origin(self, other: Spot) -> bool:
        return self._origin is not None and self._origin == other._origin

    def _has_origin_within(self, other: Spot) -> bool:
        mine, its = self._origin, other._origin
        if mine is None or its is None or mine[0] != its[0]:
            return False
        return mine[1].startswith(f"{its[1].rstrip('/')}/")
