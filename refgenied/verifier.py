"""Reads archives back: when somebody asks, and by itself a share of the archive folder each day."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import Phase, Place, check_archive
from refgenied.archive.progress import no_progress
from refgenied.archive.reconcile import manifest_at
from refgenied.archive.verifying import check_sizes
from refgenied.archive_folder import ArchiveFolder
from refgenied.config import Current
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock, Health
from refgenied.jobs import Jobs
from refgenied.model import (
    ARCHIVABLE,
    ArchiveNotFoundError,
    ArchiveRecord,
    AssetKey,
    AssetState,
    DamagedArchiveError,
    JobState,
    Priority,
    RefgeniedError,
    Requester,
)
from refgenied.store import archives
from refgenied.store import jobs as rows

log = structlog.get_logger("verifier")

LOOK_SECONDS = 60.0
"""How often the scrub looks whether something is due."""
DAY = 86_400.0
_NICE = 10
_PAUSE = 0.2
"""Seconds between two looks whether jobs still run, while the scrub waits for them."""

OnProgress = Callable[[Phase, int, int], None]


class Verdict(msgspec.Struct, frozen=True):
    """What reading one archive back has shown."""

    key: AssetKey
    size: int
    seconds: float
    quick: bool
    damage: str
    """What is wrong, with the first bad member; empty when all is well."""
    hint: str = ""
    job: int | None = None
    """The job that makes a damaged archive anew."""


def due(records: Iterable[ArchiveRecord], now: float, days: float, used: int) -> ArchiveRecord | None:
    """The archive to prove next: the one proved longest ago, when it is overdue or fits into today's share.

    `days`: within which all are to be proved; `used`: bytes of today's share that are spent. Damaged ones are known.
    """
    sound = [record for record in records if record.damaged is None]
    if not sound or not days:
        return None
    oldest = min(sound, key=lambda record: (record.proved_at or 0.0, record.key))
    age = now - (oldest.proved_at or 0.0)
    share = sum(record.size for record in sound) / days
    fits = age >= DAY and used + oldest.size <= share
    return oldest if fits or age >= days * DAY else None


class Verifier:
    """One verification at a time; beside the worker, whose queue it never holds up."""

    def __init__(
        self,
        folder: GenomeFolder,
        archive_folder: ArchiveFolder,
        jobs: Jobs,
        current: Current,
        health: Health,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._archive_folder = archive_folder
        self._jobs = jobs
        self._current = current
        self._health = health
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(1)
        self._day = -1
        self._used = 0

    async def verify(
        self,
        key: AssetKey,
        requester: Requester,
        *,
        quick: bool = False,
        on_progress: OnProgress = no_progress,
    ) -> Verdict:
        """Read a recorded archive back; mark it when it is damaged, and have it made anew when its asset is as it was.

        `quick` looks at sizes only. `on_progress` is called in another thread. Cancelled, it ends within 0.3 s.
        ArchiveNotFoundError (no such record), UnreadableError.
        """
        threads = self._current.settings.archive.threads or len(os.sched_getaffinity(0))

        def examine(record: ArchiveRecord) -> str:
            return _examine(self._place(key), record, threads, on_progress, check_cancelled, quick=quick)

        return await self._verify(key, requester, examine, quick=quick)

    # ----------------------------------------------------------------- by itself

    async def run(self) -> None:
        """Scrub, and keep the health up to date. Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            while True:
                await anyio.sleep(LOOK_SECONDS)
                with suppress(RefgeniedError):
                    while await self.scrub():
                        pass

    async def scrub(self) -> bool:
        """Prove the archive that is due, in the background; False when there is none."""
        days = self._current.settings.archive.scrub_days
        if not days or not self._archive_folder.path:
            return False
        if await anyio.to_thread.run_sync(self._archive_folder.problem):
            return False
        today = int(self._clock() // DAY)
        if today != self._day:
            self._day, self._used = today, 0
        async with self._jobs.store.transaction() as tx:
            records = await archives.everything(tx)
        record = due(records.values(), self._clock(), days, self._used)
        if record is None:
            return False
        self._used += record.size
        verdict = await self._verify(record.key, Requester(), self._examine_quietly, quick=False)
        log.info("archive.scrubbed", asset=record.key.registry_path, seconds=round(verdict.seconds, 2))
        return True

    def _examine_quietly(self, record: ArchiveRecord) -> str:
        """One thread at low priority, which stands still while jobs run."""

        def check() -> None:
            while self._jobs.busy and not stop.is_set():
                time.sleep(_PAUSE)
            if stop.is_set():
                raise DamagedArchiveError("stopped")  # nobody hears of it: the verification is cancelled

        def main() -> None:
            with suppress(OSError):  # a courtesy; a sandbox forbids it, and is nice as a whole
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
            try:
                found.append(_examine(self._place(record.key), record, 1, no_progress, check, quick=False))
            except Exception as error:  # noqa: BLE001 (raised again below, in the thread that waits)
                errors.append(error)

        stop, found, errors = threading.Event(), list[str](), list[Exception]()
        # A thread of its own: one of the pool's would stay nice, and nobody but root can take that back.
        thread = threading.Thread(target=main, name="scrub", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_PAUSE)
                check_cancelled()
        finally:
            stop.set()
            thread.join()
        if errors:
            raise errors[0]
        return found[0]

    async def _watch(self) -> None:
        """Whoever publishes or removes an archive may end a damage."""
        with self._jobs.feed.subscribed() as subscription:
            await self.note_damaged()
            while True:
                events = await subscription.take()
                if subscription.lagged or any(event.kind.startswith("archive.") for event in events):
                    subscription.lagged = False
                    await self.note_damaged()

    async def note_damaged(self) -> None:
        """Tell the health of the archives that are marked as damaged."""
        async with self._jobs.store.transaction() as tx:
            records = await archives.everything(tx)
        damaged = [record for record in records.values() if record.damaged is not None]
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        names = f"{_name(damaged[0])}: {damaged[0].damaged}{more}" if damaged else ""
        self._health.note("damaged", names)

    # ----------------------------------------------------------------- one archive

    async def _verify(
        self, key: AssetKey, requester: Requester, examine: Callable[[ArchiveRecord], str], *, quick: bool
    ) -> Verdict:
        while True:
            async with self._jobs.store.transaction() as tx:
                record = await archives.get(tx, key)
            if record is None:
                raise ArchiveNotFoundError(f"there is no archive of {key.registry_path}")
            began = time.monotonic()
            damage = await anyio.to_thread.run_sync(examine, record, limiter=self._limiter)
            seconds = time.monotonic() - began
            if damage and await self._is_being_made(key):
                async with self._jobs.publishing:  # it was read while a publish replaced it
                    continue
            verdict = Verdict(key, record.size, seconds, quick, damage)
            if await self._recorded(record, verdict, requester):
                return await self._made_anew(record, verdict, requester) if damage else verdict

    async def _is_being_made(self, key: AssetKey) -> bool:
        async with self._jobs.store.transaction() as tx:
            return await rows.in_state(tx, key, JobState.RUNNING) is not None

    async def _recorded(self, record: ArchiveRecord, verdict: Verdict, requester: Requester) -> bool:
        """Write it down; False when the record is of another archive by now."""
        if not verdict.damage and verdict.quick:
            return True
        async with self._jobs.change() as change:
            if verdict.damage:
                known = await archives.mark_damaged(change.tx, record, verdict.damage)
                if known:
                    await change.log("archive.damaged", record.key, by=requester.name, error=verdict.damage)
            else:
                known = await archives.mark_proved(change.tx, record, self._clock())
                if known:
                    seconds = round(verdict.seconds, 3)
                    await change.log(
                        "archive.verified", record.key, by=requester.name, size=record.size, seconds=seconds
                    )
        if known and verdict.damage:
            log.warning("archive.damaged", asset=record.key.registry_path, problem=verdict.damage)
        return known

    async def _made_anew(self, record: ArchiveRecord, verdict: Verdict, requester: Requester) -> Verdict:
        asset = await anyio.to_thread.run_sync(self._folder.asset, record.key, self._clock())
        name = _name(record)
        if asset is None or asset.state is AssetState.MISSING:
            hint = (
                f"its asset is gone from the genome folder: put the archive back from a backup and verify {name} again"
            )
        elif asset.state not in ARCHIVABLE or not asset.stamp:
            hint = f"its asset is {asset.state}: when it is complete, `refgeniectl archive create {name}` makes it anew"
        elif asset.stamp != record.stamp:
            hint = f"its asset has changed since: `refgeniectl archive create {name}` archives it as it is now"
        else:
            priority = Priority.BACKLOG if requester.uid is None else Priority.ASKED
            job, _ = await self._jobs.enqueue(
                record.key, stamp=asset.stamp, priority=priority, force=True, requester=requester
            )
            return msgspec.structs.replace(verdict, job=job.id, hint=f"job {job.id} makes it anew from its asset")
        return msgspec.structs.replace(verdict, hint=hint)

    def _place(self, key: AssetKey) -> Place:
        return Place(self._archive_folder.path, key)


def _name(record: ArchiveRecord) -> str:
    return record.key.aliased(record.aliases[0]) if record.aliases else record.key.registry_path


def _examine(
    place: Place,
    record: ArchiveRecord,
    threads: int,
    on_progress: OnProgress,
    check: Callable[[], None],
    *,
    quick: bool,
) -> str:
    """What is wrong with a recorded archive; empty when nothing is."""
    try:
        manifest = manifest_at(place)
        if manifest.digest != record.digest:
            return f"the manifest {place.manifest} is of another archive (md5 {manifest.digest}, not {record.digest})"
        check_sizes(place.archive, manifest)
        check_archive(
            place,
            manifest,
            deep=not quick,
            members=record.proved_at is None,
            threads=threads,
            on_progress=on_progress,
            check=check,
        )
    except (ArchiveNotFoundError, DamagedArchiveError) as error:
        return error.message
    return ""
