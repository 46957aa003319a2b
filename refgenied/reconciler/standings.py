"""Where each asset stands: the policy judges the last look, the database and the archive folder.

Nothing is computed for assets that nobody asks about: each question names its assets, and the database and the archive
folder are asked about them alone, in steps of at most `STEP` assets.
"""

import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from itertools import islice

import anyio

from refgenied.files.disk import DiskThread
from refgenied.model import ArchiveRecord, Asset, AssetKey, AssetState, Look
from refgenied.policy import Facts, Standing, standing
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.reconciler.key_order import EVERYTHING, SCANNED_AT_ONCE, KeyOrder, Span, successor
from refgenied.reconciler.last_look import NO_LOOK, LastLook
from refgenied.reconciler.tally import Counts, Tally
from refgenied.store import archives

FOLDER_ANSWER_SECONDS = 5.0
"""A listing waits at most this long for the archive folder's disk. After that it gives the last known answer."""
STEP = 256
"""The most assets that are judged in one step. Between two steps the daemon does other things."""

Row = tuple[Asset, Standing]


def every(_: Asset) -> bool:
    return True


class Standings:
    def __init__(self, core: Core, pause: Pause, last: LastLook, first_started_at: float) -> None:
        self._core = core
        self._pause = pause
        self._last = last
        self._first_started_at = first_started_at
        self._archive_disk = DiskThread("archive folder")
        self._lost: dict[AssetKey, str] = {}
        """The lost archives, as the archive folder's disk showed last."""
        self._order = KeyOrder(NO_LOOK)
        self._tally = Tally(NO_LOOK)
        self._tallied = False
        """Whether every asset is counted."""
        self._counting = anyio.Lock()
        """Held while every asset is counted."""
        self._touched = core.jobs.feed.touched("archive.")

    # ----------------------------------------------------------------- one asset, some, all

    async def of(self, asset: Asset) -> Standing:
        """Where one asset stands."""
        return standing(asset, await self.facts(asset.key), self._core.current.settings.archive)

    async def facts(self, key: AssetKey) -> Facts:
        """The facts about one asset."""
        return await self._facts([key])

    async def some(self, keys: Collection[AssetKey]) -> dict[AssetKey, Row]:
        """Where these assets stand. Assets that are neither in the last look nor archived are left out."""
        left = iter(keys)
        found: dict[AssetKey, Row] = {}
        while step := list(islice(left, STEP)):
            found |= {row[0].key: row for row in await self._judged(step)}
        return found

    async def all(self) -> dict[AssetKey, Row]:
        """Where each asset stands: every asset found, and every archived asset that the genome folder has lost.

        It asks about everything, so it is for full looks. It also puts right what `counts` may have wrong.
        """
        async with self._counting:
            look = self._last.look
            self._tally.follow(look)
            pending = self._take_changed()
            try:
                found = {asset.key: (asset, stands) async for asset, stands in self.within(EVERYTHING)}
            except BaseException:
                self._tally.changed |= pending
                raise
            self._tally.changed |= self._tally.but(found.keys())
            self._tallied = self._tallied or look.ok
        return found

    async def within(
        self, span: Span, *, selects: Callable[[Asset], bool] = every, step: int | None = None
    ) -> AsyncGenerator[Row]:
        """The selected assets of a part of all keys, one by one in order.

        Only the rows that are taken cost time, in steps of `step` rows (None: `STEP`). Assets that come or go
        meanwhile may be in it or not; each other one is in it once.
        """
        step = STEP if step is None else step
        left: Span | None = span
        while left is not None:
            look = self._last.look
            self._order.follow(look)
            keys, read = self._order.first(left, step, selects)
            if look.ok:
                recorded = await self._core.jobs.store.ask(archives.keys, *read, SCANNED_AT_ONCE)
                if len(recorded) == SCANNED_AT_ONCE:  # there may be more, and they come with the next step
                    read = Span(read.begin, successor(recorded[-1]))
                    keys = [one for one in keys if one <= recorded[-1]]
                gone = [one for one in recorded if one not in look.assets]
                keys = sorted(keys + gone) if gone else keys
            for begin in range(0, len(keys), step):
                for row in await self._judged(keys[begin : begin + step]):
                    if selects(row[0]):
                        yield row
            left = Span(read.until, span.until) if read.until is not None and read.until != span.until else None

    async def counts(self) -> Counts:
        """How many assets are in each state. Costs as much as has changed since the last call."""
        if not self._tallied:
            async with self._counting:  # perhaps a look counts them now
                pass
        if not self._tallied:
            await self.all()
        self._tally.follow(self._last.look)
        changed = self._take_changed()
        try:
            for key in changed - (await self.some(changed)).keys():
                self._tally.forget(key)
        except BaseException:
            self._tally.changed |= changed
            raise
        return self._tally.counts()

    def _take_changed(self) -> set[AssetKey]:
        taken = self._tally.changed | self._touched.keys
        self._tally.changed, self._touched.keys = set[AssetKey](), set[AssetKey]()
        return taken

    # ----------------------------------------------------------------- one step

    async def _judged(self, keys: Collection[AssetKey]) -> list[Row]:
        """Where these assets stand, in this order; at most `STEP` of them."""
        if not keys:
            return []
        rounds = self._tally.rounds
        facts = await self._facts(keys)
        overtaken = self._tally.rounds != rounds
        self._tally.rounds += 1
        look, policy = self._last.look, self._core.current.settings.archive
        rows: list[Row] = []
        for key in keys:
            asset = look.assets.get(key)
            if asset is None and look.ok and key in facts.archives:
                asset = _gone(key, facts.archives[key], look)
            if asset is not None:
                stands = standing(asset, facts, policy)
                self._tally.put(asset, stands.archive, overtaken=overtaken)
                rows.append((asset, stands))
        return rows

    async def _facts(self, keys: Collection[AssetKey]) -> Facts:
        recorded, newest, removals = await self._core.jobs.store.ask(archives.history, keys)
        return Facts(
            archives=recorded,
            lost=await self.lost(recorded),
            jobs=newest,
            removals=removals,
            first_started_at=self._first_started_at,
            archive_folder=self._core.archive_folder.path,
            paused=self._pause.reason,
        )

    async def lost(self, recorded: Mapping[AssetKey, ArchiveRecord]) -> Mapping[AssetKey, str]:
        """Those of these archives whose file is missing or has another size, and what is wrong with each.

        While the disk does not answer, the last known answer.
        """
        if not recorded:
            return {}
        began = self._archive_disk.busy_since
        patience = FOLDER_ANSWER_SECONDS - (0.0 if began is None else time.monotonic() - began)
        if patience > 0:  # each step of a list would wait as long for a disk that is dead
            with anyio.move_on_after(patience):
                lost = await self._archive_disk.run(self._core.archive_folder.lost, recorded)
                for key in recorded:
                    self._lost.pop(key, None)
                self._lost |= lost
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
