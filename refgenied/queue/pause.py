"""Why no job is claimed: a user has paused the queue, or a requirement of every job is missing."""

from collections.abc import Callable
from contextlib import suppress

import anyio

from refgenied.model import NoSpaceError, RefgeniedError, Requester, ShortageError, SourceChangedError, StateError
from refgenied.queue.conditions import Database, Folder, Means, Requirement, Room
from refgenied.queue.core import Core
from refgenied.queue.eventlog import Change
from refgenied.store import archives

PAUSED_BY = "paused_by"
"""The name of the fact that says who paused the queue."""
CONDITION_POLL_SECONDS = 3.0
"""Seconds between two looks at each condition, even while no job waits."""


class Pause:
    def __init__(self, core: Core) -> None:
        self._jobs = core.jobs
        self._health = core.health
        self._paused_by: str | None = None
        self._folder = Folder(core.archive_folder)
        self._means = Means()
        archiving = (self._folder, Room(core.archive_folder)) if core.archive_folder.path else ()
        self._conditions: tuple[Requirement, ...] = (*archiving, Database(core.jobs.store), self._means)
        if not archiving:
            self._health.set(Folder.name, "none is set, so nothing is archived, only reported")
        self._went_on: Callable[[], None] = lambda: None

    def on_end(self, call: Callable[[], None]) -> None:
        """Register a function that is called whenever a condition is over."""
        self._went_on = call

    @property
    def active(self) -> bool:
        return bool(self.reason)

    @property
    def reason(self) -> str:
        if self._paused_by is not None:
            return f"paused by {self._paused_by}"
        return next((f"waiting for {found.waiting_for}" for found in self._conditions if found.line), "")

    # ----------------------------------------------------------------- a user's pause

    async def load(self) -> None:
        """Load a user's pause from before this start."""
        self._paused_by = await self._jobs.store.ask(archives.fact, PAUSED_BY)

    async def pause(self, requester: Requester) -> bool:
        """Claim no more jobs until `resume`; a running job continues. False: the queue was paused already."""
        if self._paused_by is not None:
            return False
        await self._jobs.write(_paused, requester)
        self._paused_by = requester.name
        return True

    async def resume(self, requester: Requester) -> bool:
        """End a user's pause, and check at once whether the conditions are over. False: nothing was paused."""
        if not self.active:
            return False
        if self._paused_by is not None:
            await self._jobs.write(_resumed, requester)
            self._paused_by = None
        for condition in self._conditions:
            if condition.line:
                await self._look_at(condition, anyhow=True)
        self._jobs.wake()
        return True

    # ----------------------------------------------------------------- conditions

    async def caused(self, error: RefgeniedError) -> Requirement | None:
        """The condition behind this error of a job; None when the asset itself is at fault.

        During a condition no job is claimed. Call this after the unfinished files were deleted.
        """
        says_it_itself = isinstance(error, SourceChangedError | NoSpaceError | ShortageError)
        if not error.permanent and not says_it_itself and self._folder in self._conditions:
            found = await self._folder.probe()
            if found is None:
                return None
            error = found
        for condition in self._conditions:
            if isinstance(error, condition.errors):
                async with condition.lock:
                    await condition.met(error)
                self._tell(condition)
                return condition
        return None

    async def look(self) -> None:
        """Look at every condition now."""
        for condition in self._conditions:
            await self._look_at(condition)

    async def folder_problem(self) -> str:
        """Why nothing can be archived in the archive folder now; empty when all is well."""
        if self._folder in self._conditions:
            await self._look_at(self._folder)
        return self._folder.line

    async def run(self) -> None:
        """Look at each condition now and every few seconds. A look that hangs does not delay the others.

        Ends only by cancellation.
        """
        with self._means:
            async with anyio.create_task_group() as group:
                for condition in self._conditions:
                    group.start_soon(self._keep_looking, condition)

    async def _keep_looking(self, condition: Requirement) -> None:
        while True:
            await self._look_at(condition)
            await anyio.sleep(CONDITION_POLL_SECONDS)

    async def _look_at(self, condition: Requirement, *, anyhow: bool = False) -> None:
        async with condition.lock:
            before = condition.line
            await (condition.try_anyhow() if anyhow else condition.look())
            over = bool(before) and not condition.line
        self._tell(condition)
        if over:
            if condition.ended_for_certain or anyhow:
                with suppress(StateError):  # these jobs will be due later in any case
                    await self._jobs.release([error.kind for error in condition.errors])
            self._jobs.wake()
            self._went_on()

    def _tell(self, condition: Requirement) -> None:
        line = condition.line
        self._health.note(condition.name, f"{line}; the queue waits, and goes on by itself" if line else "")


async def _paused(change: Change, requester: Requester) -> None:
    await archives.put_fact(change.tx, PAUSED_BY, requester.name)
    await change.log("queue.paused", by=requester.name)


async def _resumed(change: Change, requester: Requester) -> None:
    await archives.forget_fact(change.tx, PAUSED_BY)
    await change.log("queue.resumed", by=requester.name)
