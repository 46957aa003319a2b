"""Writes files that survive a power cut.

After `save_atomically` a reader sees the old content or the new content, never a part, even after a power cut. It
writes a hidden partial file, brings it to the disk, renames it, and brings the folder to the disk.
`writing` tells three failures apart: the disk is full; the machine is short of memory or descriptors; this file is at
fault.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from refgenied.files.regular import StrPath, descriptor, is_shortage, open_regular, read_regular
from refgenied.model import NoSpaceError, ShortageError, WriteError

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The disk or the quota has no room."""
NO_HARD_LINK_ERRNOS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES})
"""The errors of file systems without hard links."""

LONGEST_NAME_BYTES = 255
"""The longest file name on the file systems of Linux."""
NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags of `os.open` for a file that must not be there yet."""


def partial_of(path: Path) -> Path:
    """The hidden name of a file while it is written: `.{name}.partial`, shortened if it is too long."""
    return _named(path, ".", ".partial")


def _named(path: Path, before: str, after: str) -> Path:
    name = f"{before}{path.name}{after}"
    if len(os.fsencode(name)) > LONGEST_NAME_BYTES:
        mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        cut = os.fsencode(path.name)[:200].decode(errors="ignore")
        name = f"{before}{cut}-{mark}{after}"
    return path.with_name(name)


def keep_beside(path: Path, word: str) -> Path:
    """Keep a file before it is replaced, as `{name}.{word}`, or `{name}.{word}.1` and so on. Returns that path.

    Files that were kept before stay as they are, and the same file is kept only once. The file also keeps its old name,
    except when it can only be moved (it belongs to another user, and we may not read it). OSError.
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
            if error.errno not in NO_HARD_LINK_ERRNOS:
                raise
            try:
                _copy(path, kept)
            except PermissionError:
                path.rename(kept)
        sync_folder(path.parent)
        return kept


def _one_file(path: Path, kept: Path) -> bool:
    """Whether one path is a hard link or a copy of the other."""
    mine, its = path.lstat(), kept.lstat()
    if stat.S_ISLNK(mine.st_mode) and stat.S_ISLNK(its.st_mode):
        return path.readlink() == kept.readlink()
    copied = (mine.st_size, mine.st_mtime_ns) == (its.st_size, its.st_mtime_ns) and stat.S_ISREG(its.st_mode)
    return os.path.samestat(mine, its) or copied


def _copy(path: Path, kept: Path) -> None:
    """Copy a file when a hard link is not possible. Linux also refuses a hard link to a file of another user."""
    if path.is_symlink():
        kept.symlink_to(path.readlink())
        return
    partial = partial_of(kept)
    partial.unlink(missing_ok=True)
    with open(open_regular(path), "rb") as file, open(os.open(partial, NEW_FILE_FLAGS, 0o600), "wb") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        shutil.copystat(path, partial)
        os.fsync(copy.fileno())
    partial.rename(kept)


def save_atomically(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o644,
    durably: bool = True,
    ready: Callable[[Path], None] = lambda _: None,
) -> bool:
    """Give the file this content, in one step and durably. Returns whether the content changed.

    Any file or link with this name is replaced. `mode` is as for `os.open`. Not `durably`: a power cut may leave
    anything in the file, which is for files that are compared and made again at each start. `ready` is called with the
    partial file before it is renamed. OSError, and what `ready` raises: the old file is unchanged.
    """
    with suppress(OSError):
        there = path.lstat()
        same_size = stat.S_ISREG(there.st_mode) and there.st_size == len(data)
        if same_size and read_regular(path, len(data)) == data:
            return False
    partial = partial_of(path)
    try:
        write_new(partial, data, mode, durably=durably)
        ready(partial)
        partial.rename(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durably:
        sync_folder(path.parent)
    return True


def write_new(path: Path, data: bytes, mode: int = 0o644, *, durably: bool = True) -> None:
    """Write a new file and bring it to the disk (if `durably`). An old file of this name is removed first. OSError."""
    path.unlink(missing_ok=True)
    with descriptor(os.open(path, NEW_FILE_FLAGS, mode)) as fd:
        write_all(fd, data)
        if durably:
            os.fsync(fd)


def allow(path: StrPath, mode: int) -> bool:
    """Give a file or folder these permission bits, without the bits in the umask of this process.

    Returns whether the bits have changed. OSError.
    """
    wanted = mode & ~_umask()
    if stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode) & 0o777 == wanted:
        return False
    os.chmod(path, wanted)
    return True


def close_to_others(fd: int) -> None:
    """Let only the owner and the group open this file, because anyone who can open a file can lock it.

    When the system refuses the change, the file stays as it is.
    """
    with suppress(OSError):
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o007:
            os.fchmod(fd, mode & ~0o007)


def _umask() -> int:
    """The umask of this process, from `/proc`: the system call can only read it by changing it for all threads."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of the data; one `os.write` may write only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: StrPath) -> None:
    """Bring the names in a folder to the disk (fsync)."""
    with descriptor(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        os.fsync(fd)


@contextmanager
def writing(path: Path, written: int = 0) -> Generator[None]:
    """A context for system calls that write `path` (`written` bytes so far).

    It raises NoSpaceError, ShortageError or WriteError instead of OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in DISK_FULL_ERRNOS:
            raise NoSpaceError(
                f"{path.parent} has no room for {path.name}: {_free(path.parent)} bytes are free, and it "
                f"needs more than the {written} bytes written so far ({reason})",
                hint="make room on that disk, or raise the quota: the archive is then tried again",
            ) from error
        raise unwritable(path, error, hint="look at the archive folder's rights and its disk") from error


def unwritable(path: Path, error: OSError, *, hint: str) -> ShortageError | WriteError:
    """The error for a `path` that cannot be written, but not because the disk is full. `hint`: for a WriteError."""
    message = f"{path} cannot be written: {error.strerror or error}"
    return ShortageError(message) if is_shortage(error) else WriteError(message, hint=hint)


def _free(folder: Path) -> int:
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
