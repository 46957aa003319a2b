"""Reads the files beside an asset's files, and folders of other people: small amounts, and never through a link."""

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice

from refgenied.files.regular import descriptor
from refgenied.genomes.enclosure import FILE_FLAGS, FOLDER_FLAGS, GONE_ERRNOS, Enclosure, translating


@contextmanager
def open_folder(folder: str | os.PathLike[str], *, within: str | os.PathLike[str]) -> Generator[int]:
    """A descriptor of a folder within the genome folder, for `read_small` and scandir inside the block.

    UnsafeTreeError (it is outside), UnreadableError, SourceChangedError (it does not exist), ShortageError.
    """
    with translating(os.fspath(folder)):
        with Enclosure(within) as enclosure:
            opened = enclosure.open_at(enclosure.folder(folder), FOLDER_FLAGS)
        with descriptor(opened) as fd:
            yield fd


def read_small(folder: int, name: str | bytes, limit: int) -> bytes | None:
    """The first `limit` bytes of a regular file in an open folder; None when there is no such regular file.

    This never follows a link and never waits (for a FIFO). UnreadableError: the file may not be read.
    """
    with translating(name):
        try:
            opened = os.open(name, FILE_FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno in GONE_ERRNOS:
                return None
            raise
        with descriptor(opened) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            found = bytearray()
            while len(found) < limit and (chunk := os.read(fd, min(1 << 20, limit - len(found)))):
                found += chunk
            return bytes(found)


def some_names(folder: str | int, most: int) -> list[str]:
    """Names in a folder, sorted; at most `most`, because other people may have put any number there. OSError."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, most))
