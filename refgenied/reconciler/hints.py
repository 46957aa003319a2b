"""What may have changed since the last look, as change notices and other parts of the daemon have told it."""

import time
from collections.abc import Iterable

import anyio

from refgenied.config.settings import Watching

MOST_NOTICED = 4096
"""The most noticed paths that are kept. With more of them a look at the whole folder is cheaper."""


class Noticed:
    """What one look must cover."""

    def __init__(self) -> None:
        self.anything = False
        """Whether everything may have changed: only a look at the whole folder covers this."""
        self.on_disk = False
        """Whether anything may have changed in the genome folder. If not, no look is needed."""
        self.paths: set[str] = set()
        """The noticed paths; empty when `anything` is set."""

    def add(self, paths: Iterable[str] | None) -> None:
        """Add noticed paths; None: anything may have changed."""
        self.on_disk = True
        if paths is None:
            self.anything = True
        elif not self.anything:
            self.paths.update(paths)
            self.anything = len(self.paths) > MOST_NOTICED
        if self.anything:
            self.paths.clear()


class Hints:
    """Collects hints until the folder is quiet."""

    def __init__(self) -> None:
        self._arrived = anyio.Event()
        self._noticed = Noticed()
        self.at = 0.0
        """When the last hint came, on the monotonic clock."""

    def add(self, paths: Iterable[str] | None) -> None:
        """Note paths as the kernel names them; None: anything may have changed."""
        self._noticed.add(paths)
        self.wake()

    def wake(self) -> None:
        """Note that something else than the genome folder may have changed."""
        self.at = time.monotonic()
        self._arrived.set()

    def take(self) -> Noticed:
        """What was noticed since the last call. The caller looks at all of it; a look that fails is followed by one at
        everything (`LastLook.cut`).
        """
        taken, self._noticed = self._noticed, Noticed()
        return taken

    @property
    def anything(self) -> bool:
        """Whether only a look at the whole folder covers what was noticed."""
        return self._noticed.anything

    async def arrived(self) -> None:
        """Return when there is a hint that no `settled` has seen yet."""
        await self._arrived.wait()

    async def settled(self, watch: Watching) -> None:
        """After a hint, return when none has come for `settle_seconds`, or after `settle_max_seconds`."""
        latest = self.at + watch.settle_max_seconds
        while True:
            self._arrived = anyio.Event()
            pause = min(self.at + watch.settle_seconds, latest) - time.monotonic()
            if pause <= 0:
                return
            with anyio.move_on_after(pause):
                await self._arrived.wait()
