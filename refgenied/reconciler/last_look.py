"""The genome folder as the last look has found it. Faults go to the health, and changes go to the log."""

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

import anyio
import structlog

from refgenied.files.disk import DiskThread
from refgenied.model import AssetKey, AssetState, Genome, Look, ShortageError
from refgenied.queue.core import Core
from refgenied.reconciler.watchable import Folders

log = structlog.get_logger("reconciler")

MOST_CHANGES_LOGGED = 200
"""If one look shows at most this many changes, each has a log line."""

NO_LOOK = Look(assets={}, genomes={}, problems=(), layout="", root=None, watch=())


class Changes(NamedTuple):
    """What one look found changed since the look before it."""

    assets: list[AssetKey]
    every: bool
    """Whether it was a look at the whole folder."""
    any: bool
    """False: nothing at all has changed, as far as it looked."""


class LastLook:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.disk = DiskThread("look")
        self.look = NO_LOOK
        """The last look that could read the genome folder."""
        self.building: set[AssetKey] = set()
        """The assets that are being built, by that look."""
        self.readable = True
        """Whether the newest look could read it."""
        self.folders = Folders()
        self.cut = False
        """Whether a look has begun and has not come to its end, or could not read the folder. After it a look at a part
        cannot be trusted.
        """
        self._lock = anyio.Lock()
        self.at = 0.0
        """When the newest look was done, in Unix seconds; 0.0 before the first look."""
        self.took = 0.0
        """How many seconds the newest look took."""
        self._before: tuple[Look, list[AssetKey]] = (NO_LOOK, [])
        """The look before the last one, and the assets that differ; after a whole look the last one, and none."""
        self._called: tuple[dict[str, Genome], dict[str, list[Genome]]] = ({}, {})
        """The genomes of a look, and the same by digest and by alias."""

    def differing(self, before: Look) -> list[AssetKey]:
        """The assets that have changed since an earlier look. After a look at a part this costs what has changed."""
        last, changed = self._before
        if before is self.look:
            return []
        return changed if before is last else differing(before, self.look)

    async def renew(self) -> Changes:
        """Look at the whole genome folder."""
        async with self._lock:
            return await self._whole()

    async def renew_some(self, noticed: Collection[str], keys: Collection[AssetKey]) -> Changes:
        """Look at what may have changed since the last look: see `GenomeFolder.look_again`.

        It is a look at the whole folder if it fails, and after a look that did not come to its end.
        """
        async with self._lock:
            if self.cut or not self.at:
                return await self._whole()
            try:
                return await self._take(partial(self._again, noticed, keys), noticed)
            except ShortageError:
                raise
            except Exception:
                log.exception("look.failed")
                return await self._whole()

    async def first(self) -> None:
        """Look, unless that was done before."""
        if not self.at:
            async with self._lock:
                if not self.at:
                    await self._whole()

    async def _whole(self) -> Changes:
        return await self._take(self._core.genomes.look, None)

    def _again(self, noticed: Collection[str], keys: Collection[AssetKey], now: float) -> Look:
        return self._core.genomes.look_again(self.look, now, noticed=noticed, keys=keys)

    async def _take(self, look: Callable[[float], Look], noticed: Collection[str] | None) -> Changes:
        began, began_at = time.monotonic(), time.time()
        self.cut = True
        found = await self.disk.run(look, self._core.clock())
        self._report(found)
        self.readable = found.ok
        before, changed = self.look, list[AssetKey]()
        if found.ok:
            self.look = found
            changed = differing(before, found)
            self._before = (found, []) if found.full else (before, changed)
            if found.full:
                self.building.clear()
            self._note_builds(found.assets if found.full else changed)
            self._log_changes(before, changed)
        most = self._core.current.settings.watch.most_folders
        some = noticed if found.ok and not found.full else None
        await self.disk.run(partial(self.folders.renew, self.look.watch, began_at, most=most, again=some))
        self.at, self.took = self._core.clock(), time.monotonic() - began
        self.cut = not found.ok  # when it can be read again, nobody has noticed what has changed meanwhile
        others = before.genomes != self.look.genomes or before.watch != self.look.watch
        return Changes(changed, every=found.full, any=bool(changed) or found.full or others)

    def _note_builds(self, keys: Iterable[AssetKey]) -> None:
        for key in keys:
            asset = self.look.assets.get(key)
            if asset is not None and asset.state is AssetState.BUILDING:
                self.building.add(key)
            else:
                self.building.discard(key)

    def names(self, path: str) -> list[str]:
        """All registry paths of the asset with this path: first with the genome's digest, then with each alias."""
        genome, _, name = path.partition("/")
        known = self.genomes_called(genome)
        if not name or len(known) != 1:  # if two genomes have this alias, it is not clear which is meant
            return [path]
        return [f"{called}/{name}" for called in (known[0].digest, *known[0].aliases)]

    def genomes_called(self, name: str) -> list[Genome]:
        """The genome with this digest, or all genomes with this alias. The log asks for each line, in any thread."""
        genomes = self.look.genomes
        if self._called[0] is not genomes:
            by_alias: dict[str, list[Genome]] = {}
            for genome in genomes.values():
                for alias in genome.aliases:
                    by_alias.setdefault(alias, []).append(genome)
            self._called = (genomes, by_alias | {digest: [genome] for digest, genome in genomes.items()})
        return self._called[1].get(name, [])

    def _report(self, found: Look) -> None:
        health = self._core.health
        if found.ok:
            health.clear("genome_folder")
            lines = [f"{problem.path}: {problem.message}" for problem in found.problems]
            more = f" (and {len(lines) - 1} more: refgeniectl status --json)" if len(lines) > 1 else ""
            health.note("genomes", lines[0] + more if lines else "")
        else:
            missing = f"{self._core.current.settings.refgenie.genome_folder} is missing"
            health.set("genome_folder", found.problems[0].message if found.problems else missing)

    def _log_changes(self, earlier: Look, changed: Iterable[AssetKey]) -> None:
        shown = 0
        more = 0
        for key in changed:
            before, asset = earlier.assets.get(key), self.look.assets.get(key)
            if asset is None or (before is not None and before.state is asset.state):
                continue
            if shown < MOST_CHANGES_LOGGED:
                path = asset.key.named(asset.aliases)
                log.info("asset.state", asset=path, state=asset.state, reason=asset.reason)
                shown += 1
            else:
                more += 1
        if more:
            log.info("asset.states_more", more=more, see="refgeniectl asset list")


def differing(before: Look, after: Look) -> list[AssetKey]:
    """The assets that came, went or changed between two looks. What is equal is the same object in both."""
    if len(before.assets) == len(after.assets):  # nearly always, and then in the same order, so no key is compared
        pairs = zip(before.assets.values(), after.assets.values(), strict=True)
        others = [(old.key, new.key) for old, new in pairs if old is not new]
        if all(old == new for old, new in others):
            return [key for key, _ in others]
    changed = [key for key, asset in after.assets.items() if before.assets.get(key) is not asset]
    return [*changed, *(key for key in before.assets if key not in after.assets)]
