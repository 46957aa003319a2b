"""Opens what lies below one folder, and nothing else.

Every path is walked component by component from one folder descriptor with `O_NOFOLLOW`; links are followed
by hand, so that one swapped in while we look can never lead outside.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Self

from refgenied.files.regular import SHORTAGE_ERRNOS
from refgenied.model import ShortageError, SourceChangedError, UnreadableError, UnsafeTreeError

if TYPE_CHECKING:
    from types import TracebackType

Parts = tuple[bytes, ...]
"""The components of a path below the enclosing folder; none of them is a link, `.` or `..`."""

_MOST_SPELLINGS = 10  # that are remembered; others are looked up each time
MAX_LINKS = 40  # as the kernel
MAX_NAMES = 1_000_000  # in one folder: its listing is held in memory
MAX_DEPTH = 100  # folders; one descriptor is open for each while walking
STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO})


class AstrayError(Exception):
    """A link that leads out of the enclosing folder, nowhere, or round and round; the text says which."""


class NowhereError(AstrayError):
    """A link, or a path, to something that is not there."""


class Found(NamedTuple):
    """Where a link leads."""

    parts: Parts
    info: os.stat_result
    way: tuple[Parts, ...] | None
    """The places it passes; None when the target is absolute or climbs above the enclosing folder."""


def shown(path: str | bytes) -> str:
    """A path as one printable line."""
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else path
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def some_names(folder: str | int, most: int) -> list[str]:
    """Names in a folder, sorted; at most so many, for their number is other people's choice. OSError."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, most))


def absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)


