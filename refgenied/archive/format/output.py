"""Writes the archive file: its bytes are counted, hashed and brought to the disk while it grows."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from refgenied.archive.format.codec import Buffer
from refgenied.files.durable import NEW_FILE_FLAGS, write_all, writing

WRITE_BACK_EVERY = 8 << 20
"""After each such number of bytes the kernel is told to begin writing them. This does not wait, and makes a later sync
short."""
SYNC_EVERY = 64 << 20
"""After each such number of bytes they are synced. A sync cannot be cancelled, so each must be short."""


class Output:
    """A new file to which blocks are appended. It has its permission bits from the start. A context manager.

    NoSpaceError, WriteError.
    """

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        self.path = path
        self.sizes: list[int] = []
        """Bytes of each block."""
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._synced = 0
        """How many of the `size` bytes are on the disk."""
        self._begun = 0
        """How many of the `size` bytes the kernel was told to write."""
        with writing(path):
            self._fd = os.open(path, NEW_FILE_FLAGS, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self.path, self.size):
            os.close(self._fd)

    @property
    def digest(self) -> str:
        """The md5 of the written bytes, in hex."""
        return self._md5.hexdigest()

    def append(self, data: Buffer) -> None:
        with writing(self.path, self.size):
            write_all(self._fd, data)
        self._md5.update(data)
        self.size += len(data)
        self.sizes.append(len(data))
        if self.size - self._synced >= SYNC_EVERY:
            self.sync()
        elif self.size - self._begun >= WRITE_BACK_EVERY:
            self._begin_to_write()

    def sync(self) -> None:
        with writing(self.path, self.size):
            os.fsync(self._fd)
        self._synced = self._begun = self.size

    def _begin_to_write(self) -> None:
        # Linux begins to write the dirty pages of this range and drops the clean ones, so the proof reads the disk.
        with suppress(OSError):
            os.posix_fadvise(self._fd, self._begun, self.size - self._begun, os.POSIX_FADV_DONTNEED)
        self._begun = self.size
