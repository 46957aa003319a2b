"""Which disks are mounted over a folder. A sandbox is built around those that were there when the process started."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")

Mount = tuple[str, str]
"""(the kernel's number of the mount, its mount point)."""


def over(folders: Iterable[str], mountinfo: Path = MOUNTINFO) -> frozenset[Mount]:
    """The mounts at or above any of the folders, as this process sees them, also those that others hide."""
    wanted = [f"{folder.rstrip('/')}/" for folder in folders if folder]
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return frozenset()
    mounts = ((fields[0], _plain(fields[4])) for fields in map(str.split, lines))
    return frozenset(
        (number, point)
        for number, point in mounts
        if any(folder.startswith(f"{point.rstrip('/')}/") for folder in wanted)
    )


def _plain(point: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), point)
