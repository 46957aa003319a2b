"""The safe walk over one asset's files. Every archived file comes through it.

Nothing outside the genome folder is ever opened. Links inside the asset stay links. Links to other parts of the genome
folder are replaced by their content. All other things are refused, and the error names them.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, Self

from refgenied.genomes.enclosure import (
    FILE_FLAGS,
    FOLDER_FLAGS,
    MAX_FOLDER_DEPTH,
    MAX_NAMES,
    AstrayError,
    Destination,
    Enclosure,
    Parts,
    shown,
    translated,
    translating,
)
from refgenied.genomes.member import Kind, Member, kind_of_special, member_of
from refgenied.model import SourceChangedError, UnsafeTreeError

MAX_REPLACED_LINKS = 8
"""The most links inside one another that are replaced by folders. More are a mistake or an attack."""


@dataclass(slots=True)
class _Frame:
    """One open folder of the walk."""

    fd: int
    identity: tuple[int, int]
    prefix: bytes
    place: Parts
    replaced: int
    """How many links above this folder were replaced by folders."""
    names: list[bytes] = field(default_factory=list[bytes])
    """The names that still follow, the next name last. A folder's name ends in '/', also that of a replaced link."""
    plain: bool = False
    """Whether every name belongs to a folder or a regular file. Then each may be opened without a check of its type."""


class _Source(NamedTuple):
    """The source of the last member: a name in an open folder, or a place in the genome folder."""

    member: Member
    identity: tuple[int, ...]
    fd: int
    name: bytes
    place: Parts | None


