"""Proves a share of the archive folder each day."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

import anyio
import structlog
from anyio.from_thread import check_cancelled

from refgenied.archive.format.pipeline import step_back
from refgenied.archive.run import Run
from refgenied.archive.verifier import Finding, examine
from refgenied.maintenance import DAY
from refgenied.maintenance.verifier import Verifier
from refgenied.model import ArchiveRecord, AssetKey, RefgeniedError, Requester, ShortageError, StateError
from refgenied.queue.core import Core
from refgenied.store import archives

log = structlog.get_logger("scrubber")

DUE_LOOK_SECONDS = 60.0
"""Seconds between two checks whether an archive is due."""
JOB_LOOK_SECONDS = 0.2
"""Seconds between two checks whether jobs still run, while the scrub pauses."""


def due(records: Iterable[ArchiveRecord], now: float, days: float, used: int) -> ArchiveRecord | None:
    """The archive to prove next: the archive with the oldest proof, if it is overdue or fits into today's share.

    `days`: all archives must be proved within this many days. `used`: bytes of today's share that are spent. Archives
    that are known to be damaged are left out.
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
    """The scrub was cancelled. This error ends the reading thread, and is not reported."""


class Scrubber:
    """Works in the background: one thread at low priority, which pauses while jobs run."""

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
            with suppress(StateError, ShortageError):  # the next round tries again; other parts report the error
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
        """Prove this archive. If it cannot be judged, it is left out until tomorrow, and the next one has its turn."""
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
        """Read the archive in one thread at low priority, which pauses while jobs run."""
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

        # This is a separate thread. A thread of the pool would stay nice, and only root can undo niceness.
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
