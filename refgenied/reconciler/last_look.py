"""The genome folder as the last look has found it. Faults go to the health, and changes go to the log."""

import os
import stat
import time
from contextlib import suppress

import structlog

from refgenied.files.disk import DiskThread
from refgenied.model import Look
from refgenied.queue.core import Core

log = structlog.get_logger("reconciler")

MOST_CHANGES_LOGGED = 200
"""If one look shows at most this many changes, each has a log line."""

Watchable = tuple[tuple[str, tuple[int, int]], ...]
"""Folders with (device, inode), because a folder that was made again under the same name is a new folder."""

NO_LOOK = Look(assets={}, genomes={}, problems=(), layout="", root=None, watch=())


class LastLook:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.disk = DiskThread("look")
        self.look = NO_LOOK
        """The last look that could read the genome folder."""
        self.readable = True
        """Whether the newest look could read it."""
        self.watchable: Watchable = ()
        """The folders to watch, if they exist."""
        self.at = 0.0
        """When the newest look was done, in Unix seconds; 0.0 before the first look."""
        self.took = 0.0
        """How many seconds the newest look took."""

    async def renew(self) -> None:
        """Look at the whole genome folder."""
        began = time.monotonic()
        found = await self.disk.run(self._core.genomes.look, self._core.clock())
        self._report(found)
        self.readable = found.ok
        if found.ok:
            before, self.look = self.look, found
            self._log_changes(before)
        self.watchable = await self.disk.run(identified, self.look.watch)
        self.at, self.took = self._core.clock(), time.monotonic() - began

    def names(self, path: str) -> list[str]:
        """All registry paths of the asset with this path: first with the genome's digest, then with each alias."""
        genome, _, name = path.partition("/")
        genomes = self.look.genomes
        known = [genomes[genome]] if genome in genomes else [one for one in genomes.values() if genome in one.aliases]
        if not name or len(known) != 1:  # if two genomes have this alias, it is not clear which is meant
            return [path]
        return [f"{called}/{name}" for called in (known[0].digest, *known[0].aliases)]

    def _report(self, found: Look) -> None:
        health = self._core.health
        if found.ok:
            health.clear("genome_folder")
            lines = [f"{problem.path}: {problem.message}" for problem in found.problems]
            more = f" (and {len(lines) - 1} more: refgeniectl status --json)" if len(lines) > 1 else ""
            health.note("genomes", lines[0] + more if lines else "")
        else:
            missing = f"{self._core.current.settings.refgenie.genome_folder} is missing"
            health.set("genome_folder", found.problems[0].message if found.problems else missing)

    def _log_changes(self, earlier: Look) -> None:
        changed = [
            asset
            for key, asset in self.look.assets.items()
            if (before := earlier.assets.get(key)) is None or before.state is not asset.state
        ]
        for asset in changed[:MOST_CHANGES_LOGGED]:
            path = asset.key.named(asset.aliases)
            log.info("asset.state", asset=path, state=asset.state, reason=asset.reason)
        if len(changed) > MOST_CHANGES_LOGGED:
            more = len(changed) - MOST_CHANGES_LOGGED
            log.info("asset.states_more", more=more, see="refgeniectl asset list")


def identified(folders: tuple[str, ...]) -> Watchable:
    """The folders that can be watched. A folder that cannot be read would end the watch on all of them."""
    found: list[tuple[str, tuple[int, int]]] = []
    for folder in folders:
        with suppress(OSError):
            info = os.stat(folder)
            if stat.S_ISDIR(info.st_mode) and os.access(folder, os.R_OK):
                found.append((folder, (info.st_dev, info.st_ino)))
    return tuple(found)
