"""Decides when to look at the genome folder. After each look it enqueues the archives that are wanted and missing."""

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

import anyio
import structlog

from refgenied.model import AssetKey, AssetState, BusyError, Look, ShortageError, StateError
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.reconciler.difference import Difference
from refgenied.reconciler.hints import Hints
from refgenied.reconciler.last_look import Changes, LastLook
from refgenied.reconciler.named import Named
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
        self._difference = Difference(core, self.standings)
        self._hints = Hints()
        self._lock = anyio.Lock()
        """Held during a look and the queueing after it, but not while a client refreshes a few assets."""
        self._began = -1.0
        self.first_look = anyio.Event()
        """Set once the first look is done."""
        self.looked = anyio.Event()
        """Set at the end of the current look, and when the assets were judged anew; each time it is a new event."""
        self._next_sweep: float | None = None

    @property
    def look(self) -> Look:
        """The last look that could read the genome folder."""
        return self.last.look

    @property
    def hinted_at(self) -> float:
        """When the last hint came, on the monotonic clock."""
        return self._hints.at

    @property
    def next_sweep_at(self) -> float:
        """When the next sweep is due, by the current system clock; 0.0 before the first sweep has ended."""
        return self._core.clock() + self._next_sweep - time.monotonic() if self._next_sweep is not None else 0.0

    # ----------------------------------------------------------------- asking for a look

    def hint(self, noticed: Iterable[str] | None = None) -> None:
        """Ask for a look, because something may have changed. The look comes when the folder is quiet.

        `noticed`: only this may have changed: paths as the kernel names them. Without it: anything.
        """
        self._hints.add(noticed)

    def judge_again(self) -> None:
        """Ask to queue what is due, because other things than the genome folder have changed. Nobody looks at it."""
        self._difference.note_every()
        self._hints.wake()

    async def look_again(self) -> None:
        """Look now. Return when a look that began after this call is done and the missing archives are queued.

        BusyError: this takes longer than LATE_LOOK_SECONDS.
        """
        with anyio.move_on_after(LATE_LOOK_SECONDS):
            return await self._look_again()
        raise BusyError(self._late, hint="`refgeniectl status` says when it answers again")

    async def refreshed(self, paths: Sequence[str], *, thorough: bool = True) -> None:
        """Look now at refgenie's config and at the assets with these registry paths, and queue those that are due.

        The cost follows the number of paths. Only when a path means no asset, and with `thorough`, this is a look at
        the whole folder. Some may still mean none after it: `resolve` says why. BusyError: this takes longer than
        LATE_LOOK_SECONDS.
        """
        with anyio.move_on_after(LATE_LOOK_SECONDS):
            return await self._refresh(paths, thorough=thorough)
        raise BusyError(self._late, hint="`refgeniectl status` says when it answers again")

    async def first_looked(self) -> None:
        """Return after the first look, because the daemon may have just started. BusyError: the look takes too long."""
        with anyio.move_on_after(FIRST_LOOK_ANSWER_SECONDS):
            await self.last.first()
            return
        path = self._core.current.settings.refgenie.genome_folder
        raise BusyError(
            f"the first look at {path} is not done yet", hint="try again soon; `refgeniectl status` says how it goes"
        )

    # ----------------------------------------------------------------- looking

    async def _look_again(self) -> None:
        asked = time.monotonic()
        async with self._lock:
            if self._began < asked:
                began = time.monotonic()
                self._note(await self.last.renew())
                await self._queue_difference()
                self._began = began  # set at the end, because a cut look (its client has left) does not count

    async def _look_at_hints(self) -> None:
        """Look at what was noticed, or at nothing if only other things have changed, and queue what is due."""
        async with self._lock:
            noticed = self._hints.take()
            if noticed.on_disk or self.last.cut:
                whole = noticed.anything
                self._note(await (self.last.renew() if whole else self.last.renew_some(noticed.paths, ())))
            await self._queue_difference()

    async def _refresh(self, paths: Sequence[str], *, thorough: bool) -> None:
        looked_at, news = set[AssetKey](), False
        for again in (False, True):  # the first look may find that an alias or a default asset means another asset now
            named = Named.of(paths, self.last, self._core.genomes.root)
            if again and named.keys <= looked_at:
                break
            looked_at |= named.keys
            changes = await self.last.renew_some(named.folders, named.keys)
            self._note(changes)
            news = news or changes.any
        named = Named.of(paths, self.last, self._core.genomes.root)
        if named.unknown and thorough:
            await self._look_again()
            return
        if await self._may_queue():
            await self._difference.enqueue_some(named.keys)
            if self._difference.every:  # it was a look at the whole folder after all: the others are judged soon
                self._hints.wake()
        if news:
            self._tell_of_look()

    def _note(self, changes: Changes) -> None:
        if changes.every:
            self._difference.note_every()
        else:
            self._difference.note(changes.assets)

    async def _queue_difference(self) -> None:
        if await self._may_queue():
            await self._difference.enqueue()
        self._tell_of_look()

    async def _may_queue(self) -> bool:
        return not await self._pause.folder_problem() and self.last.readable

    def _tell_of_look(self) -> None:
        self.looked.set()
        self.looked = anyio.Event()

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
            await self._follow_hints_for(watch.sweep_seconds * (1 + spread))
            await self.sweep()

    async def _follow_hints_for(self, seconds: float) -> None:
        """Look at what was noticed whenever it has settled. Return when a look at the whole folder is needed, at the
        latest after this many seconds: hints do not put a sweep off.
        """
        began = time.monotonic()
        while True:
            due = self._next_sweep = began + (seconds if self.last.readable else UNREADABLE_POLL_SECONDS)
            with anyio.move_on_after(due - time.monotonic()) as until_due:
                await self._until_worth_a_look()
            if until_due.cancelled_caught or self._hints.anything:
                return
            await self._guarded(self._look_at_hints)

    async def sweep(self) -> None:
        """Look at the whole folder, without a client that waits. An error of the database is a health condition;
        another look follows.
        """
        await self._guarded(self._sweep)

    async def _sweep(self) -> None:
        self._hints.take()
        await self._look_again()

    async def _guarded(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except (StateError, ShortageError) as error:
            await self._pause.caused(error)
        except Exception as error:  # the folder may hold anything; clients must still get their answers
            log.exception("look.failed")
            self._core.health.set("genomes", f"an unexpected error: {type(error).__name__}: {error}")

    async def _until_worth_a_look(self) -> None:
        """Return after a hint, when the folder was quiet for `settle_seconds`, or after `settle_max_seconds`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.poll_builds)
            await self._hints.arrived()
            group.cancel_scope.cancel()
        await self._hints.settled(self._core.current.settings.watch)

    async def poll_builds(self) -> None:
        """Look at the known running builds until one of them has ended. A build may end without any change notice."""
        while True:
            await anyio.sleep(BUILD_POLL_SECONDS)
            building = list(self.last.building)
            with suppress(ShortageError):  # the build's state is not known now; the sweep reports the shortage
                if building and await self.last.disk.run(self._one_has_ended, building):
                    return self.hint(())  # a look at a part looks at each build that was running

    def _one_has_ended(self, building: Sequence[AssetKey]) -> bool:
        now = self._core.clock()
        found = (self._core.genomes.asset(key, now) for key in building)
        return any(asset is None or asset.state is not AssetState.BUILDING for asset in found)
