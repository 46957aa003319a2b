"""Keeps the archive folder servable: after each publish and removal, and after each look."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import anyio.to_thread
import structlog

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.catalog.faults import explained
from refgenied.catalog.folder import ServedFolder
from refgenied.catalog.server_config import Head
from refgenied.catalog.wanted import Served, Wanted
from refgenied.config import Current
from refgenied.health import Health
from refgenied.model import AssetKey, RefgeniedError, StateError
from refgenied.queue.jobs import Jobs
from refgenied.reconciler import Reconciler
from refgenied.store import archives

log = structlog.get_logger("serving")

_CAUSES = ("archive.", "database.")
"""Kinds of events after which the served state is another."""


AGAIN_SECONDS = 60.0
"""While something is wrong, or replaced archives are kept, the folder is looked at so often."""


RESTS = 4.0
"""A refresh looks at every archive: in a row of publishes this many times its duration passes before the next."""


class Keeper:
    """All it writes is derived from the database, the manifests and the last look; every call may be repeated."""

    def __init__(
        self,
        archive_folder: ArchiveFolder,
        jobs: Jobs,
        reconciler: Reconciler,
        current: Current,
        health: Health,
        doubt: Callable[[frozenset[AssetKey]], None] = lambda _: None,
    ) -> None:
        self._doubt = doubt
        """Told of archives whose record, manifest and file do not fit together."""
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._reconciler = reconciler
        self._current = current
        self._health = health
        self._folder = ServedFolder(archive_folder.path)
        self._again = anyio.Event()
        self._unwell = False
        self._rested_at = 0.0
        self._behind = False
        """Whether something was published that no refresh has seen."""
        self.served = Served()
        """As the last refresh left it."""

    @property
    def config(self) -> str:
        """Where the server's config is; "" when none is kept."""
        on = self._current.settings.serving.enabled and self._archive_folder.path
        return str(self._folder.config) if on else ""

    @property
    def _knows(self) -> bool:
        """Whether there was a look: before it little is known of aliases and default assets."""
        return self._reconciler.look.ok or self._reconciler.first_look.is_set()

    def publishes(self) -> None:
        """Called before a publish is recorded, so that who hears of it can `catch_up`."""
        self._behind = True

    async def published(self) -> None:
        """Called after each publish: refresh, unless the last one was just now and the next publish follows soon.

        Else each of 2,000 archives would cost a look at all others. The last of a row is always followed by one.
        """
        try:
            soon = self._rest > 0 and await self._jobs.more_due()
        except StateError:
            soon = False
        if not soon:
            await self.refresh()

    async def catch_up(self) -> None:
        """Serve what `published` has left for later. As `refresh`."""
        if self._behind:
            await self.refresh()

    @property
    def _rest(self) -> float:
        return self._rested_at - time.monotonic()

    async def refresh(self) -> None:
        """Return when the folder serves what is recorded now. What goes wrong is a health warning, not an error."""
        async with self._archive_folder.publishing:  # between a first rename and its record no served name may change
            began = time.monotonic()
            self._behind = False
            try:
                await self._refresh()
            except (OSError, RefgeniedError) as error:
                self._unwell = True
                self._health.set("serving", f"nothing new is served: {explained(error)}")
            except Exception as error:
                self._unwell = True
                log.exception("serving.failed")
                self._health.set("serving", f"an unexpected error: {type(error).__name__}: {error}")
            else:
                number = self.served.faulty
                them = "1 archive is" if number == 1 else f"{number} archives are"
                self._health.note(
                    "serving", f"{them} not served; `not served` in the status says why" if number else ""
                )
            ended = time.monotonic()
            self._rested_at = ended + RESTS * (ended - began)

    async def _refresh(self) -> None:
        settings = self._current.settings
        if not self._knows:
            return
        if not self.config or await anyio.to_thread.run_sync(self._archive_folder.problem):
            return
        async with self._jobs.store.transaction() as tx:
            records = await archives.everything(tx)
            removals = await archives.removals(tx)
        wanted = Wanted(
            records=records,
            removals=removals,
            look=self._reconciler.look,
            head=Head(settings.refgenie.genome_folder, self._archive_folder.path, settings.serving.remotes),
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
            group.start_soon(self._listen)
            group.start_soon(self._follow_looks)
            while True:
                with anyio.move_on_after(AGAIN_SECONDS if self._unwell or self._folder.kept.waiting else None):
                    await self._again.wait()
                if self._unwell or self._again.is_set():
                    await anyio.sleep(max(0.0, self._rest))
                    self._again = anyio.Event()
                    await self.refresh()
                await self._tidy()

    async def _tidy(self) -> None:
        """Take away replaced archives that nobody may come for any more, also when nothing is served now."""
        async with self._archive_folder.publishing:
            if self._archive_folder.path and not await anyio.to_thread.run_sync(self._archive_folder.problem):
                await anyio.to_thread.run_sync(self._folder.kept.tidy)

    async def _listen(self) -> None:
        with self._jobs.feed.subscribed() as subscription:
            while True:
                arrived = await subscription.take()
                if subscription.lagged or any(event.kind.startswith(_CAUSES) for event in arrived):
                    subscription.lagged = False
                    self._again.set()

    async def _follow_looks(self) -> None:
        while True:
            await self._reconciler.looked.wait()
            self._again.set()
