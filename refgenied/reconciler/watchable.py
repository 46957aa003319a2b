"""The folders whose changes are worth a look, and whether a watch on them may have missed something."""

import heapq
import os
import stat
from collections.abc import Collection, Mapping
from typing import NamedTuple

from refgenied.genomes.build_folder import BUILD_FOLDER

CLOCK_SLACK_SECONDS = 2.0
"""A folder's ctime may be this much older than its last change: some file systems count in whole or in two seconds."""


class Known(NamedTuple):
    """One folder as it was found right after a look."""

    device: int
    inode: int
    """With the device: a folder that was made again under the same name is a new folder."""
    changed_ns: int
    """Its ctime. The kernel sets it at each change of the folder, and nobody else can."""
    certain: bool
    """Whether the look saw the folder like this. If not, it has changed at about the same moment."""

    @property
    def identity(self) -> tuple[int, int]:
        return self.device, self.inode


Watchable = Mapping[str, Known]


class Folders:
    """The folders to watch after the last look. `renew` blocks; one thread calls it, and others read the results."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._named: tuple[tuple[str, ...], int] = ((), 0)
        self.watchable: Watchable = {}
        """The folders to watch, if they exist and can be read. It stays the same object while nothing differs."""
        self.left_out = 0
        """How many more there are than may be watched."""

    def renew(self, named: tuple[str, ...], began: float, *, most: int, again: Collection[str] | None) -> None:
        """Take over the folders that a look has named. `began`: when the look began, Unix seconds.

        Folders that are known already are not looked at again, but for those in `again` (None: all).
        """
        anew = None if again is None else {folder for folder in again if folder in self._known}
        if anew is not None and not anew and self._named == (named, most):
            return
        known: dict[str, Known] = {}
        for folder in named:
            old = None if anew is None or folder in anew else self._known.get(folder)
            found = old or _readable(folder, began)
            if found is not None:
                known[folder] = found
        chosen = _first(known, most)
        self._known, self._named, self.left_out = known, (named, most), len(known) - len(chosen)
        if chosen != self.watchable:
            self.watchable = chosen


def changed_since(folders: Watchable) -> set[str]:
    """The folders that are not as the look saw them, or for which nobody can tell. This blocks."""
    return {folder for folder, known in folders.items() if not known.certain or _found(folder) != known}


def is_of_a_build(folder: str) -> bool:
    """Whether a folder to watch is one of a running build: it comes and goes with the build."""
    above = folder.rsplit("/", 4)
    return above[-1] == BUILD_FOLDER or (len(above) == 5 and above[1] == "builds")


def _first(known: dict[str, Known], most: int) -> dict[str, Known]:
    """At most this many of the folders: first those of running builds, then those with the fewest folders above them,
    then those that have changed most lately. In refgenie 1 new genomes and new asset groups appear in the upper
    folders, and only a new asset of a known group in a lower one.
    """
    if len(known) <= most:
        return known

    def rank(folder: str) -> tuple[bool, int, int]:
        return is_of_a_build(folder), -folder.count("/"), known[folder].changed_ns

    return {folder: known[folder] for folder in heapq.nlargest(most, known, key=rank)}


def _readable(folder: str, began: float) -> Known | None:
    """None: the folder cannot be watched. One that cannot be read would end the watch on all of them."""
    found = _found(folder)
    if found is None or not os.access(folder, os.R_OK):
        return None
    return found._replace(certain=found.changed_ns / 1e9 < began - CLOCK_SLACK_SECONDS)


def _found(folder: str) -> Known | None:
    try:
        info = os.stat(folder)
    except OSError:
        return None
    return Known(info.st_dev, info.st_ino, info.st_ctime_ns, certain=True) if stat.S_ISDIR(info.st_mode) else None
