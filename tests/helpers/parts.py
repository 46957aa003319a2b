"""The daemon's parts, put together as daemon.py does it, but in the test's own process."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from synthetic import Genomes
from transactions import transaction

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.catalog.updater import Updater
from refgenied.config.settings import Archive, Current, Refgenie, Settings, Watching
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock, Health
from refgenied.maintenance.damage import Damage
from refgenied.maintenance.importer import Import, Importer
from refgenied.maintenance.recovery import recover
from refgenied.maintenance.rights import Rights
from refgenied.maintenance.scrubber import Scrubber
from refgenied.maintenance.tidier import Tidier
from refgenied.maintenance.verifier import Verifier
from refgenied.model import ArchiveRecord, Asset, AssetKey, Event, Job, Requester, ShortageError
from refgenied.queue.core import Core
from refgenied.queue.feed import Feed
from refgenied.queue.jobs import Jobs
from refgenied.queue.pause import Pause
from refgenied.queue.worker import Facts, Worker
from refgenied.reconciler import Reconciler
from refgenied.store import Store, archives, events
from refgenied.store import jobs as rows


class ToldHealth(Health):
    """The health, whose changes a test can await."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._changed = anyio.Event()

    def set(self, name: str, message: str) -> None:
        super().set(name, message)
        self._tell()

    def clear(self, name: str) -> None:
        super().clear(name)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def ill(self, name: str) -> str:
        """Wait until this is wrong; what is said of it."""
        with anyio.fail_after(20):
            while name not in self.conditions:
                await self._changed.wait()
        return self.conditions[name][0]

    async def well(self, name: str) -> None:
        """Wait until this is right."""
        with anyio.fail_after(20):
            while name in self.conditions:
                await self._changed.wait()


class Parts:
    def __init__(self, store: Store, root: Path, settings: Settings, archive_folder: ArchiveFolder) -> None:
        self.store = store
        self.root = root
        self.clock: Callable[[], float] = time.time
        self.current = Current(settings)
        self.health = ToldHealth(time.time)
        self.feed = Feed()
        self.jobs = Jobs(store, self.feed, self.current, self._now)
        self.folder = GenomeFolder(settings.refgenie.genome_folder, config=None)
        self.archive_folder = archive_folder
        self.core = Core(self.folder, archive_folder, self.jobs, self.current, self.health, clock=self._now)
        self.pause = Pause(self.core)
        self.reconciler = Reconciler(self.core, self.pause, first_started_at=0.0)
        self.pause.on_end(self.reconciler.judge_again)
        self.verifier = Verifier(self.core)
        self.scrubber = Scrubber(self.core, self.verifier)
        self.damage = Damage(self.core, self.verifier)
        self.catalog = Updater(self.core, self.reconciler, self.damage.doubt)
        self.worker = Worker(self.core, self.pause)
        self.rights = Rights(self.core, self.reconciler, self.catalog.note)
        self.importer = Importer(self.core)
        self.tidier = Tidier(self.core, self.importer)

    def _now(self) -> float:
        """As `clock` is set now: a test may set another."""
        return self.clock()

    async def settle(self) -> None:
        """One look, and every job that is due; the catalog follows."""
        await self.reconciler.look_again()
        await self.work()

    async def work(self) -> None:
        while due := await self.jobs.due(1):
            asset = await self._asset(due[0].key)
            stamp = asset.stamp if isinstance(asset, Asset) else due[0].stamp
            for job, record in await self.jobs.claim_those({due[0].id: stamp}):
                await self.worker.work(job, Facts(asset, record))
        await self.catalog.catch_up()

    async def do(self, job: Job) -> None:
        """A job that is claimed, with its asset as it is now."""
        await self.worker.work(job, Facts(await self._asset(job.key), await self.record(job.key)))

    async def _asset(self, key: AssetKey) -> Asset | Exception:
        found: list[Asset | Exception] = []
        try:
            await self.worker.archiver.look([key], found, lambda _: False)
        except ShortageError as error:
            return error
        return found[0]

    async def bring(self, folder: Path | None = None) -> list[Import]:
        """`archive import`."""
        found = self.importer.find(str(folder or ""))
        return [await self.importer.take(one, Requester("ann", 1, 2)) async for one in found]

    async def record(self, key: AssetKey) -> ArchiveRecord | None:
        async with transaction(self.store) as tx:
            return await archives.get(tx, key)

    async def archived(self, *keys: AssetKey) -> None:
        """Wait until each of these assets has an archive."""
        with self.feed.subscribed("archive.") as events, anyio.fail_after(20):
            for key in keys:
                while not await self.record(key):
                    await events.take()

    async def latest(self, key: AssetKey) -> Job:
        async with transaction(self.store) as tx:
            job = await rows.latest_of(tx, key)
        assert job
        return job

    async def events(self, prefix: str = "") -> list[Event]:
        async with transaction(self.store) as tx:
            return [event for event in await events.since(tx, 0) if event.kind.startswith(prefix)]

    def change_settings(self, **archive: object) -> None:
        settings = self.current.settings
        self.current.settings = msgspec.structs.replace(
            settings, archive=msgspec.structs.replace(settings.archive, **archive)
        )


async def claim(jobs: Jobs) -> Job | None:
    """The next due job, which runs from now on; None: there is none."""
    claimed = await jobs.claim_those({job.id: job.stamp for job in await jobs.due(1)})
    return claimed[0].job if claimed else None


@asynccontextmanager
async def running(genomes: Genomes, state: str = "state", watch: Watching | None = None) -> AsyncGenerator[Parts]:
    """Parts over this genome folder; the same `state` again is the next start of the same daemon."""
    root = genomes.root.parent
    (root / state).mkdir(exist_ok=True)
    settings = Settings(
        refgenie=Refgenie(genome_folder=str(genomes.root), genome_archive_folder=str(root / "archives")),
        archive=Archive(retry_seconds=0.01),
        watch=watch or Watching(settle_seconds=0.01),
    )
    async with Store.opened(root / state) as store:
        folder = ArchiveFolder(settings.refgenie.genome_archive_folder, None)
        folder.open()
        parts = Parts(store, root, settings, folder)
        await recover(parts.core)
        yield parts


async def pragma(parts: Parts, words: str) -> Any:
    """Set or ask something of the database's connection; the row."""
    async with transaction(parts.store) as tx:
        return await tx.one(words)


async def until(condition: Callable[[], bool], reconciler: Reconciler) -> None:
    """Wait for looks until the condition holds."""
    with anyio.fail_after(20):
        while not condition():
            await reconciler.looked.wait()


def record_of(name: str, size: int, proved_at: float | None) -> ArchiveRecord:
    """An archive in the database, of an asset group of this name."""
    return msgspec.convert(
        {"key": AssetKey("d", name, "a"), "aliases": (), "path": name, "size": size, "digest": "", "asset_digest": ""}
        | {"content_digest": "", "files": 1, "source_size": 1, "stamp": "", "files_stamp": "", "created_at": 0.0}
        | {"proved_at": proved_at},
        ArchiveRecord,
    )
