"""Why nothing is claimed: a user paused the queue, or the archive folder's disk is full."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.to_thread

from refgenied.health import Health
from refgenied.jobs import Jobs
from refgenied.model import NoSpaceError, Requester, StateError
from refgenied.store import archives

FACT = "paused_by"
CHECK_SECONDS = 5.0
TRY_ANYHOW_SECONDS = 600.0
"""A quota is not seen in the free space: try again after so long."""
GROWTH = 16 * 1024 * 1024
"""More free bytes than at the failure that make another try worth it."""


class Pause:
    def __init__(self, jobs: Jobs, health: Health) -> None:
        self._jobs = jobs
        self._health = health
        self._paused_by: str | None = None
        self._space: Callable[[], int] | None = None
        self._room_at_failure = 0
        self._full = anyio.Event()

    @property
    def active(self) -> bool:
        return self._paused_by is not None or self._space is not None

    @property
    def reason(self) -> str:
        if self._paused_by is not None:
            return f"paused by {self._paused_by}"
        return "waiting for room in the archive folder" if self._space else ""

    async def load(self) -> None:
        """A user's pause outlives a restart."""
        async with self._jobs.store.transaction() as tx:
            self._paused_by = await archives.fact(tx, FACT)

    async def pause(self, requester: Requester) -> bool:
        """Claim nothing more until resumed; a running job goes on. False when it was paused already."""
        if self._paused_by is not None:
            return False
        async with self._jobs.change() as change:
            await archives.put_fact(change.tx, FACT, requester.name)
            await change.log("queue.paused", by=requester.name)
        self._paused_by = requester.name
        return True

    async def resume(self, requester: Requester) -> bool:
        """End a user's pause, and a wait for room too. False when nothing was paused."""
        if not self.active:
            return False
        async with self._jobs.change() as change:
            await archives.forget_fact(change.tx, FACT)
            await change.log("queue.resumed", by=requester.name)
        self._paused_by = None
        await self._jobs.release(NoSpaceError.kind)
        self._end_wait()
        return True

    async def for_space(self, message: str, free: Callable[[], int]) -> None:
        """The disk is full: wait for room. Call this once what was half written is gone."""
        self._health.set("space", f"{message}; the queue goes on by itself when there is room")
        self._room_at_failure = await anyio.to_thread.run_sync(free)
        self._space = free
        self._full.set()

    async def run(self) -> None:
        """Resume by itself when there is room. Ends only by cancellation."""
        while True:
            await self._full.wait()
            with anyio.move_on_after(TRY_ANYHOW_SECONDS):
                while self._space is not None:
                    free = await anyio.to_thread.run_sync(self._space)
                    if free >= self._room_at_failure + GROWTH:
                        with suppress(StateError):  # one disk for both: what waits is due later all the same
                            await self._jobs.release(NoSpaceError.kind)
                        break
                    await anyio.sleep(CHECK_SECONDS)
            self._end_wait()

    def _end_wait(self) -> None:
        self._full = anyio.Event()
        self._space = None
        self._health.clear("space")
        self._jobs.wake()
