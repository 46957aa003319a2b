"""Watches the config of the archive folder: each new version of it becomes the current edition."""

import time
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.from_thread import check_cancelled

from refgenied.files.regular import identity
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import ShortageError
from refgenied.serve import refgenieserver
from refgenied.serve.editions import ConfigEdition, NotReadyError, Shelf, load_edition

log = structlog.get_logger("serve")

CONFIG_LOOK_SECONDS = 0.1
"""Seconds between two looks at the config's file. A look is one system call; notices of the kernel may be lost."""
SHORTAGE_LOOK_SECONDS = 1.0
"""Seconds before the config is read again, after a shortage of memory or descriptors."""
DOUBT_LOOK_SECONDS = 1.0
"""Seconds between two looks whether an archive is in doubt, or a promise is over."""
NEWER_ARCHIVE_SECONDS = 3.0
"""For this long we wait for the config to follow, when an archive in the folder is newer than the config."""


class Follower:
    """A new `Follower` reads the config once. `run` then reads each new version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config = folder / CONFIG_NAME
        self.shelf = Shelf(self._first())
        self.app = refgenieserver.build(folder, self.shelf)
        """The refgenieserver app, built for the remotes of the current edition."""
        self.loaded_at = time.time()
        """When the current edition was read, in Unix seconds."""
        self._refused = ""

    @property
    def problem(self) -> str:
        """Why the current edition differs from the config; empty when it does not."""
        return self._refused or ("" if self.shelf.current.identity else f"{self.config} is not there (yet)")

    def _first(self) -> ConfigEdition:
        """The first edition. If the config cannot be read, the edition is empty until `run` has read a new version."""
        deadline = time.monotonic() + NEWER_ARCHIVE_SECONDS
        while True:
            try:
                return load_edition(self._folder, self.config, None, patient=time.monotonic() < deadline)
            except NotReadyError:
                time.sleep(CONFIG_LOOK_SECONDS)
            except ShortageError:
                raise
            except Exception as error:  # noqa: BLE001 - refgenconf has many
                log.warning("serve.config_unreadable", path=str(self.config), error=str(error))
                return load_edition(self._folder, self._folder / ".none", None)

    async def run(self) -> None:
        """Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._settle_doubts)
            await self._follow()

    async def _follow(self) -> None:
        refused: tuple[int, ...] = ()
        since: float | None = None
        while True:
            await anyio.sleep(CONFIG_LOOK_SECONDS)
            state = identity(self.config)
            if state in ((), refused, self.shelf.current.identity):
                continue
            since = since or time.monotonic()
            patient = time.monotonic() - since < NEWER_ARCHIVE_SECONDS
            try:
                edition = await anyio.to_thread.run_sync(
                    lambda patient=patient: load_edition(self._folder, self.config, self.shelf.current, patient=patient)
                )
            except NotReadyError:
                continue
            except ShortageError as error:
                since = None
                self._refuse(error.message)
                await anyio.sleep(SHORTAGE_LOOK_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001 - refgenconf has many
                refused, since = state, None
                self._refuse(f"{self.config}: {' '.join(str(error).split())}")
                continue
            refused, since, self._refused = (), None, ""
            self._swap(edition)

    def _refuse(self, problem: str) -> None:
        if problem != self._refused:
            log.warning("serve.config_refused", error=problem)
        self._refused = problem

    def _swap(self, edition: ConfigEdition) -> None:
        remotes_changed = edition.remotes != self.shelf.current.remotes
        self.shelf.put(edition)
        self.loaded_at = time.time()
        if remotes_changed:
            self.app = refgenieserver.build(self._folder, self.shelf)
        log.info("serve.config_loaded", archives=len(edition.archives))

    async def _settle_doubts(self) -> None:
        """Read the archives whose file is not the file that was there when the config was read."""
        while True:
            await anyio.sleep(DOUBT_LOOK_SECONDS)
            self.shelf.tidy()
            for archive in [archive for archive in self.shelf.current.archives.values() if archive.in_doubt]:
                await anyio.to_thread.run_sync(archive.prove_again, check_cancelled)
