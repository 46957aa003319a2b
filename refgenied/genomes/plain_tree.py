"""What the walk would yield of an asset without links, for its stamp: in half the time, for a look at all assets.

It opens everything by descriptor, below the genome folder and without following a link, as the walk does. Where there
is anything but folders and regular files, or a limit is near, it gives up, and the walk decides.
"""

import os
import stat
from collections.abc import Iterator

from refgenied.genomes.enclosure import FOLDER_FLAGS, Enclosure
from refgenied.genomes.member import Kind

Line = tuple[bytes, Kind, int, os.stat_result]
"""Path, kind, permission bits and status of one member, in the order of the walk."""

_MOST_NAMES = 10_000
_DEEPEST = 20


class NotPlainError(Exception):
    """There is a link, something special, too much, or something has changed meanwhile."""


def plain_members(enclosure: Enclosure, folder: str, exclude: frozenset[str]) -> Iterator[Line]:
    """The members of the asset in this folder. `exclude`: names left out at the top level. NotPlainError, OSError."""
    home = enclosure.written(os.fsencode(folder))
    if home is None:
        raise NotPlainError
    fd = enclosure.open_at(home, FOLDER_FLAGS)
    try:
        names = _names(fd, exclude)
        info = os.fstat(fd)
        yield b"", Kind.FOLDER, stat.S_IMODE(info.st_mode), info
        yield from _inside(fd, b"", names, 1)
        now = enclosure.lstat(home)
        if (now.st_dev, now.st_ino) != (info.st_dev, info.st_ino):
            raise NotPlainError
    finally:
        os.close(fd)


def _names(fd: int, exclude: frozenset[str] = frozenset()) -> list[bytes]:
    """The names in a folder as in a tar: a folder's ends in '/'."""
    names: list[bytes] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if name in exclude:
                continue
            if entry.is_file(follow_symlinks=False):
                names.append(os.fsencode(name))
            elif entry.is_dir(follow_symlinks=False):
                names.append(os.fsencode(name) + b"/")
            else:
                raise NotPlainError
            if len(names) > _MOST_NAMES:
                raise NotPlainError
    names.sort()
    return names


def _inside(fd: int, prefix: bytes, names: list[bytes], depth: int) -> Iterator[Line]:
    if depth > _DEEPEST:
        raise NotPlainError
    for name in names:
        if name.endswith(b"/"):
            below = os.open(name[:-1], FOLDER_FLAGS, dir_fd=fd)
            try:
                inner = _names(below)
                info = os.fstat(below)
                yield prefix + name[:-1], Kind.FOLDER, stat.S_IMODE(info.st_mode), info
                if inner:
                    yield from _inside(below, prefix + name, inner, depth + 1)
            finally:
                os.close(below)
        else:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISREG(info.st_mode):
                raise NotPlainError
            yield prefix + name, Kind.FILE, stat.S_IMODE(info.st_mode), info
