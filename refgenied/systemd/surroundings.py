"""Finds changes that need a restart of the daemon: a new disk, or another file in the place of the database."""

import os
from collections.abc import Callable
from contextlib import suppress

import structlog

from refgenied.files import mounts
from refgenied.model import StateError
from refgenied.queue.core import Core
from refgenied.systemd.notify import unit

log = structlog.get_logger("supervision")


class Surroundings:
    def __init__(self, core: Core, restart: Callable[[str], None]) -> None:
        """`restart` takes a reason, ends the daemon in order, and lets systemd start it again."""
        self._store = core.jobs.store
        self._health = core.health
        self._restart = restart
        if self._store.trouble:
            log.error("database.damaged", problem=self._store.trouble)
            self._health.set("database_file", self._store.trouble)
        refgenie = core.current.settings.refgenie
        folders = (refgenie.genome_folder, refgenie.genome_config, refgenie.genome_archive_folder)
        # Links are followed only once, at the start, because a dead disk would delay each look.
        self._folders = [name for folder in folders if folder for name in (folder, os.path.realpath(folder))]
        self._mounts = mounts.over(self._folders)

    async def look(self, *, stopping: bool) -> None:
        """Restart the daemon if this is necessary."""
        if unit():
            self._look_for_mounts()
        lost = await self._store.look()
        if lost and not stopping:
            await self._save_database(lost)

    def _look_for_mounts(self) -> None:
        """Look for new mounts. The sandbox was built without them, so the daemon could write to a new disk."""
        new = mounts.over(self._folders) - self._mounts
        self._mounts |= new
        for _, point in sorted(new):
            self._restart(
                f"a disk was mounted at {point}: the daemon must start again, so that its sandbox is built around it"
            )

    async def _save_database(self, lost: str) -> None:
        """Restart when the database file was deleted or replaced, because later writes would be lost."""
        self._health.set("database_file", f"{lost}; the daemon starts again")
        with suppress(StateError):
            await self._store.rescue()
        self._restart(f"{lost}: the daemon must start again, and then reads the manifests")
