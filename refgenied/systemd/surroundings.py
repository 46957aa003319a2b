"""Changes around the daemon that only another start can follow: a new disk, or another file in the database's place."""

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
        """`restart` takes a reason, ends the daemon in order, and has it started again."""
        self._store = core.jobs.store
        self._health = core.health
        self._restart = restart
        if self._store.trouble:
            log.error("database.damaged", problem=self._store.trouble)
            self._health.set("database_file", self._store.trouble)
        refgenie = core.current.settings.refgenie
        folders = (refgenie.genome_folder, refgenie.genome_config, refgenie.genome_archive_folder)
        # Where a link leads is looked up only once, because a dead disk would delay each look.
        self._folders = [name for folder in folders if folder for name in (folder, os.path.realpath(folder))]
        self._mounts = mounts.over(self._folders)

    async def look(self, *, stopping: bool) -> None:
        """Restart the daemon if it must be."""
        if unit():
            self._look_for_mounts()
        lost = await self._store.look()
        if lost and not stopping:
            await self._save_database(lost)

    def _look_for_mounts(self) -> None:
        """A disk that is mounted later would be writable, because the sandbox was built without it."""
        new = mounts.over(self._folders) - self._mounts
        self._mounts |= new
        for _, point in sorted(new):
            self._restart(
                f"a disk was mounted at {point}: the daemon must start again, so that its sandbox is built around it"
            )

    async def _save_database(self, lost: str) -> None:
        """A deleted or replaced file would lose what is written to it. The next start puts that right."""
        self._health.set("database_file", f"{lost}; the daemon starts again")
        with suppress(StateError):
            await self._store.rescue()
        self._restart(f"{lost}: the daemon must start again, and agrees with the manifests then")
