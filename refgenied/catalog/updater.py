"""Keeps the archive folder servable: after each publish and removal, and after each look."""

import time
from collections.abc import Callable

import anyio
import anyio.to_thread
import structlog

from refgenied.catalog.faults import explained
from refgenied.catalog.folder import Served, ServedFolder, Wanted
from refgenied.catalog.server_config import Head
from refgenied.model import AssetKey, RefgeniedError, StateError
from refgenied.queue.core import Core
from refgenied.reconciler import Reconciler
from refgenied.store import archives

log = structlog.get_logger("serving")

_CAUSES = ("archive.", "database.")
"""Events of these kinds change the served archives."""
REPAIR_SECONDS = 60.0
"""Seconds between two refreshes while something is wrong, or while replaced archives are kept."""
REST_PER_REFRESH = 4.0
"""In a row of publishes a refresh waits for this many times the duration of the last: it looks at all archives."""


class Updater:
    """It makes all its files from the database, the manifests and the last look. Every call may be repeated."""

    def __init__(
        self, core: Core, reconciler: Reconciler, doubt: Callable[[frozenset[AssetKey]], None] = lambda _: None
    ) -> None:
        self._core = core
        self._reconciler = reconciler
        self._doubt = doubt
        """It is called with the archives whose record, manifest and file do not agree."""
        self._folder = ServedFolder(core.archive_folder.path)
        self._causes = core.jobs.feed.subscribe(*_CAUSES)
        self._again = anyio.Event()
        """Set after a change that no refresh has seen yet."""
        self._unwell = False
        self._rested_at = 0.0
        self.served = Served()
        """The result of the last refresh."""

    @property
    def config(self) -> str:
        """The path of the server's config; "" when the daemon does not keep one."""
        on = self._core.current.settings.serving.enabled and self._core.archive_folder.path
        return str(self._folder.config.path) if on else ""

    async def follow(self) -> None:
        """Refresh, unless the last refresh was a moment ago and the next publish follows soon.

        Without this rule, each of 2,000 publishes would cost a look at all archives. A row of publishes always ends
        with a refresh.
        """
        try:
            soon = self._rest > 0 and await self._core.jobs.more_due()
        except StateError:
            soon = False
        if not soon:
            await self.refresh()

    async def catch_up(self) -> None:
        """Return when every archive that was recorded before this call is served.

        So every publish of which the caller knows is served: the feed gives us an event right after its commit, before
        anybody else gets it.
        """
        async with self._core.archive_folder.publishing:  # wait until a running refresh has ended
            if self._causes.pending or self._again.is_set():
                await self._refresh()

    @property
    def _rest(self) -> float:
        return self._rested_at - time.monotonic()

    async def refresh(self) -> None:
        """Return when all archives that are recorded now are served. A fault is a health warning, not an error."""
        async with self._core.archive_folder.publishing:  # during a publish no served name may change
            await self._refresh()

    async def _refresh(self) -> None:
        began, was_unwell = time.monotonic(), self._unwell
        self._causes.skip()
        if self._again.is_set():
            self._again = anyio.Event()
        try:
            await self._serve()
        except anyio.get_cancelled_exc_class():  # a client has closed its connection
            self._again.set()
            raise
        except (OSError, RefgeniedError) as error:
            self._unwell = True
            self._core.health.set("serving", f"nothing new is served: {explained(error)}")
        except Exception as error:
            self._unwell = True
            log.exception("serving.failed")
            self._core.health.set("serving", f"an unexpected error: {type(error).__name__}: {error}")
        else:
            number = self.served.faulty
            them = "1 archive is" if number == 1 else f"{number} archives are"
            self._core.health.note(
                "serving", f"{them} not served; `not served` in the status says why" if number else ""
            )
        if self._unwell and not was_unwell:
            self._again.set()  # `run` may wait without an end; from now on it looks every minute
        ended = time.monotonic()
        self._rested_at = ended + REST_PER_REFRESH * (ended - began)

    async def _serve(self) -> None:
        settings = self._core.current.settings
        if not self._reconciler.look.ok and not self._reconciler.first_look.is_set():
            return  # without a look, aliases and default assets are not known
        if not self.config or not await self._core.archive_folder.usable():
            return
        records, removals = await self._core.jobs.store.ask(archives.known)
        wanted = Wanted(
            records=records,
            removals=removals,
            look=self._reconciler.look,
            head=Head(settings.refgenie.genome_folder, self._core.archive_folder.path, settings.serving.remotes),
            files=settings.serving.files,
            publish_private=settings.archive.publish_private,
        )
        with anyio.CancelScope(shield=True):
            self.served = await anyio.to_thread.run_sync(self._folder.refresh, wanted)
            self._unwell = self.served.unwell
        if self.served.doubtful:
            self._doubt(self.served.doubtful)

    async def run(self) -> None:
        """Refresh after each cause, and after each look. Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow_events)
            group.start_soon(self._follow_looks)
            while True:
                with anyio.move_on_after(REPAIR_SECONDS if self._unwell or self._folder.kept.waiting else None):
                    await self._again.wait()
                if self._unwell:
                    self._again.set()
                if self._again.is_set():
                    await anyio.sleep(max(0.0, self._rest))
                    await self.catch_up()
                await self._tidy()

    async def _tidy(self) -> None:
        """Delete the replaced archives whose time is over, even when nothing is served now."""
        async with self._core.archive_folder.publishing:
            if await self._core.archive_folder.usable():
                await anyio.to_thread.run_sync(self._folder.kept.tidy)

    async def _follow_events(self) -> None:
        while True:
            arrived = await self._causes.take()
            self._causes.lagged = False
            self._again.set()
            if any(event.job is not None for event in arrived):  # an import has no job, and may be one of thousands
                await self.follow()

    async def _follow_looks(self) -> None:
        while True:
            await self._reconciler.looked.wait()
            self._again.set()
