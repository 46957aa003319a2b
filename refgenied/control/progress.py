"""Tells a peer how far the reading of one archive is."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from refgenied.archive.run import OnProgress, Phase
from refgenied.control.dispatch import Call
from refgenied.model import AssetKey
from refgenied.shared.progress import Meter, Progress

READING_PROGRESS_SECONDS = 0.1
"""Between two readings."""


@asynccontextmanager
async def told(call: Call, key: AssetKey, *, wanted: bool) -> AsyncGenerator[OnProgress]:
    """A callback for any thread. While this is open, what it is given is sent to the peer, if that is wanted."""
    meter = Meter()
    latest: list[Progress] = []

    def on_progress(phase: Phase, done: int, total: int) -> None:
        latest[:] = [meter.reading(phase, done, total)]

    async def tell() -> None:
        while True:
            await anyio.sleep(READING_PROGRESS_SECONDS)
            if latest:
                await call.notify("progress", {"registry_path": key.registry_path, **latest.pop().message()})

    if not wanted:
        yield on_progress
        return
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(tell)
            yield on_progress
            group.cancel_scope.cancel()
    except BaseExceptionGroup as several:  # made by the task group; the callers expect the error itself
        raise several.exceptions[0] from None
