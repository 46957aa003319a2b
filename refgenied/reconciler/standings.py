"""Where each asset stands: the policy judges the last look, the database and the archive folder."""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Mapping

import anyio

from refgenied.files.disk import DiskThread
from refgenied.model import ArchiveRecord, Asset, AssetKey, AssetState, Look
from refgenied.policy import Facts, Standing, standing
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.reconciler.last_look import NO_LOOK, LastLook
from refgenied.store import archives

FOLDER_ANSWER_SECONDS = 5.0
"""A listing waits at most this long for the archive folder's disk. After that it gives the last known answer."""


class Standings:
    def __init__(self, core: Core, pause: Pause, last: LastLook, first_started_at: float) -> None:
        self._core = core
        self._pause = pause
        self._last = last
        self._first_started_at = first_started_at
        self._archive_disk = DiskThread("archive folder")
        self._lost: dict[AssetKey, str] = {}
        """The lost archives, as the archive folder's disk showed last."""
        self._sorted: tuple[Look, list[AssetKey]] = (NO_LOOK, [])
        """A look, and the sorted keys of its assets."""

    async def of(self, asset: Asset) -> Standing:
        """Where one asset stands."""
        return standing(asset, await self.facts(asset.key), self._core.current.settings.archive)

    async def all(self) -> dict[AssetKey, tuple[Asset, Standing]]:
        """Where each asset stands: every asset found, and every archived asset that the genome folder has lost."""
        return {asset.key: (asset, stands) for asset, stands in await self.after(None)}

    async def after(self, key: AssetKey | None) -> Iterator[tuple[Asset, Standing]]:
        """The same one by one, in the order of keys, starting after `key`. Only the rows that are taken cost time."""
        facts = await self.facts()
        policy, look = self._core.current.settings.archive, self._last.look
        if self._sorted[0] is not look:
            self._sorted = (look, sorted(look.assets))
        keys = self._sorted[1]
        there = keys[bisect_right(keys, key) if key is not None else 0 :]
        gone = sorted(one for one in facts.archives if one not in look.assets and (key is None or one > key))
        assets = (
            look.assets[one] if one in look.assets else _gone(one, facts.archives[one], look)
            for one in heapq.merge(there, gone if look.ok else ())
        )
        return ((asset, standing(asset, facts, policy)) for asset in assets)

    async def facts(self, key: AssetKey | None = None) -> Facts:
        """The facts about every asset, or about one."""
        recorded, newest, removals = await self._core.jobs.store.ask(archives.history, key)
        return Facts(
            archives=recorded,
            lost=await self._lost_of(recorded),
            jobs=newest,
            removals=removals,
            first_started_at=self._first_started_at,
            archive_folder=self._core.archive_folder.path,
            paused=self._pause.reason,
        )

    async def _lost_of(self, recorded: Mapping[AssetKey, ArchiveRecord]) -> Mapping[AssetKey, str]:
        with anyio.move_on_after(FOLDER_ANSWER_SECONDS):
            lost = await self._archive_disk.run(self._core.archive_folder.lost, recorded)
            self._lost = {key: why for key, why in self._lost.items() if key not in recorded} | lost
            return lost
        return {key: self._lost[key] for key in recorded if key in self._lost}


def _gone(key: AssetKey, record: ArchiveRecord, look: Look) -> Asset:
    genome = look.genomes.get(key.genome_digest)
    return Asset(
        key=key,
        state=AssetState.MISSING,
        reason="archived, but no longer in the genome folder",
        folder="",
        aliases=genome.aliases if genome else record.aliases,
        asset_digest=record.asset_digest,
    )
