"""Decides when to look at the genome folder. After each look it enqueues the archives that are wanted and missing."""

import random
import time

import anyio
import structlog

from refgenied.model import AssetState, BusyError, Look, ShortageError, StateError
from refgenied.policy import ArchiveState
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.reconciler.last_look import LastLook
from refgenied.reconciler.standings import Standings

log = structlog.get_logger("reconciler")

BUILD_POLL_SECONDS = 1.0
"""Seconds between two looks at the assets that are being built."""
UNREADABLE_POLL_SECONDS = 10.0
"""Seconds between two looks while the genome folder cannot be read. A change of its rights may send no notice."""
LATE_LOOK_SECONDS = 60.0
"""A look that takes longer is a health warning: the disk does not answer, or the folder is very large."""
FIRST_LOOK_ANSWER_SECONDS = 20.0
"""A listing waits at most this long for the first look."""


class Reconciler:
    def __init__(self, core: Core, pause: Pause, *, first_started_at: float) -> None:
        self._core = core
        self._pause = pause
        self.last = LastLook(core)
        self.standings = Standings(core, pause, self.last, first_started_at)
        self._lock = anyio.Lock()
        self._hinted = anyio.Event()
        self.hinted_at = 0.0
        """When the last hint came, on the monotonic clock."""
        self._began = -1.0
        self.first_look = anyio.Event()
        """Set once the first look is done."""
        self.looked = anyio.Event()
        """Set at the end of the current look; each look has a new event."""
        self._next_sweep: float | None = None

    @property
    def look(self) -> Look:
        """The last look that could read the genome folder."""
        return self.last.look

    @property
    def next_sweep_at(self) -> float:
        """When the next sweep is due, by the current system clock; 0.0 before the first sweep has ended."""
        return self._core.clock() + self._next_sweep - time.monotonic() if self._next_sweep is not None else 0.0

    # ----------------------------------------------------------------- asking for a look

    def hint(self) -> None:
        """Ask for a look, because something may have changed. The look comes when the folder is quiet."""
        self.hinted_at = time.monotonic()
        self._hinted.set()

    async def look_again(self) -> None:
        """Look now. Return when a look that began after this call is done and the missing archives are queued.

        BusyError: this takes longer than LATE_LOOK_SECONDS.
        """
        with anyio.move_on_after(LATE_LOOK_SECONDS):
            return await self._look_again()
        raise BusyError(self._late, hint="`refgeniectl status` says when it answers again")

    async def first_looked(self) -> None:
        """Return after the first look, because the daemon may have just started. BusyError: the look takes too long."""
        with anyio.move_on_after(FIRST_LOOK_ANSWER_SECONDS):
            if not self.last.at:
                await self._look_again()
            return
        path = self._core.current.settings.refgenie.genome_folder
        raise BusyError(
            f"the first look at {path} is not done yet", hint="try again soon; `refgeniectl status` says how it goes"
        )

    async def _look_again(self) -> None:
        asked = time.monotonic()
        async with self._lock:
            if self._began < asked:
                await self._look()

    async def _look(self) -> None:
        began = time.monotonic()
        await self.last.renew()
        if not await self._pause.folder_problem() and self.last.readable:
            await self._enqueue_difference()
        self._began = began  # set at the end, because a cancelled look (its client has left) does not count
        self.looked.set()
        self.looked = anyio.Event()

    async def _enqueue_difference(self) -> None:
        for key, (asset, stands) in (await self.standings.all()).items():
            fresher = stands.job is not None and stands.job.stamp != asset.stamp
            if stands.due or (stands.wanted and stands.archive is not ArchiveState.ARCHIVED and fresher):
                await self._core.jobs.enqueue(key, stamp=asset.stamp, priority=stands.priority)

    # ----------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Look at start, at each sweep, and when a hint has settled. Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell_of_late_looks)
            await self._sweep_for_ever()

    @property
    def _late(self) -> str:
        path = self._core.current.settings.refgenie.genome_folder
        return (
            f"a look at {path} has not come back for {LATE_LOOK_SECONDS:g} seconds: its disk does not answer, or it "
            "holds very much; nothing new is seen until then"
        )

    async def _tell_of_late_looks(self) -> None:
        while True:
            await anyio.sleep(min(1.0, LATE_LOOK_SECONDS))
            began = self.last.disk.busy_since
            is_late = began is not None and time.monotonic() - began > LATE_LOOK_SECONDS
            self._core.health.note("look", self._late if is_late else "")

    async def _sweep_for_ever(self) -> None:
        await self.sweep()
        self.first_look.set()
        while True:
            watch = self._core.current.settings.watch
            spread = random.uniform(-watch.sweep_jitter, watch.sweep_jitter)  # noqa: S311
            pause = watch.sweep_seconds * (1 + spread) if self.last.readable else UNREADABLE_POLL_SECONDS
            self._next_sweep = time.monotonic() + pause
            with anyio.move_on_after(pause):
                await self._until_worth_a_look()
            await self.sweep()

    async def sweep(self) -> None:
        """Look, without a client that waits. An error of the database is a health condition; another look follows."""
        try:
            await self._look_again()
        except (StateError, ShortageError) as error:
            await self._pause.caused(error)
        except Exception as error:  # the folder may hold anything; clients must still get their answers
            log.exception("look.failed")
            self._core.health.set("genomes", f"an unexpected error: {type(error).__name__}: {error}")

    async def _until_worth_a_look(self) -> None:
        """Return after a hint, when the folder was quiet for `settle_seconds`, or after `settle_max_seconds`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.poll_builds)
            await self._hinted.wait()
            group.cancel_scope.cancel()
        watch = self._core.current.settings.watch
        latest = self.hinted_at + watch.settle_max_seconds
        while True:
            self._hinted = anyio.Event()
            quiet_at = min(self.hinted_at + watch.settle_seconds, latest)
            pause = quiet_at - time.monotonic()
            if pause <= 0:
                return
            with anyio.move_on_after(pause):
                await self._hinted.wait()

    async def poll_builds(self) -> None:
        """Look at the known running builds until one of them has ended. A build may end without any change notice."""
        while True:
            await anyio.sleep(BUILD_POLL_SECONDS)
            for asset in [a for a in self.look.assets.values() if a.state is AssetState.BUILDING]:
                try:
                    found = await self.last.disk.run(self._core.genomes.asset, asset.key, self._core.clock())
                except ShortageError:  # the build's state is not known now; the sweep reports the shortage
                    break
                if found is None or found.state is not AssetState.BUILDING:
                    self.hint()
                    return
