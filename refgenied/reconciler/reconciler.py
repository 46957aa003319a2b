"""Compares what is wanted with what is present, and enqueues the difference. Events only say "look again"."""

from __future__ import annotations

import heapq
import os
import random
import stat
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress

import anyio
import structlog

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.config import Current
from refgenied.files.disk import DiskThread
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock, Health
from refgenied.model import ArchiveRecord, Asset, AssetKey, AssetState, BusyError, Look, ShortageError, StateError
from refgenied.policy import ArchiveState, Facts, Standing, standing
from refgenied.queue.jobs import Jobs
from refgenied.queue.pause import Pause
from refgenied.store import archives
from refgenied.store import jobs as rows

log = structlog.get_logger("reconciler")

POLL_SECONDS = 1.0
"""How often assets seen building are looked at."""

BLIND_SECONDS = 10.0
"""Between two looks while the genome folder cannot be read: its rights may be given without any change notice."""

LATE_SECONDS = 60.0
"""A look that takes longer is told: its disk does not answer, or it holds very much."""

ANSWER_SECONDS = 5.0
"""How long a listing waits for the archive folder's disk; then it says what was known before."""

FIRST_LOOK_SECONDS = 20.0
"""How long a listing waits for the first look."""

MOST_TOLD = 200
"""Changes of one look that are logged one by one."""

Watchable = tuple[tuple[str, tuple[int, int]], ...]
"""Folders with (device, inode): one that was made anew under the same name is another."""

EMPTY = Look(assets={}, genomes={}, problems=(), layout="", root=None, watch=())


