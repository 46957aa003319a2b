"""Watches the config of the archive folder: each new version of it becomes the current edition."""

import gc
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.from_thread import check_cancelled

from refgenied.files.disk import DiskThread
from refgenied.files.regular import identity
from refgenied.model import ShortageError
from refgenied.serve import refgenieserver
from refgenied.serve.edition_reader import EditionReader, NotReadyError
from refgenied.serve.editions import ConfigEdition, Shelf

log = structlog.get_logger("serve")

CONFIG_LOOK_SECONDS = 0.1
"""Seconds between two looks at the config's file. A look is one system call; notices of the kernel may be lost."""
SHORTAGE_LOOK_SECONDS = 1.0
"""Seconds before the config is read again, after a shortage of memory or descriptors."""
DOUBT_LOOK_SECONDS = 1.0
"""Seconds between two looks whether an archive is in doubt, or a promise is over."""
NEWER_ARCHIVE_SECONDS = 3.0
"""For this long we wait for the config to follow, when an archive in the folder is newer than the config."""
SILENT_DISK_SECONDS = 30.0
"""A disk that has not answered for this long is a problem that `/health` reports."""


class Follower:
    """A new `Follower` reads the config once. `run` then reads each new version.

    All looks at the config are in one thread: a disk that does not answer stops that thread, and no client.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = EditionReader(folder)
        self.config = self._reader.config
        self.shelf = Shelf(self._first())
        self.app = refgenieserver.build(folder, self.shelf)
        """The refgenieserver app, built for the remotes of the current edition."""
        self.loaded_at = time.time()
        """When the current edition was read, in Unix seconds."""
        self._disk = DiskThread("archive folder's disk")
        self._ended = threading.Event()
        self._looking_since: float | None = None
        """When the thread's look began (monotonic seconds); None between two looks."""
        self._refused = ""
        self._refused_state: tuple[int, ...] = ()
        """The identity of the config that was refused last."""

    @property
    def problem(self) -> str:
        """Why the current edition differs from the config; empty when it does not."""
        since = self._looking_since
        if since is not None and time.monotonic() - since > SILENT_DISK_SECONDS:
            return f"{self._folder}: the disk has not answered for {time.monotonic() - since:.0f} seconds"
        return self._refused or ("" if self.shelf.current.identity else f"{self.config} is not there (yet)")

    def _first(self) -> ConfigEdition:
        """The first edition. If the config cannot be read, the edition is empty until `run` has read a new version."""
        deadline = time.monotonic() + NEWER_ARCHIVE_SECONDS
        while True:
            try:
                return self._reader.read(patient=time.monotonic() < deadline)
            except NotReadyError:
                time.sleep(CONFIG_LOOK_SECONDS)
            except ShortageError:
                raise
            except Exception as error:  # noqa: BLE001 - refgenconf has many
                log.warning("serve.config_unreadable", path=str(self.config), error=str(error))
                return self._reader.nothing()

    async def run(self) -> None:
        """Ends only by cancellation."""
        _set_aside()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._settle_doubts)
                while True:
                    self._swap(await self._disk.run(self._next))
        finally:
            self._ended.set()

    def _next(self) -> ConfigEdition:
        """Wait until the config is another file, and read it. In the thread."""
        since: float | None = None
        pause = CONFIG_LOOK_SECONDS
        while not self._ended.wait(pause):
            pause = CONFIG_LOOK_SECONDS
            self._looking_since = time.monotonic()
            state = identity(self.config)
            self._looking_since = None
            if state in ((), self._refused_state, self.shelf.current.identity):
                continue
            since = since or time.monotonic()
            try:
                return self._reader.read(patient=time.monotonic() - since < NEWER_ARCHIVE_SECONDS)
            except NotReadyError:
                continue
            except ShortageError as error:
                since, pause = None, SHORTAGE_LOOK_SECONDS
                self._refuse(error.message)
            except Exception as error:  # noqa: BLE001 - refgenconf has many
                self._refused_state, since = state, None
                self._refuse(f"{self.config}: {' '.join(str(error).split())}")
        return self.shelf.current  # nobody waits for it any more

    def _refuse(self, problem: str) -> None:
        if problem != self._refused:
            log.warning("serve.config_refused", error=problem)
        self._refused = problem

    def _swap(self, edition: ConfigEdition) -> None:
        remotes_changed = edition.remotes != self.shelf.current.remotes
        self._refused, self._refused_state = "", ()
        self.shelf.put(edition)
        self.loaded_at = time.time()
        if remotes_changed:
            self.app = refgenieserver.build(self._folder, self.shelf)
            _set_aside()
        log.info("serve.config_loaded", archives=len(edition.archives))

    async def _settle_doubts(self) -> None:
        """Read the archives whose file is not the file that was there when the config was read."""
        while True:
            await anyio.sleep(DOUBT_LOOK_SECONDS)
            self.shelf.tidy()
            while self._reader.folder.in_doubt:
                archive = self._reader.folder.in_doubt.pop()
                await anyio.to_thread.run_sync(archive.prove_again, check_cancelled)


def _set_aside() -> None:
    """Let Python's search for unused cycles skip what is there now: the modules, the app and the edition.

    The search stops all threads, for 50 ms or more when there are 10,000 archives. Editions have no cycles.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
