"""What the system says, in words for people."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from refgenied.model import NoSpaceError, WriteError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def writing(path: Path, written: int = 0) -> Generator[None]:
    """Around system calls that write `path` (`written` bytes so far): NoSpaceError or WriteError instead of
    OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise NoSpaceError(
                f"{path.parent} has no room for {path.name}: {_free(path.parent)} bytes are free, and it "
                f"needs more than the {written} bytes written so far ({reason})",
                hint="make room on that disk, or raise the quota: the archive is then tried again",
            ) from error
        raise WriteError(
            f"{path} cannot be written: {reason}", hint="look at the archive folder's rights and its disk"
        ) from error


def _free(folder: Path) -> int:
    while not os.path.isdir(folder):
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
