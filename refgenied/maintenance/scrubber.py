"""Proves a share of the archive folder each day."""

import threading
import time
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
from refgenied.model import ArchiveRecord, RefgeniedError, Requester, ShortageError, StateError
from refgenied.queue.core import Core
from refgenied.store import proofs

log = structlog.get_logger("scrubber")

DUE_LOOK_SECONDS = 60.0
"""Seconds between two checks whether an archive is due."""
JOB_LOOK_SECONDS = 0.2
"""Seconds between two checks whether jobs still run, while the scrub pauses."""


def is_due(oldest: ArchiveRecord, now: float, days: float, *, share: float, used: int) -> bool:
    """Whether the archive with the oldest proof must be proved now: it is overdue, or fits into today's share.

    `days`: all archives must be proved within this many days. `share`: bytes for one day, `used`: those that are spent.
    """
    age = now - oldest.proved_before(now)
    return age >= days * DAY or (age >= DAY and used + oldest.size <= share)


class _StoppedError(Exception):
    """The scrub was cancelled. This error ends the reading thread, and is not reported."""


class Scrubber:
    """Works in the background: one thread at low priority, which pauses while jobs run."""

    def __init__(self, core: Core, verifier: Verifier) -> None:
        self._core = core
        self._verifier = verifier
        self._day = -1
        self._sound_bytes = 0
        """The bytes of all sound archives when the day began."""
        self._used = 0
        self._turn: proofs.Turn | None = None
        """The turn of today's last archive. So an archive that cannot be judged is left out until tomorrow."""

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
        now = self._core.clock()
        if int(now // DAY) != self._day:
            self._day, self._used, self._turn = int(now // DAY), 0, None
            self._sound_bytes = await self._core.jobs.store.ask(proofs.sound_bytes)
        record, turn = await self._next(now)
        if record is None or not is_due(record, now, days, share=self._sound_bytes / days, used=self._used):
            return False
        self._used += record.size
        await self.scrub_one(record)
        self._turn = turn
        return True

    async def _next(self, now: float) -> tuple[ArchiveRecord | None, proofs.Turn | None]:
        """The archive with the oldest proof that is not known to be damaged, and its turn."""
        turn = self._turn
        while True:
            found, turn = await self._core.jobs.store.ask(proofs.page, now, 1, after=turn)
            if not found or found[0].damaged is None:
                return (found[0] if found else None), turn
            self._turn = turn

    async def scrub_one(self, record: ArchiveRecord) -> None:
        """Prove this archive. If it cannot be judged, the log says so, and the next one has its turn."""
        asset = record.key.registry_path
        try:
            verdict = await self._verifier.verify_by(self._read_quietly, record.key, Requester())
        except (StateError, ShortageError):
            raise
        except RefgeniedError as error:
            log.warning("archive.not_scrubbed", asset=asset, error=error.message)
        except Exception:
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
