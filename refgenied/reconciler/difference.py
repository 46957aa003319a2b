"""Enqueues the archives that are wanted and missing, for the assets of which something has changed."""

from collections.abc import Collection, Iterable
from itertools import islice

import anyio.lowlevel

from refgenied.model import Asset, AssetKey
from refgenied.policy import ArchiveState, Standing
from refgenied.queue.core import Core
from refgenied.reconciler.standings import Standings
from refgenied.store.jobs import Need

_CAUSES = ("job.failed", "job.cancelled", "archive.removed", "archive.damaged", "archive.mended", "archive.imported")
"""After events of these kinds an asset may be due that has not changed. It is judged after the next look of any kind,
and not at once: a job that fails because of a moment would be queued again and again.
"""
ROWS_PER_TURN = 64
"""So many assets are queued in one transaction. After it the other tasks of the daemon have a turn."""


class Difference:
    """The assets that must be judged again since they were judged last. Nothing is forgotten before it is queued."""

    def __init__(self, core: Core, standings: Standings) -> None:
        self._jobs = core.jobs
        self._standings = standings
        self._touched = core.jobs.feed.touched(*_CAUSES)
        self._some: set[AssetKey] = set()
        self.every = True
        """Whether each asset may be due, and not only those that were noted."""

    def note(self, keys: Iterable[AssetKey]) -> None:
        """These assets have changed."""
        self._some.update(keys)

    def note_every(self) -> None:
        """Every asset may be due: after a look at the whole folder, with other settings, or after a pause."""
        self.every = True

    async def enqueue(self) -> None:
        """Queue what is due of all that was noted. After an error of the database the rest stays noted."""
        touched, self._touched.keys = self._touched.keys, set[AssetKey]()
        self._some |= touched
        if self.every:
            await self._enqueue_every()
        await self.enqueue_some(())

    async def enqueue_some(self, keys: Collection[AssetKey]) -> None:
        """Queue what is due of these assets and of those that were noted by name."""
        left, self._some = self._some | set(keys), set[AssetKey]()
        try:
            await self._enqueue((await self._standings.some(left)).values())
            left.clear()
        finally:
            self._some |= left

    async def _enqueue_every(self) -> None:
        covered, self._some = self._some, set[AssetKey]()
        self.every, done = False, False
        try:
            await self._enqueue((await self._standings.all()).values())
            done = True
        finally:
            if not done:
                self._some |= covered
                self.every = True

    async def _enqueue(self, found: Collection[tuple[Asset, Standing]]) -> None:
        rows = iter(found)
        while step := list(islice(rows, ROWS_PER_TURN)):
            needs = {asset.key: Need(asset.stamp, stands.priority) for asset, stands in step if _is_due(asset, stands)}
            if needs:
                await self._jobs.enqueue_all(needs)
            else:
                await anyio.lowlevel.checkpoint()


def _is_due(asset: Asset, stands: Standing) -> bool:
    fresher = stands.job is not None and stands.job.stamp != asset.stamp
    return stands.due or (stands.wanted and stands.archive is not ArchiveState.ARCHIVED and fresher)
