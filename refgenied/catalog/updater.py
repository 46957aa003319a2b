"""Keeps the archive folder servable: after each publish and removal, and after each look."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskGroup

from refgenied.catalog.faults import explained
from refgenied.catalog.folder import ServedFolder
from refgenied.catalog.parts import Head
from refgenied.catalog.server_config import EditedError
from refgenied.catalog.wanted import Served, Wanted
from refgenied.model import AssetKey, Event, Look, RefgeniedError, StateError
from refgenied.queue.core import Core
from refgenied.reconciler import Reconciler
from refgenied.store import archives
from refgenied.store import jobs as rows

log = structlog.get_logger("serving")

_CAUSES = ("archive.", "database.")
"""Events of these kinds change the served archives."""
_VERIFIED = "archive.verified"
REPAIR_SECONDS = 60.0
"""Seconds between two refreshes while something is wrong, or while replaced archives are kept."""
REST_PER_REFRESH = 9.0
"""A refresh waits for this many times the duration of the last one, so refreshes take at most a tenth of the time."""
IDLE_REST_SECONDS = 0.75
"""When the queue has come to its end, a refresh waits only this long after the last one: nobody else needs the time."""
IDLE_LOOK_SECONDS = 0.1
"""Seconds between two looks, in a rest, whether the queue has come to its end."""
SHORTEST_REST_SECONDS = 0.25
"""After the config was written, the next refresh waits for this long at least. If not, each of many publishes would
have its own write while the config is small."""
MOST_EDITS = 3
"""After so many refreshes in which another program has changed the config meanwhile, the next is a minute later."""
MOST_AT_ONCE = 100
"""At most so many archives are looked at while the publishing lock is held."""


class Updater:
    """It makes all its files from the database, the manifests and the last look. Every call may be repeated."""

    def __init__(
        self,
        core: Core,
        reconciler: Reconciler,
        doubt: Callable[[frozenset[AssetKey]], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._core = core
        self._reconciler = reconciler
        self._doubt = doubt
        """It is called with the archives whose record, manifest and file do not agree."""
        self._folder = ServedFolder(core.archive_folder.path)
        self._causes = core.jobs.feed.subscribe(*_CAUSES)
        self._one_at_a_time = anyio.Lock()
        self._again = anyio.Event()
        """Set after a change that no refresh has seen yet."""
        self._keys: set[AssetKey] = set()
        """Assets that have changed since a refresh looked at them."""
        self._whole = True
        """Whether the next refresh must look at every asset."""
        self._look: Look | None = None
        """The last look that a refresh took."""
        self._seen: Look | None = None
        """The last look that was noted."""
        self._unwell = False
        self._counted_from = 0.0
        """Since when the current refresh counts for the rest after it. A look at all archives, which comes with each
        sweep, does not: a new archive would not be served for nine times as long."""
        self._all_rested_at = 0.0
        """A look at all archives before this time counts too."""
        self._rested_at = self._idle_rested_at = 0.0
        """When the rest after the last refresh is over: with and without work in the queue."""
        self._tasks: TaskGroup | None = None
        """While `run` runs: its tasks."""
        self.served = Served()
        """The result of the last refresh."""

    @property
    def config(self) -> str:
        """The path of the server's config; "" when the daemon does not keep one."""
        on = self._core.current.settings.serving.enabled and self._core.archive_folder.path
        return str(self._folder.config.path) if on else ""

    # ----------------------------------------------------------------- asking for a refresh

    def note(self, keys: Iterable[AssetKey]) -> None:
        """These assets have changed, and no event says so."""
        self._keys.update(keys)
        self._again.set()

    async def catch_up(self, *keys: AssetKey) -> None:
        """Return when every archive that was recorded before this call is served. It costs what has changed.

        So every publish of which the caller knows is served: the feed gives us an event right after its commit, before
        anybody else gets it. These `keys` are looked at in any case. If the caller is cancelled, the refresh goes on.
        """
        self._keys.update(keys)
        if self._tasks is None:
            await self._catch_up()
            return
        caught_up = anyio.Event()
        self._tasks.start_soon(self._tell_when_caught_up, caught_up)
        await caught_up.wait()

    async def _tell_when_caught_up(self, caught_up: anyio.Event) -> None:
        try:
            await self._catch_up()
        finally:
            caught_up.set()

    async def _catch_up(self) -> None:
        async with self._one_at_a_time:  # wait until a running refresh has ended
            if self._causes.pending:
                self._note_events(await self._causes.take())
            self._note_look()
            if self._keys or self._whole or self._seen is not self._look:
                await self._refresh()

    async def refresh(self) -> None:
        """Look at every asset. Return when all archives that are recorded now are served. A fault is a health warning,
        not an error.
        """
        self._whole = True
        await self.catch_up()

    # ----------------------------------------------------------------- what has changed

    def _note_look(self) -> None:
        look = self._reconciler.look
        if look is not self._seen:
            self._seen = look
            self._whole |= look.full

    def _note_events(self, arrived: list[Event]) -> None:
        """Note the assets of these events. After a lag, or an event about all assets, all are looked at."""
        if self._causes.lagged:
            self._causes.lagged = False
            self._whole = True
        for event in arrived:
            if event.key is None:
                self._whole = True
            elif event.kind != _VERIFIED or not self._folder.serves(event.key):  # what is served stays as it is
                self._keys.add(event.key)

    # ----------------------------------------------------------------- one refresh

    async def _refresh(self) -> None:
        self._counted_from, was_unwell, shortest = self._clock(), self._unwell, 0.0
        keys, self._keys = self._keys, set()
        whole, self._whole = self._whole, False
        if self._again.is_set():  # else `run` waits for it
            self._again = anyio.Event()
        try:
            await self._serve(keys, whole=whole)
        except anyio.get_cancelled_exc_class():  # the daemon stops
            self._whole = True
            self.note(keys)
            raise
        except (OSError, RefgeniedError) as error:
            self._failed(f"nothing new is served: {explained(error)}")
        except Exception as error:
            log.exception("serving.failed")
            self._failed(f"an unexpected error: {type(error).__name__}: {error}")
        else:
            shortest = SHORTEST_REST_SECONDS if self.served.changed else 0.0
            number = self.served.faulty
            them = "1 archive is" if number == 1 else f"{number} archives are"
            self._core.health.note(
                "serving", f"{them} not served; `not served` in the status says why" if number else ""
            )
        if self._unwell and not was_unwell:
            self._again.set()  # `run` may wait without an end; from now on it looks every minute
        ended = self._clock()
        self._rested_at = ended + max(shortest, REST_PER_REFRESH * (ended - self._counted_from))
        self._idle_rested_at = min(self._rested_at, ended + IDLE_REST_SECONDS)

    def _failed(self, why: str) -> None:
        """A refresh has ended half-way: the next one, in a minute, looks at all assets."""
        self._unwell = self._whole = True
        self._core.health.set("serving", why)

    async def _serve(self, keys: set[AssetKey], *, whole: bool) -> None:
        settings = self._core.current.settings
        self._look = look = self._reconciler.look
        if not look.ok and not self._reconciler.first_look.is_set():
            self._whole = True  # without a look, aliases and default assets are not known
            return
        if not self.config or not await self._core.archive_folder.usable():
            self._whole = True
            return
        wanted = Wanted(
            records={},
            removals={},
            look=look,
            head=Head(settings.refgenie.genome_folder, self._core.archive_folder.path, settings.serving.remotes),
            files=settings.serving.files,
            publish_private=settings.archive.publish_private,
        )
        for more in reversed(range(MOST_EDITS)):
            await self._bring(wanted, keys, whole=whole)
            try:
                self.served = await anyio.to_thread.run_sync(self._folder.write, wanted)
                break
            except EditedError:
                if not more:
                    raise
        await self._in_turns(self._folder.clear, wanted, self._folder.over)
        self._unwell = self.served.unwell
        if self.served.doubtful:
            self._doubt(self.served.doubtful)

    async def _bring(self, wanted: Wanted, keys: set[AssetKey], *, whole: bool) -> None:
        began = self._clock()
        found = await anyio.to_thread.run_sync(self._folder.begin, wanted, keys)
        if found is not None and not whole:
            await self._in_turns(self._folder.bring, wanted, found)
            return
        found = self._folder.all_keys() | await self._core.jobs.store.ask(archives.known_keys)
        await self._in_turns(self._folder.bring, wanted, found)
        ended = self._clock()
        if began >= self._all_rested_at:
            self._counted_from = ended
        self._all_rested_at = ended + REST_PER_REFRESH * (ended - began)

    async def _in_turns(self, step: Callable[[Wanted], None], wanted: Wanted, keys: Iterable[AssetKey]) -> None:
        """Do a step for some assets after the others. During it no publish changes a name or a record of them."""
        ordered = sorted(keys)
        for first in range(0, len(ordered), MOST_AT_ONCE):
            some = ordered[first : first + MOST_AT_ONCE]
            async with self._core.archive_folder.publishing:
                records, removals = await self._core.jobs.store.ask(archives.known_of, some)
                now = msgspec.structs.replace(wanted, records=records, removals=removals, keys=some)
                await anyio.to_thread.run_sync(step, now)

    # ----------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Refresh after each cause, and after each look. Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow_events)
            group.start_soon(self._follow_looks)
            self._tasks = group
            try:
                await self._refresh_again_and_again()
            finally:
                self._tasks = None

    async def _refresh_again_and_again(self) -> None:
        while True:
            with anyio.move_on_after(REPAIR_SECONDS if self._unwell or self._folder.kept.waiting else None):
                await self._again.wait()
            if self._unwell:
                self.note(self._folder.faulty)
            if self._again.is_set():
                await self._rest()
                self._again = anyio.Event()  # also if it was set for something that needs no refresh
                await self._catch_up()
            if self._folder.kept.waiting:
                await self._tidy()

    async def _rest(self) -> None:
        """Wait until the next refresh may begin."""
        while (left := self._rested_at - self._clock()) > 0:
            if self._clock() >= self._idle_rested_at and await self._is_idle():
                return
            await anyio.sleep(min(left, IDLE_LOOK_SECONDS))

    async def _is_idle(self) -> bool:
        jobs = self._core.jobs
        with suppress(StateError):
            due = await jobs.store.ask(rows.next_time, but_not=jobs.reserved_keys)
            return not jobs.running and (due is None or due > self._core.clock())
        return False

    async def _tidy(self) -> None:
        """Delete the replaced archives whose time is over, even when nothing is served now."""
        async with self._core.archive_folder.publishing:
            if await self._core.archive_folder.usable():
                await anyio.to_thread.run_sync(self._folder.kept.tidy)

    async def _follow_events(self) -> None:
        while True:
            self._note_events(await self._causes.take())
            self._again.set()

    async def _follow_looks(self) -> None:
        while True:
            await self._reconciler.looked.wait()
            self._note_look()
            self._again.set()
