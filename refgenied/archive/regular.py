"""Opening what should be a file: a FIFO that somebody put under its name must not hold us up for ever."""

from __future__ import annotations

import errno
import os
import stat


def open_regular(path: str | os.PathLike[str]) -> int:
    """A read-only descriptor. OSError, also when it is no regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # for a regular file O_NONBLOCK means nothing
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def opener(path: str, _flags: int) -> int:
    """For `open(path, "rb", opener=opener)`."""
    return open_regular(path)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """All of it. OSError, also when it is no regular file."""
    with open(open_regular(path), "rb") as file:
        return file.read()
