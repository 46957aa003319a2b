"""The safe walk over one asset's files: the seam between what is built and what is archived.

Nothing outside the genome folder is ever opened. Links inside the asset stay links, links elsewhere within
the genome folder are replaced by their content, everything else is refused by name.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Self

from refgenied.genomes.enclosure import (
    FILE,
    FOLDER,
    MAX_DEPTH,
    MAX_NAMES,
    AstrayError,
    Enclosure,
    Found,
    Parts,
    absolute,
    read_small,
    shown,
    translated,
)
from refgenied.genomes.member import Kind, Member, member_of, odd
from refgenied.model import SourceChangedError, UnsafeTreeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Kind", "Member", "Tree", "open_folder", "read_small"]

MAX_REPLACED = 8  # links replaced by folders inside one another: more is a mistake, or meant to multiply
_NOTHING = frozenset[bytes]()


class _Frame:
    """One open folder of the walk."""

    __slots__ = ("fd", "foreign", "identity", "names", "place", "plain", "prefix", "replaced")

    def __init__(self, fd: int, prefix: bytes, place: Parts, replaced: int) -> None:
        info = os.fstat(fd)
        self.fd = fd
        self.identity = (info.st_dev, info.st_ino)
        self.prefix = prefix
        self.place = place
        self.replaced = replaced
        self.foreign = replaced > 0
        self.names: list[bytes] = []
        """What is still to come, the next one last; a folder's name (also a replaced link's) ends in '/'."""
        self.plain = False
        """Every name is a folder's or a regular file's: it may be opened without a look at what it is."""


class _Source(NamedTuple):
    """Where the member yielded last is opened from: an open folder, or a place in the genome folder."""

    member: Member
    identity: tuple[int, ...]
    fd: int
    name: bytes
    place: Parts | None


_identity = attrgetter("st_mode", "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
"""What must be the same before, while and after a file is read."""


class Tree:
    """One asset's files. A context manager that is iterated once at a time, by one thread.

    `folder` is the asset's folder. `within` is the genome folder; links into it are replaced by their
    content. None: nothing but the folder itself. `exclude`: names at the top level (of a replaced folder:
    anywhere) that are left out.

    Raises, also while iterating: UnsafeTreeError (a link that leads out, nowhere or in a circle; a device,
    FIFO or socket; the member is named), UnreadableError, SourceChangedError (something vanished meanwhile).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        within: str | os.PathLike[str] | None = None,
        exclude: frozenset[bytes] = frozenset({b"_refgenie_build"}),
    ) -> None:
        self.folder = absolute(folder)
        self._within = self.folder if within is None else absolute(within)
        self._exclude = exclude
        self._enclosure = Enclosure(self._within)
        self._home: Parts = ()
        self._opened = -1
        self._reads = False
        self._last: _Source | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            try:
                entered.enter_context(self._enclosure)
                self._home = self._enclosure.folder(self.folder)
            except OSError as error:
                raise translated(error, self.folder) from error
            self._exit = entered.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        self._exit.close()

    def __iter__(self) -> Iterator[Member]:
        """The members, streaming, ordered by the bytes of their names in a tar (a folder's ends in '/')."""
        return self._members(reads=False)

    def to_read(self) -> Iterator[Member]:
        """The same for a reader of every file: each is opened at once, and looked at through its descriptor."""
        return self._members(reads=True)

    def _members(self, *, reads: bool) -> Iterator[Member]:
        self._reads = reads
        stack: list[_Frame] = []
        try:
            root = self._enter(stack, self._home, b"", replaced=0)
            identity = root.identity
            yield member_of(b"", Kind.FOLDER, os.fstat(root.fd), foreign=False)
            while stack:
                self._forget()
                frame = stack[-1]
                if not frame.names:
                    os.close(stack.pop().fd)
                    continue
                yield self._next(stack, frame)
            info = self._enclosure.lstat(self._home)
            if (info.st_dev, info.st_ino) != identity:
                raise SourceChangedError(f"{shown(self.folder)} was replaced while it was read")
        except OSError as error:
            raise translated(error, self.folder) from error
        finally:
            self._forget()
            for frame in stack:
                os.close(frame.fd)

    def open(self, member: Member) -> int:
        """A read-only descriptor of the FILE member that was yielded last.

        It stays the tree's: don't close it, it is closed when the next member is asked for.
        SourceChangedError when what is there now is not what was yielded.
        """
        source = self._source(member)
        if self._opened < 0:
            try:
                if source.place is None:
                    self._opened = os.open(source.name, FILE, dir_fd=source.fd)
                else:
                    self._opened = self._enclosure.open_at(source.place, FILE)
            except OSError as error:
                raise translated(error, self._name(member.path)) from error
            self.confirm(member)
        return self._opened

    def confirm(self, member: Member) -> None:
        """After reading: SourceChangedError when the open file is no longer what was yielded."""
        if _identity(os.fstat(self._opened)) != self._source(member).identity:
            raise SourceChangedError(f"{self._name(member.path)} changed while it was read")

    def _source(self, member: Member) -> _Source:
        source = self._last
        if source is None or source.member is not member:
            raise ValueError("only the file that was yielded last can be opened")
        return source

    def _name(self, path: bytes) -> str:
        return shown(os.fsencode(self.folder) + (b"/" + path if path else b""))

    def _forget(self) -> None:
        self._last = None
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    def _enter(self, stack: list[_Frame], place: Parts, prefix: bytes, *, replaced: int) -> _Frame:
        """Open a folder as the new top of the stack and list it."""
        if len(stack) >= MAX_DEPTH:
            raise UnsafeTreeError(f"{self._name(prefix[:-1])} is nested deeper than {MAX_DEPTH} folders")
        try:
            fd = (
                self._enclosure.open_at(place, FOLDER)
                if replaced or not stack
                else os.open(place[-1], FOLDER, dir_fd=stack[-1].fd)
            )
        except OSError as error:
            raise translated(error, self._name(prefix[:-1])) from error
        frame = _Frame(fd, prefix, place, replaced)
        circle = any(above.identity == frame.identity for above in stack)
        stack.append(frame)
        if circle:
            raise UnsafeTreeError(f"{self._name(prefix[:-1])} is a link to a folder that contains it")
        frame.names = self._listing(frame)
        return frame

    def _listing(self, frame: _Frame) -> list[bytes]:
        skip = _NOTHING if frame.prefix and not frame.foreign else self._exclude
        names: list[bytes] = []
        plain = True
        try:
            with os.scandir(frame.fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name in skip:
                        continue
                    is_folder = entry.is_dir(follow_symlinks=False) or (
                        entry.is_symlink() and self._is_replaced_by_folder(frame, name)
                    )
                    if len(names) == MAX_NAMES:
                        raise UnsafeTreeError(f"{self._name(frame.prefix[:-1])} holds more than {MAX_NAMES} names")
                    names.append(name + b"/" if is_folder else name)
                    plain = plain and (is_folder or entry.is_file(follow_symlinks=False))
        except OSError as error:
            raise translated(error, self._name(frame.prefix[:-1])) from error
        frame.plain = plain
        names.sort(reverse=True)
        return names

    def _is_replaced_by_folder(self, frame: _Frame, name: bytes) -> bool:
        found = self._resolve(frame, name)
        return stat.S_ISDIR(found.info.st_mode) and not self._stays(frame, found)

    def _next(self, stack: list[_Frame], frame: _Frame) -> Member:
        """The next member of the folder; folders are entered."""
        listed = frame.names.pop()
        name = listed[:-1] if listed.endswith(b"/") else listed
        path = frame.prefix + name
        try:
            if self._reads and frame.plain and name is listed:
                self._opened = os.open(name, FILE, dir_fd=frame.fd)
                info = os.fstat(self._opened)
            else:
                info = os.stat(name, dir_fd=frame.fd, follow_symlinks=False)
        except OSError as error:
            raise translated(error, self._name(path)) from error
        if stat.S_ISREG(info.st_mode) and name is listed:
            return self._file(frame, path, info, name, None, foreign=frame.foreign)
        place: Parts | None = None
        replaced = frame.replaced
        if stat.S_ISLNK(info.st_mode):
            found = self._resolve(frame, name)
            if self._stays(frame, found):
                return self._link(frame, name, info, found)
            place, info, replaced = found.parts, found.info, replaced + 1
        if stat.S_ISDIR(info.st_mode) != listed.endswith(b"/"):
            raise SourceChangedError(f"{self._name(path)} changed while it was read")
        if stat.S_ISDIR(info.st_mode):
            if replaced > MAX_REPLACED:
                raise UnsafeTreeError(
                    f"{self._name(path)} is the last of more than {MAX_REPLACED} links into one another"
                )
            below = self._enter(stack, (*frame.place, name) if place is None else place, path + b"/", replaced=replaced)
            return member_of(path, Kind.FOLDER, os.fstat(below.fd), foreign=below.foreign)
        if not stat.S_ISREG(info.st_mode):
            raise UnsafeTreeError(f"{self._name(path)} is a {odd(info.st_mode)}: such an asset is not archived")
        return self._file(frame, path, info, name, place, foreign=replaced > 0)

    def _file(
        self, frame: _Frame, path: bytes, info: os.stat_result, name: bytes, place: Parts | None, *, foreign: bool
    ) -> Member:
        member = member_of(path, Kind.FILE, info, foreign=foreign)
        self._last = _Source(member, _identity(info), frame.fd, name, place)
        return member

    def _resolve(self, frame: _Frame, name: bytes) -> Found:
        path = frame.prefix + name
        try:
            target = os.readlink(name, dir_fd=frame.fd)
        except OSError as error:
            raise translated(error, self._name(path)) from error
        try:
            return self._enclosure.resolve(frame.place, target)
        except AstrayError as astray:
            raise UnsafeTreeError(
                f"{self._name(path)} is a link to {shown(target)}, which {astray}",
                hint="only links that stay within the genome folder can be archived",
            ) from astray
        except OSError as error:
            raise translated(error, self._name(path)) from error

    def _stays(self, frame: _Frame, found: Found) -> bool:
        """Whether a link stays a link: it leads to a member of the asset, from another."""
        return not frame.foreign and self._is_member(found.parts)

    def _is_member(self, place: Parts) -> bool:
        below = place[len(self._home) :]
        return place[: len(self._home)] == self._home and (not below or below[0] not in self._exclude)

    def _link(self, frame: _Frame, name: bytes, info: os.stat_result, found: Found) -> Member:
        if found.way is not None and all(self._is_member(step) for step in found.way):
            target = os.readlink(name, dir_fd=frame.fd)
        else:
            here, there = frame.place[len(self._home) :], found.parts[len(self._home) :]
            common = _common(here, there)
            target = b"/".join((b"..",) * (len(here) - common) + there[common:]) or b"."
        return member_of(frame.prefix + name, Kind.LINK, info, foreign=False, target=target)


def _common(one: Parts, other: Parts) -> int:
    """How many leading components two places share."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def open_folder(folder: str | os.PathLike[str], *, within: str | os.PathLike[str]) -> int:
    """A descriptor of a folder within the genome folder, for `read_small` and scandir; the caller closes it.

    Errors as for Tree.
    """
    try:
        with Enclosure(within) as enclosure:
            return enclosure.open_at(enclosure.folder(folder), FOLDER)
    except OSError as error:
        raise translated(error, os.fspath(folder)) from error
