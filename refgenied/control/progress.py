"""Sends a peer the progress of reading one archive."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from refgenied.archive.run import OnProgress, Phase
from refgenied.control.dispatch import Call
from refgenied.model import AssetKey
from refgenied.shared.progress import Meter, Progress

READING_PROGRESS_SECONDS = 0.1
"""Seconds between two progress notifications."""


@asynccontextmanager
async def told(call: Call, key: AssetKey, *, wanted: bool) -> AsyncGenerator[OnProgress]:
    """A context with a callback for any thread. If `wanted`, the callback's progress is sent to the peer."""
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
    except BaseExceptionGroup as several:  # the task group makes it, but the callers expect the error itself
        raise several.exceptions[0] from None
