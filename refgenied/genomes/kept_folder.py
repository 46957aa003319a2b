"""The names of the folders in one folder, kept until the folder changes."""

import os
import time
from typing import NamedTuple

from refgenied.genomes.layout import folders_in
from refgenied.genomes.problems import Problems

CLOCK_SECONDS = 2.0
"""A folder that changed less than this before it was read may have changed again without showing it."""


class _Listed(NamedTuple):
    identity: tuple[int, ...]
    at_rest: bool
    names: tuple[str, ...]


class KeptFolder:
    """One folder; any number of threads may ask at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listed = _Listed((), False, ())

    def names(self, *, anew: bool = False) -> tuple[str, ...]:
        """The names of its folders, as `layout.folders_in` has them; the same object while they stay the same.

        `anew`: trust nothing that was kept.
        """
        kept = self._listed
        began = time.time()
        identity, changed = self._identity()
        if identity and identity == kept.identity and kept.at_rest and not anew:
            return kept.names
        names = tuple(folders_in(self._path, Problems()))
        if names == kept.names:
            names = kept.names
        self._listed = _Listed(identity, changed < began - CLOCK_SECONDS, names)
        return names

    def _identity(self) -> tuple[tuple[int, ...], float]:
        """What changes with the names, and when it last did, Unix seconds."""
        try:
            info = os.stat(self._path)
        except OSError:
            return (), 0.0
        return (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_ctime_ns), max(info.st_mtime, info.st_ctime)
