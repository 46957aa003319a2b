"""Which disks are mounted over a folder, and the place of a folder on its disk.

The sandbox of a service only has the disks that were mounted when the process started.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from refgenied.files.regular import StrPath

MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")

Mount = tuple[str, str]
"""(the kernel's number of the mount, its mount point)."""


def over(folders: Iterable[str], mountinfo: Path = MOUNTINFO) -> frozenset[Mount]:
    """The mounts at or above any of the folders, as this process sees them, with mounts that other mounts hide."""
    wanted = [f"{folder.rstrip('/')}/" for folder in folders if folder]
    mounts = ((fields[0], _plain(fields[4])) for fields in _table(mountinfo))
    return frozenset(
        (number, point)
        for number, point in mounts
        if any(folder.startswith(f"{point.rstrip('/')}/") for folder in wanted)
    )


def origin(path: str, mountinfo: Path = MOUNTINFO) -> tuple[str, str] | None:
    """The disk of an absolute path without links, and the path on that disk; None when they are not known.

    With this we see that a folder and a bind mount of it (or of a part of it) are the same. The path need not exist.
    """
    best: tuple[str, str, str] | None = None
    for fields in _table(mountinfo):
        device, root, point = fields[2], _plain(fields[3]), _plain(fields[4]).rstrip("/")
        if f"{path}/".startswith(f"{point}/") and (best is None or len(point) >= len(best[2])):
            best = device, root, point  # at one mount point, a later mount hides an earlier one
    if best is None or best[0] != _device(path):  # a disk with several parts (btrfs) has numbers of its own
        return None
    device, root, point = best
    return device, os.path.normpath(f"{root}/{path[len(point) :]}").replace("//", "/")


def file_system(path: StrPath, mountinfo: Path = MOUNTINFO) -> str:
    """The kind of the file system that holds `path`, such as `ext4`, `nfs4` or `fuse.sshfs`; empty when unknown."""
    device = _device(os.fspath(path))
    kinds = (fields[fields.index("-") + 1] for fields in _table(mountinfo) if fields[2] == device)
    return next(kinds, "")


def _table(mountinfo: Path) -> list[list[str]]:
    try:
        return [line.split() for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return []


def _device(path: str) -> str:
    """The number of the disk of the nearest existing folder, as mountinfo writes it."""
    while True:
        try:
            number = os.stat(path).st_dev
        except OSError:
            if path in ("", "/"):
                return ""
            path = os.path.dirname(path)
        else:
            return f"{os.major(number)}:{os.minor(number)}"


def _plain(point: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), point)
