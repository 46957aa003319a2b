"""Makes files, folders and links in a new folder that nobody sees until it is whole.

Every folder on the path is opened with `O_NOFOLLOW`, and every file is made with `O_EXCL`. So no name can lead to a
place outside, and no file that exists already is changed.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from refgenied.archive import restore_folders
from refgenied.archive.format.entries import Entry
from refgenied.files.durable import DISK_FULL_ERRNOS, NEW_FILE_FLAGS, sync_folder, unwritable
from refgenied.files.regular import descriptor
from refgenied.genomes.enclosure import FOLDER_FLAGS, shown
from refgenied.model import ConflictError, NoSpaceError, UnsafeTreeError

_ZEROS = bytes(1 << 20)
_HOLE = 1 << 16
"""A run of this many zeros or more is not written: the file gets a hole there."""


@contextmanager
def appearing(target: Path, allowed: int = 0o777) -> Generator[Extraction]:
    """A context in which a folder is made. It appears at `target` at the end; after an error nothing of it is left.

    Missing folders above it are made. `allowed`: the permission bits that its members may have. ConflictError:
    something is at `target` already, or appears there meanwhile. NoSpaceError, WriteError.
    """
    require_free(target)
    above = [folder for folder in target.parents if not folder.exists()]
    partial: Path | None = None
    try:
        with writing_to(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial, lock = restore_folders.make(target)
            with descriptor(lock) as fd:
                with closing(Extraction(fd, allowed)) as extraction:
                    yield extraction
                    extraction.finish()
                _sync_disk(fd)
                require_free(target)
                os.rename(partial, target)
    except BaseException:
        if partial is not None:
            restore_folders.remove_folder(partial)
        for folder in above:
            with suppress(OSError):
                folder.rmdir()
        raise
    sync_folder(target.parent)


def require_free(target: Path) -> None:
    """ConflictError when anything is at `target`."""
    if os.path.lexists(target):
        raise ConflictError(
            f"{target} is in the way: nothing is ever overwritten", hint="move it away, or name another folder"
        )


@contextmanager
def writing_to(target: Path) -> Generator[None]:
    """A context for system calls that write below `target`. It turns OSError into NoSpaceError, ShortageError or
    WriteError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in DISK_FULL_ERRNOS:
            raise NoSpaceError(
                f"there is no room for {target} ({reason}); nothing is left of it", hint="make room, then try again"
            ) from error
        raise unwritable(target, error, hint="look at the rights of that folder") from error


class Extraction:
    """Makes members below one open folder, in any order; modes and times of folders come at the end."""

    def __init__(self, root: int, allowed: int) -> None:
        self._root = root
        self._way: list[tuple[bytes, int]] = []
        """The path from the root to the folder that is open now: (name, descriptor) of each folder in it."""
        self._folders: list[Entry] = []
        self._made: set[bytes] = set()
        """Paths of the folders that were made. A folder that no entry describes gets the usual mode."""
        self._allowed = allowed
        """Permission bits that may be given. Set-id and sticky bits are never given."""

    def close(self) -> None:
        self._keep(0)

    def folder(self, entry: Entry) -> None:
        self._open(_parts(entry.raw_path))
        self._folders.append(entry)

    def link(self, entry: Entry) -> None:
        *above, name = entry.raw_path.split(b"/")
        os.symlink(entry.raw_target, name, dir_fd=self._open(above))
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=self._open(above), follow_symlinks=False)

    def file(self, entry: Entry, pieces: Iterable[memoryview]) -> int:
        """Write a file. Returns the number of bytes that were written."""
        *above, name = entry.raw_path.split(b"/")
        size = 0
        with descriptor(os.open(name, NEW_FILE_FLAGS, 0o600, dir_fd=self._open(above))) as fd:
            for piece in pieces:
                append(fd, piece)
                size += len(piece)
            if size >= _HOLE:
                os.ftruncate(fd, size)
            os.fchmod(fd, entry.permissions & self._allowed)
            os.utime(fd, (entry.mtime, entry.mtime))
        return size

    def finish(self) -> None:
        """Give the folders their modes and times, the deepest first."""
        for path in self._made.union((b"",)) - {entry.raw_path for entry in self._folders}:
            os.fchmod(self._open(_parts(path)), 0o755)
        for entry in sorted(self._folders, key=lambda entry: len(_parts(entry.raw_path)), reverse=True):
            fd = self._open(_parts(entry.raw_path))
            inherited = stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_ISGID  # files in it get its group
            os.fchmod(fd, entry.permissions & self._allowed | inherited)
            os.utime(fd, (entry.mtime, entry.mtime))

    def _open(self, parts: list[bytes]) -> int:
        """A descriptor of a folder below the root. A missing folder is made."""
        common = 0
        while common < min(len(parts), len(self._way)) and parts[common] == self._way[common][0]:
            common += 1
        self._keep(common)
        at = self._way[-1][1] if self._way else self._root
        for depth, name in enumerate(parts[common:], start=common + 1):
            if name in (b"", b".", b".."):  # it was judged before, but the list may have changed since then
                raise UnsafeTreeError(f"{shown(b'/'.join(parts))} leads elsewhere: nothing is extracted")
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=at)
                self._made.add(b"/".join(parts[:depth]))
            at = os.open(name, FOLDER_FLAGS, dir_fd=at)
            self._way.append((name, at))
        return at

    def _keep(self, depth: int) -> None:
        while len(self._way) > depth:
            os.close(self._way.pop()[1])


def _parts(path: bytes) -> list[bytes]:
    return path.split(b"/") if path else []


def append(fd: int, piece: memoryview) -> None:
    """Append a piece; many zeros in a row become a hole."""
    if len(piece) >= _HOLE and not piece[0] and not piece[-1] and piece.tobytes() == _ZEROS[: len(piece)]:
        os.lseek(fd, len(piece), os.SEEK_CUR)
        return
    while piece:
        piece = piece[os.write(fd, piece) :]


def _sync_disk(fd: int) -> None:
    """Sync the whole disk of the folder: one call instead of one for each file."""
    c = ctypes.CDLL(None, use_errno=True)
    if c.syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
