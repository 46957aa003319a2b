"""Uses the kernel's change notices as hints. Nothing depends on them: the sweeps find the changes without a notice.

watchfiles never reports an overflow, misses files in new folders, and says nothing if it reaches the watch limit
later. So only a few folders are watched, none recursively, and some time after an error a new watch is built.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import anyio
import structlog
import watchfiles

from refgenied.config.settings import Current
from refgenied.health import Health
from refgenied.reconciler import Reconciler, Watchable
from refgenied.shared.output import fits

log = structlog.get_logger("watcher")

LONGEST_PAUSE_SECONDS = 60.0
"""The most seconds between two attempts to build a watch."""
PROVEN_SECONDS = 1.0
"""A watch that has lasted for this long works."""


class WatchSource(Protocol):
    """Yields whenever something changed in one of the folders; ends when `stop` is set; raises when it is broken."""

    def __call__(self, folders: tuple[str, ...], stop: anyio.Event) -> AsyncIterator[object]: ...


def kernel_notices(folders: tuple[str, ...], stop: anyio.Event) -> AsyncIterator[object]:
    return watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType] (its types name trio, not installed here)
        *folders, watch_filter=None, debounce=400, step=50, stop_event=stop, recursive=False, force_polling=False
    )


class Watcher:
    def __init__(
        self, reconciler: Reconciler, current: Current, health: Health, source: WatchSource = kernel_notices
    ) -> None:
        self._reconciler = reconciler
        self._current = current
        self._health = health
        self._source = source
        self.watching: tuple[str, ...] = ()

    async def run(self) -> None:
        """Watch the folders that the last look named, always. Ends only by cancellation."""
        back_off = 1.0
        await self._reconciler.first_look.wait()
        while True:
            wanted = self._wanted()
            if not wanted:
                self._health.clear("watch")
                await self._reconciler.looked.wait()
                continue
            broken = await self._watch(wanted)
            if broken is None:
                back_off = 1.0
                continue
            self._health.set("watch", f"change notices do not work ({broken}); the sweeps go on")
            await anyio.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_PAUSE_SECONDS)

    def _wanted(self) -> Watchable:
        return self._reconciler.last.watchable if self._current.settings.watch.enabled else ()

    async def _watch(self, wanted: Watchable) -> Exception | None:
        """Pass hints on until other folders must be watched, or a folder was replaced. Returns the watch's error."""
        folders = tuple(folder for folder, _ in wanted)
        odd = next((folder for folder in folders if not fits(folder)), None)
        if odd is not None:  # watchfiles accepts no other names
            return ValueError(f"{odd} is not UTF-8")
        stop = anyio.Event()
        broken: Exception | None = None

        async def stopper() -> None:
            # A cancellation of awatch waits for its Rust thread (with rust_timeout=0 for ever); the event takes 4 ms.
            try:
                while self._wanted() == wanted:
                    await self._reconciler.looked.wait()
            finally:
                stop.set()

        async def proven() -> None:
            await anyio.sleep(PROVEN_SECONDS)
            self._health.clear("watch")

        async with anyio.create_task_group() as group:
            group.start_soon(stopper)
            group.start_soon(proven)
            self.watching = folders
            self._reconciler.hint()  # something may have changed between the look and the watch
            try:
                async for _ in self._source(folders, stop):
                    self._reconciler.hint()
            except* (OSError, RuntimeError) as group_of:  # watchfiles' own errors, some wrapped by its task group
                broken = group_of.exceptions[0]
            finally:
                self.watching = ()
            group.cancel_scope.cancel()
        return broken