def split(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def translated(error: OSError, path: str | bytes) -> SourceChangedError | UnreadableError | ShortageError:
    """The error of ours for one of the system's about `path`."""
    if error.errno in SHORTAGE_ERRNOS:
        return ShortageError(f"cannot read {shown(path)}: {error.strerror}")
    if error.errno in _GONE:
        return SourceChangedError(f"{shown(path)} vanished or changed while it was read")
    return UnreadableError(
        f"cannot read {shown(path)}: {error.strerror}",
        hint="the user that refgenied runs as needs the right to read it",
    )


class Enclosure:
    """One folder, and everything below it, by descriptor. A context manager.

    `folder` itself may be reached through links: whoever configured it chose so. An absolute path counts as inside
    when it leads to the folder, whatever its spelling: through a link, or another mount of the same folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = absolute(folder)
        self._fd = -1
        self._identity = (-1, -1)
        self._real: list[bytes] = []
        self._spellings: list[list[bytes]] = []

    def __enter__(self) -> Self:
        self._fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        info = os.fstat(self._fd)
        self._identity = (info.st_dev, info.st_ino)
        self._real = split(os.fsencode(os.path.realpath(self.path)))
        self._spellings = [split(os.fsencode(self.path)), self._real]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        self._fd = -1

    def open_at(self, parts: Parts, flags: int) -> int:
        """A new descriptor of the file or folder; OSError when any component is a link."""
        at = self._fd
        try:
            for name in parts[:-1]:
                below = os.open(name, STEP | os.O_DIRECTORY, dir_fd=at)
                if at != self._fd:
                    os.close(at)
                at = below
            return os.open(parts[-1] if parts else b".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        finally:
            if at != self._fd:
                os.close(at)

    def lstat(self, parts: Parts) -> os.stat_result:
        fd = self.open_at(parts, STEP)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def readlink(self, parts: Parts) -> bytes:
        fd = self.open_at(parts, STEP)
        try:
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)

    def locate(self, path: str | os.PathLike[str]) -> Found:
        """Where an absolute path leads. AstrayError as for `resolve`."""
        return self.resolve((), os.fsencode(absolute(path)))

    def folder(self, path: str | os.PathLike[str]) -> Parts:
        """Where a folder really is. UnsafeTreeError: outside; SourceChangedError: not there; OSError."""
        try:
            found = self.locate(path)
        except NowhereError as error:
            raise SourceChangedError(f"{shown(os.fspath(path))} is not there") from error
        except AstrayError as astray:
            raise UnsafeTreeError(
                f"{shown(os.fspath(path))} {astray}",
                hint="only assets that lie within the genome folder can be archived",
            ) from astray
        if not stat.S_ISDIR(found.info.st_mode):
            raise SourceChangedError(f"{shown(os.fspath(path))} is not a folder")
        return found.parts

    def resolve(self, base: Parts, target: bytes) -> Found:
        """Where a link in the folder `base` with this target leads, every link on the way followed by hand.

        AstrayError when it leads out, nowhere or round; OSError when something on the way may not be read.
        """
        done, pending = self._begin(list(base), target)
        plain = not target.startswith(b"/")
        way: list[Parts] = []
        links = 0
        info: os.stat_result | None = None
        while pending:
            name = pending.pop()
            if name == b"..":
                if done:
                    done.pop()
                else:
                    pending = self._from_above(pending)
                    plain = False
                way.append(tuple(done))
                info = None
                continue
            here = (*done, name)
            if len(here) > MAX_DEPTH:
                raise AstrayError(f"leads deeper than {MAX_DEPTH} folders")
            info = self._lstat_on_the_way(here)
            if stat.S_ISLNK(info.st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise AstrayError("leads round in a circle of links")
                done, more = self._begin(done, self.readlink(here))
                pending += more
                info = None
                continue
            done.append(name)
            way.append(here)
        return Found(tuple(done), info or self.lstat(tuple(done)), tuple(way) if plain else None)

    def _lstat_on_the_way(self, here: Parts) -> os.stat_result:
        try:
            return self.lstat(here)
        except OSError as error:
            if error.errno in _GONE or error.errno == errno.ENAMETOOLONG:
                raise NowhereError("leads nowhere") from error
            raise

    def _begin(self, at: list[bytes], target: bytes) -> tuple[list[bytes], list[bytes]]:
        """The place to begin at, and the components still to go, the next one last."""
        names = split(target)
        if not target.startswith(b"/"):
            return at, names[::-1]
        return [], self._inside(names)[::-1]

    def _from_above(self, pending: list[bytes]) -> list[bytes]:
        """The components still to go after a `..` at the enclosing folder, if they come back; the next one last."""
        above = self._real[:-1]
        rest = pending[::-1]
        while rest and rest[0] == b"..":
            above = above[:-1]
            rest = rest[1:]
        return self._inside([*above, *rest])[::-1]

    def _inside(self, names: list[bytes]) -> list[bytes]:
        """The components below the enclosing folder of an absolute path. AstrayError when it leads out.

        Only asks what is where; nothing outside is opened, and what comes after the folder is walked by hand.
        """
        for spelling in self._spellings:
            if names[: len(spelling)] == spelling:
                return names[len(spelling) :]
        length = self._length_to_here(names)
        if length is not None:
            if len(self._spellings) < _MOST_SPELLINGS:
                self._spellings.append(names[:length])
            return names[length:]
        real = split(os.path.realpath(b"/" + b"/".join(names)))  # into the folder, past its top
        length = self._length_to_here(real)
        if length is None:
            raise AstrayError(f"leads out of {shown(self.path)}")
        return real[length:]

    def _length_to_here(self, names: list[bytes]) -> int | None:
        """How many of these components lead to the enclosing folder; None: none do."""
        for length in range(len(names) + 1):
            try:
                info = os.stat(b"/" + b"/".join(names[:length]))
            except OSError:
                return None
            if (info.st_dev, info.st_ino) == self._identity:
                return length
        return None


def read_small(folder: int, name: str | bytes, limit: int) -> bytes | None:
    """The first `limit` bytes of a regular file in an open folder; None when it is none or not there.

    Never follows a link, never waits (FIFO). UnreadableError when it may not be read.
    """
    try:
        fd = os.open(name, FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise translated(error, name) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        found = bytearray()
        while len(found) < limit and (chunk := os.read(fd, min(1 << 20, limit - len(found)))):
            found += chunk
        return bytes(found)
    except OSError as error:
        raise translated(error, name) from error
    finally:
        os.close(fd)
