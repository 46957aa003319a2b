"""The kernel's notices that the server's config has changed. They may be lost: whoever waits also looks by himself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import watchfiles

from refgenied.catalog.server_config import CONFIG_NAME


class Notices:
    """The kernel's notices about a folder."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()

    async def watch(self, folder: Path) -> None:
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, folder, stop)
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()  # cancelling alone waits for the watcher's own timeout

    async def _watch(self, folder: Path, stop: anyio.Event) -> None:
        with suppress(OSError, RuntimeError):  # then the poll alone must do
            async for changes in _notices(folder, stop):
                if any(path.endswith(f"/{CONFIG_NAME}") for _, path in changes):
                    self._event.set()


def _notices(folder: Path, stop: anyio.Event) -> AsyncIterator[set[tuple[watchfiles.Change, str]]]:
    return watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType] (its types name trio, not installed here)
        folder, recursive=False, step=20, debounce=200, stop_event=stop
    )