class Reconciler:
    def __init__(
        self,
        folder: GenomeFolder,
        archive_folder: ArchiveFolder,
        jobs: Jobs,
        pause: Pause,
        current: Current,
        health: Health,
        clock: Clock,
        *,
        first_started_at: float,
    ) -> None:
        self.folder = folder
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._pause = pause
        self._current = current
        self._health = health
        self._clock = clock
        self._first_started_at = first_started_at
        self._disk = DiskThread("look")
        self._archive_disk = DiskThread("archive folder")
        self._lost: dict[AssetKey, str] = {}
        """What the archive folder's disk said last."""
        self._lock = anyio.Lock()
        self._hinted = anyio.Event()
        self._hinted_at = 0.0
        self._began = -1.0
        self._sees = True
        self.first_look = anyio.Event()
        """Set once the first look is done."""
        self.looked = anyio.Event()
        """Set at the end of the look under way; each look has its own."""
        self.look = EMPTY
        """The last look that could read the genome folder."""
        self._in_order: tuple[Look, list[AssetKey]] = (EMPTY, [])
        """A look, and the keys of its assets in order."""
        self.watchable: Watchable = ()
        """The folders to watch that are there."""
        self.looked_at = 0.0
        self.took = 0.0
        self._next_sweep: float | None = None

    @property
    def next_sweep_at(self) -> float:
        """By the clock as it is set now; 0.0 before the first sweep has ended."""
        return self._clock() + self._next_sweep - time.monotonic() if self._next_sweep is not None else 0.0

    # ----------------------------------------------------------------- asking for a look

    def hint(self) -> None:
        """Something may have changed: look when it is quiet."""
        self._hinted_at = time.monotonic()
        self._hinted.set()

    async def look_again(self) -> None:
        """Look now; return when a look that began after this call is done and its difference is queued.

        BusyError when that takes longer than LATE_SECONDS.
        """
        with anyio.move_on_after(LATE_SECONDS):
            return await self._look_again()
        raise BusyError(self._late, hint="`refgeniectl status` says when it answers again")

    async def first_looked(self) -> None:
        """The daemon may have started a moment ago: return when there is something to tell. BusyError: there is not."""
        with anyio.move_on_after(FIRST_LOOK_SECONDS):
            if not self.looked_at:
                await self._look_again()
            return
        path = self._current.settings.refgenie.genome_folder
        raise BusyError(
            f"the first look at {path} is not done yet", hint="try again soon; `refgeniectl status` says how it goes"
        )

    async def _look_again(self) -> None:
        asked = time.monotonic()
        async with self._lock:
            if self._began < asked:
                await self._look()

    async def standing_of(self, asset: Asset) -> Standing:
        facts = await self.facts(asset.key)
        return standing(asset, facts, self._current.settings.archive)

    async def standings(self) -> dict[AssetKey, tuple[Asset, Standing]]:
        """Every asset found, and every archived one that is gone from the genome folder, and where it stands."""
        return {asset.key: (asset, stands) for asset, stands in await self.listed()}

    async def listed(self, after: AssetKey | None = None) -> Iterator[tuple[Asset, Standing]]:
        """The same one by one, ordered by their keys and from behind `after`, so that a page costs what it holds."""
        facts = await self.facts()
        policy, look = self._current.settings.archive, self.look
        if self._in_order[0] is not look:
            self._in_order = (look, sorted(look.assets))
        keys = self._in_order[1]
        gone = sorted(key for key in facts.archives if key not in look.assets and (after is None or key > after))
        there = keys[bisect_right(keys, after) if after is not None else 0 :]
        assets = (
            look.assets[key] if key in look.assets else _gone(key, facts.archives[key], look)
            for key in heapq.merge(there, gone if look.ok else ())
        )
        return ((asset, standing(asset, facts, policy)) for asset in assets)

    async def facts(self, key: AssetKey | None = None) -> Facts:
        """What is known of every asset, or of one."""
        async with self._jobs.store.transaction() as tx:
            if key is None:
                recorded, newest = await archives.everything(tx), await rows.latest(tx)
            else:
                record = await archives.get(tx, key)
                recorded, newest = {key: record} if record else {}, await rows.newest_of(tx, key)
            removals = await archives.removals(tx)
        lost = await self._lost_of(recorded)
        return Facts(
            archives=recorded,
            lost=lost,
            jobs=newest,
            removals=removals,
            first_started_at=self._first_started_at,
            archive_folder=self._archive_folder.path,
            paused=self._pause.reason,
        )

    async def _lost_of(self, recorded: Mapping[AssetKey, ArchiveRecord]) -> Mapping[AssetKey, str]:
        with anyio.move_on_after(ANSWER_SECONDS):
            lost = await self._archive_disk.run(self._archive_folder.lost, recorded)
            self._lost = {key: why for key, why in self._lost.items() if key not in recorded} | lost
            return lost
        return {key: self._lost[key] for key in recorded if key in self._lost}

    # ----------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Look at start, at each sweep, and when a hint has settled. Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell_of_late_looks)
            await self._sweep_for_ever()

    @property
    def _late(self) -> str:
        path = self._current.settings.refgenie.genome_folder
        return (
            f"a look at {path} has not come back for {LATE_SECONDS:g} seconds: its disk does not answer, or it holds "
            "very much; nothing new is seen until then"
        )

    async def _tell_of_late_looks(self) -> None:
        while True:
            await anyio.sleep(min(1.0, LATE_SECONDS))
            began = self._disk.busy_since
            is_late = began is not None and time.monotonic() - began > LATE_SECONDS
            self._health.note("look", self._late if is_late else "")

    async def _sweep_for_ever(self) -> None:
        await self._sweep()
        self.first_look.set()
        while True:
            watch = self._current.settings.watch
            spread = random.uniform(-watch.sweep_jitter, watch.sweep_jitter)  # noqa: S311
            pause = watch.sweep_seconds * (1 + spread) if self._sees else BLIND_SECONDS
            self._next_sweep = time.monotonic() + pause
            with anyio.move_on_after(pause):
                await self._until_worth_a_look()
            await self._sweep()

    async def _sweep(self) -> None:
        """A look that nobody waits for. What is wrong with the database is waited for, and then comes another look."""
        try:
            await self._look_again()
        except (StateError, ShortageError) as error:
            await self._pause.caused(error)
        except Exception as error:  # whatever refgenie's users have written there: clients are still to be answered
            log.exception("look.failed")
            self._health.set("genomes", f"an unexpected error: {type(error).__name__}: {error}")

    async def _until_worth_a_look(self) -> None:
        """Return when a hint has settled: quiet for `settle_seconds`, but after `settle_max_seconds` at the latest."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._poll_building)
            await self._hinted.wait()
            group.cancel_scope.cancel()
        watch = self._current.settings.watch
        latest = self._hinted_at + watch.settle_max_seconds
        while True:
            self._hinted = anyio.Event()
            quiet_at = min(self._hinted_at + watch.settle_seconds, latest)
            pause = quiet_at - time.monotonic()
            if pause <= 0:
                return
            with anyio.move_on_after(pause):
                await self._hinted.wait()

    async def _poll_building(self) -> None:
        """A running build may end without a word to us: look at those we know of, every second."""
        while True:
            await anyio.sleep(POLL_SECONDS)
            for asset in [a for a in self.look.assets.values() if a.state is AssetState.BUILDING]:
                try:
                    found = await self._disk.run(self.folder.asset, asset.key, self._clock())
                except ShortageError:  # nothing is known of the build now; the sweep tells of the shortage
                    break
                if found is None or found.state is not AssetState.BUILDING:
                    self.hint()
                    return

    # ----------------------------------------------------------------- one look

    async def _look(self) -> None:
        began = time.monotonic()
        found = await self._disk.run(self.folder.look, self._clock())
        self._report(found)
        self._sees = found.ok
        if found.ok:
            before, self.look = self.look, found
            self._note_changes(before)
        self.watchable = await self._disk.run(_identified, self.look.watch)
        problem = await self._pause.folder_problem()
        self.looked_at, self.took = self._clock(), time.monotonic() - began
        if found.ok and not problem:
            await self._enqueue_difference()
        self._began = began  # only now: a look that was cut (its client hung up) counts for nobody
        self.looked.set()
        self.looked = anyio.Event()

    def _report(self, found: Look) -> None:
        path = self._current.settings.refgenie.genome_folder
        self._health.note(
            "genome_folder",
            "" if found.ok else found.problems[0].message if found.problems else f"{path} is missing",
        )
        if found.ok:
            lines = [f"{problem.path}: {problem.message}" for problem in found.problems]
            more = f" (and {len(lines) - 1} more: refgeniectl status --json)" if len(lines) > 1 else ""
            self._health.note("genomes", lines[0] + more if lines else "")

    def _note_changes(self, earlier: Look) -> None:
        changed = [
            asset
            for key, asset in self.look.assets.items()
            if (before := earlier.assets.get(key)) is None or before.state is not asset.state
        ]
        for asset in changed[:MOST_TOLD]:
            path = asset.key.aliased(asset.aliases[0]) if asset.aliases else asset.key.registry_path
            log.info("asset.state", asset=path, state=asset.state, reason=asset.reason)
        if len(changed) > MOST_TOLD:
            log.info("asset.states_more", more=len(changed) - MOST_TOLD, see="refgeniectl asset list")

    async def _enqueue_difference(self) -> None:
        for key, (asset, stands) in (await self.standings()).items():
            fresher = stands.job is not None and stands.job.stamp != asset.stamp
            if stands.due or (stands.wanted and stands.archive is not ArchiveState.ARCHIVED and fresher):
                await self._jobs.enqueue(key, stamp=asset.stamp, priority=stands.priority)


def _identified(folders: tuple[str, ...]) -> Watchable:
    found: list[tuple[str, tuple[int, int]]] = []
    for folder in folders:
        with suppress(OSError):
            info = os.stat(folder)
            if stat.S_ISDIR(info.st_mode) and os.access(folder, os.R_OK):  # one that is not readable would stop all
                found.append((folder, (info.st_dev, info.st_ino)))
    return tuple(found)


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