_identity = attrgetter("st_mode", "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
"""The values that must stay the same before, while and after a file is read."""


class Tree:
    """One asset's files. A context manager. Only one thread may iterate over it, once at a time.

    `folder` is the asset's folder. `within` is the genome folder, as a path or open; links into it are replaced by
    their content. With None, no link out of `folder` is allowed. `exclude`: names that are left out, at the top level
    and everywhere in a replaced folder.

    Errors, also during iteration: UnsafeTreeError (a link that leads out, to nothing or in a circle; a device, FIFO or
    socket; the text names the member), UnreadableError, ShortageError, SourceChangedError (a file vanished meanwhile).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        within: str | os.PathLike[str] | Enclosure | None = None,
        exclude: frozenset[bytes] = frozenset({b"_refgenie_build"}),
    ) -> None:
        self.folder = os.path.abspath(folder)
        self._within = self.folder if within is None else within
        self._exclude = exclude
        self._opened = -1
        self._reads = False
        self._last: _Source | None = None
        self._at = b""
        """The member of the current system call: an OSError is about this member."""
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as entered, translating(self.folder):
            within = self._within
            self._enclosure = within if isinstance(within, Enclosure) else entered.enter_context(Enclosure(within))
            self._home = self._enclosure.folder(self.folder)
            self._exit = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        self._exit.close()

    def __iter__(self) -> Iterator[Member]:
        """The members one by one, in the order of their names' bytes in a tar (a folder's name ends in '/')."""
        return self._members(reads=False)

    def to_read(self) -> Iterator[Member]:
        """The same for a caller that reads every file: each file is opened at once, and its descriptor is checked."""
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
            self._at = b""
            info = self._enclosure.lstat(self._home)
            if (info.st_dev, info.st_ino) != identity:
                raise SourceChangedError(f"{shown(self.folder)} was replaced while it was read")
        except OSError as error:
            raise translated(error, self._name(self._at)) from error
        finally:
            self._forget()
            for frame in stack:
                os.close(frame.fd)

    def open(self, member: Member) -> int:
        """A read-only descriptor of the last FILE member that was yielded.

        The tree closes it when the caller asks for the next member; the caller must not close it. SourceChangedError:
        the file is no longer the one that was yielded.
        """
        source = self._source(member)
        if self._opened < 0:
            with translating(self._name(member.path)):
                if source.place is None:
                    self._opened = os.open(source.name, FILE_FLAGS, dir_fd=source.fd)
                else:
                    self._opened = self._enclosure.open_at(source.place, FILE_FLAGS)
            self.confirm(member)
        return self._opened

    def confirm(self, member: Member) -> None:
        """Call it after reading. SourceChangedError: the open file has changed since it was yielded."""
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

    # The functions below raise OSError about the member `_at`.

    def _enter(self, stack: list[_Frame], place: Parts, prefix: bytes, *, replaced: int) -> _Frame:
        """Open a folder as the new top of the stack and list it."""
        self._at = prefix[:-1]
        if len(stack) >= MAX_FOLDER_DEPTH:
            raise UnsafeTreeError(f"{self._name(self._at)} is nested deeper than {MAX_FOLDER_DEPTH} folders")
        if replaced or not stack:
            fd = self._enclosure.open_at(place, FOLDER_FLAGS)
        else:
            fd = os.open(place[-1], FOLDER_FLAGS, dir_fd=stack[-1].fd)
        info = os.fstat(fd)
        frame = _Frame(fd, (info.st_dev, info.st_ino), prefix, place, replaced)
        circle = any(above.identity == frame.identity for above in stack)
        stack.append(frame)
        if circle:
            raise UnsafeTreeError(f"{self._name(self._at)} is a link to a folder that contains it")
        self._list(frame)
        return frame

    def _list(self, frame: _Frame) -> None:
        """Fill in the folder's names."""
        skip = frozenset[bytes]() if frame.prefix and not frame.replaced else self._exclude
        names: list[bytes] = []
        plain = True
        with os.scandir(frame.fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name in skip:
                    continue
                is_folder = entry.is_dir(follow_symlinks=False) or (
                    entry.is_symlink() and self._is_replaced_by_folder(frame, name)
                )
                self._at = frame.prefix[:-1]
                if len(names) == MAX_NAMES:
                    raise UnsafeTreeError(f"{self._name(self._at)} holds more than {MAX_NAMES} names")
                names.append(name + b"/" if is_folder else name)
                plain = plain and (is_folder or entry.is_file(follow_symlinks=False))
        names.sort(reverse=True)
        frame.names, frame.plain = names, plain

    def _is_replaced_by_folder(self, frame: _Frame, name: bytes) -> bool:
        self._at = frame.prefix + name
        found = self._resolve(frame, name)
        return stat.S_ISDIR(found.info.st_mode) and not self._stays(frame, found)

    def _next(self, stack: list[_Frame], frame: _Frame) -> Member:
        """The next member of the folder; folders are entered."""
        listed = frame.names.pop()
        name = listed[:-1] if listed.endswith(b"/") else listed
        self._at = path = frame.prefix + name
        if self._reads and frame.plain and name is listed:
            self._opened = os.open(name, FILE_FLAGS, dir_fd=frame.fd)
            info = os.fstat(self._opened)
        else:
            info = os.stat(name, dir_fd=frame.fd, follow_symlinks=False)
        place: Parts | None = None
        replaced = frame.replaced
        if stat.S_ISLNK(info.st_mode):
            found = self._resolve(frame, name)
            if self._stays(frame, found):
                return self._link(frame, name, info, found)
            place, info, replaced = found.parts, found.info, replaced + 1
        is_folder = stat.S_ISDIR(info.st_mode)
        if is_folder != listed.endswith(b"/"):
            raise SourceChangedError(f"{self._name(path)} changed while it was read")
        if is_folder:
            if replaced > MAX_REPLACED_LINKS:
                raise UnsafeTreeError(
                    f"{self._name(path)} is the last of more than {MAX_REPLACED_LINKS} links into one another"
                )
            below = self._enter(stack, (*frame.place, name) if place is None else place, path + b"/", replaced=replaced)
            return member_of(path, Kind.FOLDER, os.fstat(below.fd), foreign=replaced > 0)
        if not stat.S_ISREG(info.st_mode):
            what = kind_of_special(info.st_mode)
            raise UnsafeTreeError(f"{self._name(path)} is a {what}: such an asset is not archived")
        member = member_of(path, Kind.FILE, info, foreign=replaced > 0)
        self._last = _Source(member, _identity(info), frame.fd, name, place)
        return member

    def _resolve(self, frame: _Frame, name: bytes) -> Destination:
        target = os.readlink(name, dir_fd=frame.fd)
        try:
            return self._enclosure.resolve(frame.place, target)
        except AstrayError as astray:
            raise UnsafeTreeError(
                f"{self._name(frame.prefix + name)} is a link to {shown(target)}, which {astray}",
                hint="only links that stay within the genome folder can be archived",
            ) from astray

    def _stays(self, frame: _Frame, found: Destination) -> bool:
        """Whether a link stays a link, because it leads to another member of the asset."""
        return not frame.replaced and self._is_member(found.parts)

    def _is_member(self, place: Parts) -> bool:
        below = place[len(self._home) :]
        return place[: len(self._home)] == self._home and (not below or below[0] not in self._exclude)

    def _link(self, frame: _Frame, name: bytes, info: os.stat_result, found: Destination) -> Member:
        if found.way is not None and all(self._is_member(step) for step in found.way):
            target = os.readlink(name, dir_fd=frame.fd)
        else:
            here, there = (b"/" + b"/".join(place[len(self._home) :]) for place in (frame.place, found.parts))
            target = os.path.relpath(there, here)
        return member_of(frame.prefix + name, Kind.LINK, info, foreign=False, target=target)
