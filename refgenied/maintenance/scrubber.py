"""Proves a share of the archive folder each day."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

import anyio
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive import Run
from refgenied.archive.format.pipeline import step_back
from refgenied.archive.verifier import Finding, examine
from refgenied.maintenance import DAY
from refgenied.maintenance.verifier import Verifier
from refgenied.model import ArchiveRecord, AssetKey, RefgeniedError, Requester, ShortageError, StateError
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("scrubber")

DUE_LOOK_SECONDS = 60.0
"""Between two looks whether something is due."""
JOB_LOOK_SECONDS = 0.2
"""Between two looks whether jobs still run, while the scrub stands still."""


def due(records: Iterable[ArchiveRecord], now: float, days: float, used: int) -> ArchiveRecord | None:
    """The archive to prove next: the one proved longest ago, when it is overdue or fits into today's share.

    `days`: within which all are to be proved; `used`: bytes of today's share that are spent. Archives that are known
    to be damaged are left out.
    """
    sound = [record for record in records if record.damaged is None]
    if not sound or not days:
        return None
    oldest = min(sound, key=lambda record: (record.proved_before(now), record.key))
    age = now - oldest.proved_before(now)
    share = sum(record.size for record in sound) / days
    fits = age >= DAY and used + oldest.size <= share
    return oldest if fits or age >= days * DAY else None


class _StoppedError(Exception):
    """The scrub was cancelled. It ends the thread that reads, and nobody hears of it."""


class Scrubber:
    """In the background: one thread at low priority, and not while jobs run."""

    def __init__(self, core: Core, verifier: Verifier) -> None:
        self._core = core
        self._verifier = verifier
        self._day = -1
        self._used = 0
        self._passed_over: set[AssetKey] = set()
        """Archives that could not be judged today."""

    async def run(self) -> None:
        """Ends only by cancellation."""
        while True:
            await anyio.sleep(DUE_LOOK_SECONDS)
            with suppress(StateError, ShortageError):  # the next round tries again; others tell of it
                while await self.scrub():
                    pass

    async def scrub(self) -> bool:
        """Prove the archive that is due, in the background; False when there is none."""
        days = self._core.current.settings.archive.scrub_days
        if not days or not await self._core.archive_folder.usable():
            return False
        today = int(self._core.clock() // DAY)
        if today != self._day:
            self._day, self._used = today, 0
            self._passed_over.clear()
        records = await self._core.jobs.store.ask(archives.everything)
        left = [record for key, record in records.items() if key not in self._passed_over]
        record = due(left, self._core.clock(), days, self._used)
        if record is None:
            return False
        self._used += record.size
        await self.scrub_one(record)
        return True

    async def scrub_one(self, record: ArchiveRecord) -> None:
        """Prove this archive. One that cannot be judged is left out until tomorrow, so that the others have a turn."""
        asset = record.key.registry_path
        try:
            verdict = await self._verifier.verify_by(self._read_quietly, record.key, Requester())
        except (StateError, ShortageError):
            raise
        except RefgeniedError as error:
            self._passed_over.add(record.key)
            log.warning("archive.not_scrubbed", asset=asset, error=error.message)
        except Exception:
            self._passed_over.add(record.key)
            log.exception("archive.not_scrubbed", asset=asset)
        else:
            log.info("archive.scrubbed", asset=asset, seconds=round(verdict.seconds, 2))

    def _read_quietly(self, record: ArchiveRecord) -> Finding:
        """One thread at low priority, which stands still while jobs run."""
        stop = threading.Event()
        result: Future[Finding] = Future()

        def check() -> None:
            while self._core.jobs.running and not stop.is_set():
                time.sleep(JOB_LOOK_SECONDS)
            if stop.is_set():
                raise _StoppedError

        def read() -> None:
            step_back()
            try:
                result.set_result(examine(self._core.archive_folder.place(record.key), record, Run(check=check)))
            except BaseException as error:  # noqa: BLE001 - it is raised below
                result.set_exception(error)

        # A thread of its own: one of the pool's would stay nice, and nobody but root can take that back.
        thread = threading.Thread(target=read, name="scrub", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(JOB_LOOK_SECONDS)
                check_cancelled()
        finally:
            stop.set()
            thread.join()
        return result.result()
