"""Which folders and files of a configuration must not be the same place, and which must not lie inside one another.

These rules protect other people's files. A *role* is the use of a path. Several paths may lead to one place (links,
bind mounts, `..`), so places are compared by their identity in the system and never by their text.
"""

import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import combinations
from typing import NamedTuple, Self

from refgenied.config.settings import Settings
from refgenied.files.mounts import origin
from refgenied.files.regular import read_regular
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_limits import MAX_BYTES

MARKER = ".refgenied"
"""A file in the archive folder with the folder's id. Without it an archive folder whose disk is not mounted would look
empty, and every asset would be packed again into the folder underneath."""
DATABASE = "refgenied.sqlite3"
"""The database in the state folder."""
LOCK = "lock"
"""The lock file in the state folder. The running daemon holds its lock."""

_WRITTEN_BY_US = re.compile(rb"^refgenied:", re.MULTILINE)
"""This text marks a config that the daemon has written."""


class Spot:
    """The real place of a path. If it does not exist yet: its nearest existing folder, and the rest of the path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def is_at(self, other: Self) -> bool:
        """Whether both are the same place."""
        return self._keys[0] == other._keys[0] or (self._origin is not None and self._origin == other._origin)

    def is_within(self, other: Self) -> bool:
        """Whether this place lies below the other."""
        if other._keys[0] in self._keys[1:]:
            return True
        mine, its = self._origin, other._origin
        if mine is None or its is None or mine[0] != its[0]:
            return False
        return mine[1].startswith(f"{its[1].rstrip('/')}/")

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.path)

    @cached_property
    def _keys(self) -> list[tuple[int, int, str]]:
        """(device, inode, missing rest of the path) for the path and then for each folder above it."""
        keys: list[tuple[int, int, str]] = []
        below: list[str] = []
        path: str = self._real
        while True:
            try:
                info = os.stat(path)
            except OSError:  # it does not exist, or we have no right to look
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
        """The file system and the path in it. They find a folder that is mounted in two places."""
        return origin(self._real)


class Role(NamedTuple):
    """One place and its use."""

    what: str
    setting: str
    """The setting that gives the path."""
    spot: Spot
    file: bool = False
    """Whether it is a file (or socket). Then no other role may use it as a folder."""


class Clash(NamedTuple):
    """Two roles that are too near to each other."""

    settings: frozenset[str]
    message: str


_GENOMES = "the genome folder"
_ARCHIVES = "the archive folder"
_STATE = "the daemon's state folder"
_SPOOL = "the server's state folder"
_CONFIG = "refgenie's config"
_SOCKET = "the control socket"
_OWN = "refgenie's own part of the genome folder"

# (inner role, outer role, why the inner one must not lie within the outer one). All other combinations are allowed.
# Below the genome folder only refgenie's own parts are forbidden (data/, alias/, builds/), because
# `refgenie init -c ~/genome_config.yaml` makes the home folder the genome folder, and our state and socket lie below
# it; refgenie also allows an archive folder there. Archives may lie below the state folder, the state and the socket
# below the archive folder, and our configuration anywhere.
_WITHIN = (
    *((what, _OWN, "refgenie keeps its assets there") for what in (_ARCHIVES, _STATE, _SPOOL, _SOCKET)),
    (_GENOMES, _ARCHIVES, "what lies in the archive folder is written, imported and served"),
)
# These rules hold only for a service, because an installation gives its folders with all files to the service's users.
_WITHIN_FOR_A_SERVICE = (
    (_CONFIG, _ARCHIVES, "the archive folder is given to the daemon's user, and refgenie could not write it any more"),
    (_SPOOL, _ARCHIVES, "the archive folder is given to the daemon's user, and it belongs to the server's"),
    (_STATE, _SPOOL, "one is given to the server's user, and the other to the daemon's"),
)


def clashes(settings: Settings, *, service: bool = False) -> list[str]:
    """The faults in the places of a configuration, one line for each pair of settings; empty when all is well.

    Blocking: it asks the file system, and changes nothing. `service`: check the rules for systemd's units too.
    """
    roles = [role for role in _roles(settings) if role.spot.path]
    genomes = settings.refgenie.genome_folder or "/nonexistent"
    own = [_role(_OWN, "refgenie.genome_folder", genomes, name) for name in ("data", "alias", "builds")]
    rules = (*_WITHIN, *(_WITHIN_FOR_A_SERVICE if service else ()))
    found = [*_same(settings, roles), *_within([*roles, *own], rules)]
    first: dict[frozenset[str], str] = {}
    for clash in found or _stray(settings):
        first.setdefault(clash.settings, clash.message)
    return list(first.values())


def _role(what: str, setting: str, *path: str, file: bool = False) -> Role:
    return Role(what, setting, Spot(os.path.join(*path)), file)


def _roles(settings: Settings) -> Iterator[Role]:
    """Every place in use, places that are hard to move first: if two clash, the later one must change."""
    refgenie = settings.refgenie
    genomes, archives, state = refgenie.genome_folder, refgenie.genome_archive_folder, settings.state.folder
    yield _role(_GENOMES, "refgenie.genome_folder", genomes)
    if refgenie.genome_config:
        yield _role(_CONFIG, "refgenie.genome_config", refgenie.genome_config, file=True)
    elif genomes:
        yield _role(_CONFIG, "refgenie.genome_folder", genomes, CONFIG_NAME, file=True)
    yield _role("our own configuration", "--config", settings.path, file=True)
    yield _role(_ARCHIVES, "refgenie.genome_archive_folder", archives)
    if archives:
        of_archives = "refgenie.genome_archive_folder"
        if settings.serving.enabled:
            what = "the server's config, which the daemon writes"
            yield _role(what, of_archives, archives, CONFIG_NAME, file=True)
        yield _role("the archive folder's id", of_archives, archives, MARKER, file=True)
    yield _role(_STATE, "state.folder", state)
    if state:
        yield _role("the daemon's database", "state.folder", state, DATABASE, file=True)
        yield _role("the daemon's lock", "state.folder", state, LOCK, file=True)
    yield _role(_SPOOL, "serving.state_folder", settings.serving.state_folder)
    yield _role(_SOCKET, "control.socket", settings.control.socket, file=True)


def _stray(settings: Settings) -> Iterator[Clash]:
    """Finds refgenie's own config in the archive folder, when no setting says where refgenie's config is."""
    refgenie = settings.refgenie
    own = refgenie.genome_config or os.path.join(refgenie.genome_folder, CONFIG_NAME)
    path = os.path.join(refgenie.genome_archive_folder, CONFIG_NAME)
    wanted = refgenie.genome_folder and refgenie.genome_archive_folder and settings.serving.enabled
    if not wanted or os.path.exists(own):
        return
    try:
        text = read_regular(path, MAX_BYTES)
    except OSError:
        return  # the daemon reports this error before it writes there
    # A server's config has digests of archives, even if refgenieserver began it as a copy. Our own config has our mark.
    if b"asset_path" in text and b"archive_digest" not in text and not _WRITTEN_BY_US.search(text):
        yield Clash(
            frozenset({"refgenie.genome_archive_folder"}),
            f"refgenie.genome_archive_folder: {path} looks like refgenie's own config (refgenie.genome_config), as "
            "nothing in it is archived: the server's config would overwrite it; move that file away, or set "
            "refgenie.genome_archive_folder to another path",
        )


def _same(settings: Settings, roles: list[Role]) -> Iterator[Clash]:
    """Two roles in the same place, and a folder in or below the place of a file."""
    for first, second in combinations(roles, 2):
        if first.setting == second.setting or _may_be_one(settings, first, second):
            continue
        if first.spot.is_at(second.spot):
            both = first.file and second.file
            why = "one would overwrite the other" if both else "each needs a folder of its own"
            yield _clash(second, "must not be", first, why)
        elif first.file and second.spot.is_within(first.spot):
            yield _clash(second, "must not lie in", first, "that is a file")
        elif second.file and first.spot.is_within(second.spot):
            yield _clash(second, "must not be a folder above", first, "it is to be a file")


def _may_be_one(settings: Settings, first: Role, second: Role) -> bool:
    """Whether two roles may be the same place. By default each of the two processes keeps its state in its own
    $STATE_DIRECTORY, and each process only sees its own. So both settings may have the same default.
    """
    states = {first.setting, second.setting} == {"state.folder", "serving.state_folder"}
    return states and "default" in (settings.origins.get(first.setting), settings.origins.get(second.setting))


def _within(roles: list[Role], rules: Iterable[tuple[str, str, str]]) -> Iterator[Clash]:
    for inner_what, outer_what, why in rules:
        for inner in (role for role in roles if role.what == inner_what):
            for outer in (role for role in roles if role.what == outer_what):
                same = outer_what == _OWN and inner.spot.is_at(outer.spot)
                if same or inner.spot.is_within(outer.spot):
                    yield _clash(inner, "must not lie in", outer, why)


def _clash(changed: Role, how: str, other: Role, why: str) -> Clash:
    path, other_path = changed.spot.path, other.spot.path
    # name the use of the path, unless the setting's name says it already
    plain = changed.what in (_GENOMES, _CONFIG, _ARCHIVES, _STATE, _SPOOL, _SOCKET)
    what = path if plain else f"{path} ({changed.what})"
    place = "" if path == other_path else f" {other_path}"
    return Clash(
        frozenset((changed.setting, other.setting)),
        f"{changed.setting}: {what} {how} {other.what}{place} ({other.setting}): {why}; set {changed.setting} to "
        "another path",
    )
