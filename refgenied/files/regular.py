"""Reads regular files safely, although other people may have put anything under the name.

Nothing under the name can block us: not a FIFO without a writer, not a terminal, not a device.
`reading` tells two failures apart: the machine is short of descriptors or memory, or this file is at fault.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeGuard

from refgenied.model import ShortageError, UnreadableError

SHORTAGE_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOLCK})
"""The process or the machine is short of memory or descriptors for the moment. The file itself is not at fault."""
WRONG_FILE_ERRNOS = frozenset({errno.EINVAL, errno.EFBIG, errno.ELOOP})
"""`read_regular` raises these when the name belongs to an unexpected kind of file; the disk is not at fault."""

StrPath = str | os.PathLike[str]


def is_shortage(error: BaseException) -> TypeGuard[OSError]:
    """Whether the process or the machine is short of memory or descriptors for the moment."""
    return isinstance(error, OSError) and error.errno in SHORTAGE_ERRNOS


@contextmanager
def descriptor(fd: int) -> Generator[int]:
    """A context that closes this descriptor at its end."""
    try:
        yield fd
    finally:
        os.close(fd)


def open_regular(path: StrPath) -> int:
    """A read-only descriptor of a regular file; a link is followed. It never blocks.

    OSError, also for any other kind of file. Such a file is never opened, because opening a device may have effects.
    """
    with descriptor(os.open(path, os.O_PATH | os.O_CLOEXEC)) as at:
        try:
            if stat.S_ISREG(os.fstat(at).st_mode):
                # O_NONBLOCK: no lease or pseudo-file makes us wait. O_NOCTTY: we do not become a terminal's owner.
                return os.open(f"/proc/self/fd/{at}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def opener(path: str, _flags: int) -> int:
    """`open_regular` for `open(path, "rb", opener=opener)`."""
    return open_regular(path)


def read_regular(path: StrPath, limit: int | None = None) -> bytes:
    """The content of a regular file. OSError; its errno is EFBIG when the file has more than `limit` bytes.

    The kernel's own files (`/proc`, `/sys`) report a size of 0 and are not read: reading some of them blocks, or takes
    away data that other processes wait for.
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
    """Values that change when the file is replaced or written; empty when there is no file."""
    try:
        return identity_of(os.stat(path))
    except OSError:
        return ()


def identity_of(info: os.stat_result) -> tuple[int, ...]:
    """`identity` from the file's status."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


@contextmanager
def reading(path: StrPath) -> Generator[None]:
    """A context for system calls that read `path`. It raises UnreadableError or ShortageError instead of OSError."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: StrPath, error: OSError, *, hint: str = "") -> UnreadableError | ShortageError:
    """The error to raise after reading `path` failed with this OSError. `hint`: for an UnreadableError."""
    message = f"{os.fspath(path)} cannot be read: {error.strerror or error}"
    return ShortageError(message) if is_shortage(error) else UnreadableError(message, hint=hint)
