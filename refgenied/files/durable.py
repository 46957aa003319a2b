"""Files, once: opened although others may have put anything under the name, and written so that they last.

*Opened*: regular files only, and nothing that is there can hold us up: a FIFO without a writer, a terminal, a device.
*Written*: `save_atomically` promises that a reader sees the old content or the new one, never a part, also after a
power cut: a hidden partial file, fsync, rename, fsync of the folder.
*Said*: `reading` and `writing` turn what the system answers into words, and tell three things apart: the disk is full,
the machine is short of something (descriptors, memory), or this file is at fault.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from refgenied.model import NoSpaceError, ShortageError, UnreadableError, WriteError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""No room on the disk, or in the quota."""
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOLCK})
"""The process or the machine has none left for the moment; the file that was asked for has no part in it."""
NO_FILE = frozenset({errno.EINVAL, errno.EFBIG, errno.ELOOP})
"""What `read_regular` says when something is there that cannot be the file that is meant: no disk is at fault."""
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES})
"""What file systems without hard links answer."""

LONGEST_NAME = 255
"""Bytes of a file name on the file systems of Linux."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags for a file that must not be there yet."""

StrPath = str | os.PathLike[str]

# --------------------------------------------------------------------- opened


def open_regular(path: StrPath) -> int:
    """A read-only descriptor of a regular file; a link is followed. Never blocks.

    OSError, also when something else than a regular file is there: that is not even opened, for a device may act on it.
    """
    at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(at).st_mode):
            # O_NONBLOCK: no lease or pseudo-file holds us up. O_NOCTTY: a terminal stays nobody's.
            return os.open(f"/proc/self/fd/{at}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        os.close(at)
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def opener(path: str, _flags: int) -> int:
    """For `open(path, "rb", opener=opener)`."""
    return open_regular(path)


def read_regular(path: StrPath, limit: int | None = None) -> bytes:
    """All of a regular file. OSError, with EFBIG when it has more than `limit` bytes (it is not read then).

    The kernel's own files (`/proc`, `/sys`) say that they are empty, and are taken at their word: reading some of them
    waits, or takes away what others wait for.
    """
    with open(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        if limit is None:
            return file.read()
        data = file.read(limit + 1)
        if len(data) <= limit:
            return data
        size = max(os.fstat(file.fileno()).st_size, len(data))
        raise OSError(errno.EFBIG, f"it has {size} bytes, and at most {limit} are read", os.fspath(path))


def identity(path: StrPath) -> tuple[int, ...]:
    """What tells a file from another one under its name, or from itself after a write; empty when it is not there."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


# --------------------------------------------------------------------- written


def partial_of(path: Path) -> Path:
    """The hidden name of a file while it is written: `.{name}.partial`, cut when that is longer than a name may be."""
    return _named(path, ".", ".partial")


def _named(path: Path, before: str, after: str) -> Path:
    name = f"{before}{path.name}{after}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        cut = os.fsencode(path.name)[:200].decode(errors="ignore")
        name = f"{before}{cut}-{mark}{after}"
    return path.with_name(name)


def keep_beside(path: Path, word: str) -> Path:
    """Keep what is under a name before it is replaced: as `{name}.{word}`, or `{name}.{word}.1` and so on.

    Nothing that was kept before is touched, and the same file is kept once. The name itself stays, unless
    there is no other way (a file of somebody else that we may not read). OSError.
    """
    number = 0
    while True:
        kept = _named(path, "", f".{word}.{number}" if number else f".{word}")
        number += 1
        if os.path.lexists(kept):
            if _one_file(path, kept):
                return kept
            continue
        try:
            os.link(path, kept, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _copy_or_move(path, kept)
        sync_folder(path.parent)
        return kept


def _one_file(path: Path, kept: Path) -> bool:
    """Whether one is a hard link of the other, or a copy of it."""
    mine, its = path.lstat(), kept.lstat()
    if stat.S_ISLNK(mine.st_mode) and stat.S_ISLNK(its.st_mode):
        return path.readlink() == kept.readlink()
    copied = (mine.st_size, mine.st_mtime_ns) == (its.st_size, its.st_mtime_ns) and stat.S_ISREG(its.st_mode)
    return os.path.samestat(mine, its) or copied


def _copy_or_move(path: Path, kept: Path) -> None:
    """For want of a hard link: the system refuses one for a file of somebody else, too."""
    try:
        _copy(path, kept)
    except PermissionError:
        path.rename(kept)


def _copy(path: Path, kept: Path) -> None:
    if path.is_symlink():
        kept.symlink_to(path.readlink())
        return
    partial = partial_of(kept)
    partial.unlink(missing_ok=True)
    with open(open_regular(path), "rb") as file, open(os.open(partial, NEW, 0o600), "wb") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        shutil.copystat(path, partial)
        os.fsync(copy.fileno())
    partial.rename(kept)


def save_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> bool:
    """Make the file hold this and nothing else, in one step and durably. Whether that changed its content.

    What was there under the name, a link too, is replaced. `mode` as for `os.open`. OSError: the old file is as it was.
    """
    with suppress(OSError):
        if not path.is_symlink() and read_regular(path, len(data)) == data:
            return False
    partial = partial_of(path)
    partial.unlink(missing_ok=True)
    try:
        fd = os.open(partial, NEW, mode)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        partial.rename(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return True


def allow(path: StrPath, mode: int) -> bool:
    """Give a file or folder these permission bits, less those that this process gives to nothing new (its umask).

    Whether that changed them. OSError.
    """
    wanted = mode & ~_umask()
    if stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode) & 0o777 == wanted:
        return False
    os.chmod(path, wanted)
    return True


def close_to_others(fd: int) -> None:
    """Let nobody but the owner and the group open this file: who may read a file may hold a lock on it.

    Left as it is where that is not ours to change.
    """
    with suppress(OSError):
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o007:
            os.fchmod(fd, mode & ~0o007)


def _umask() -> int:
    """The system call can only read it by changing it, for all threads."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """A write may be short; the rest is written then."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: StrPath) -> None:
    """Bring the names in a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --------------------------------------------------------------------- said


@contextmanager
def reading(path: StrPath) -> Generator[None]:
    """Around system calls that read `path`: UnreadableError or ShortageError instead of OSError."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: StrPath, error: OSError) -> UnreadableError | ShortageError:
    """What to raise when reading `path` failed so."""
    message = f"{os.fspath(path)} cannot be read: {error.strerror or error}"
    if error.errno in SHORT:
        return ShortageError(message)
    return UnreadableError(message)


@contextmanager
def writing(path: Path, written: int = 0) -> Generator[None]:
    """Around system calls that write `path` (`written` bytes so far): NoSpaceError, ShortageError or WriteError
    instead of OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL:
            raise NoSpaceError(
                f"{path.parent} has no room for {path.name}: {_free(path.parent)} bytes are free, and it "
                f"needs more than the {written} bytes written so far ({reason})",
                hint="make room on that disk, or raise the quota: the archive is then tried again",
            ) from error
        if error.errno in SHORT:
            raise ShortageError(f"{path} cannot be written: {reason}") from error
        raise WriteError(
            f"{path} cannot be written: {reason}", hint="look at the archive folder's rights and its disk"
        ) from error


def _free(folder: Path) -> int:
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
