"""Uses the kernel's change notices as hints. Nothing depends on them: the sweeps find the changes without a notice.

watchfiles never reports an overflow, misses files in new folders, and says nothing if it reaches the watch limit
later. So only a few folders are watched, none recursively, and some time after an error a new watch is built.

To build a watch takes 40 µs for each folder, in which the daemon does nothing else. So there are two: the *steady* one
has nearly all folders, and the *moving* one those that came lately and those of running builds. Only the moving one is
built anew when a build begins or ends.
"""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from typing import Protocol

import anyio
import structlog
import watchfiles

from refgenied.config.settings import Current
from refgenied.files.disk import DiskThread
from refgenied.health import Health
from refgenied.model import ShortageError
from refgenied.reconciler import Known, Reconciler, Watchable, changed_since, is_of_a_build
from refgenied.shared.output import fits

log = structlog.get_logger("watcher")

LONGEST_PAUSE_SECONDS = 60.0
"""The most seconds between two attempts to build a watch."""
PROVEN_SECONDS = 1.0
"""A watch that has lasted for this long works."""
MOST_MOVING = 256
"""The most folders in the moving watch, without those of running builds. With more the steady watch is built anew."""

Notices = Collection[tuple[int, str]]
"""(kind of change, path), as watchfiles gives them."""

_DELETED, _MODIFIED = watchfiles.Change.deleted, watchfiles.Change.modified
_NOTHING: Watchable = {}
_WRITTEN_BY_BUILDS = re.compile(r"(log\.md|profile\.tsv|commands\.sh|stats\.(yaml|tsv))$")


class WatchSource(Protocol):
    """Yields the changes in the folders; ends when `stop` is set; raises when it is broken.

    It watches from its first step on, before it waits for the first time.
    """

    def __call__(self, folders: tuple[str, ...], stop: anyio.Event) -> AsyncIterator[Notices]: ...


def kernel_notices(folders: tuple[str, ...], stop: anyio.Event) -> AsyncIterator[Notices]:
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
        self._disk = DiskThread("watched folders")
        self._wanted: Watchable | None = None
        """What the two watches were to have together, when it was last divided between them."""
        self._parts: dict[str, Watchable] = {"steady": {}, "moving": {}}
        self._dead: dict[str, set[str]] = {"steady": set(), "moving": set()}
        """Folders of each watch that were deleted, and their watch with them. A new folder of the same name may even
        have the same inode.
        """
        self._watched: dict[str, tuple[str, ...]] = {}
        self._broken: dict[str, str] = {}

    @property
    def watching(self) -> tuple[str, ...]:
        """The folders that are watched now."""
        return tuple(folder for folders in self._watched.values() for folder in folders)

    async def run(self) -> None:
        """Watch the folders that the last look named, always. Ends only by cancellation."""
        await self._reconciler.first_look.wait()
        async with anyio.create_task_group() as group:
            for part in self._parts:
                group.start_soon(self._keep, part)
            while True:
                self._tell_of_limit()
                await self._reconciler.looked.wait()

    async def _keep(self, part: str) -> None:
        back_off = 1.0
        while True:
            folders = self._part(part)
            if not folders:
                self._tell(part, "")
                await self._reconciler.looked.wait()
                continue
            broken = await self._watch(part, folders)
            if broken is None:
                back_off = 1.0
                continue
            self._tell(part, str(broken))
            await anyio.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_PAUSE_SECONDS)

    # ----------------------------------------------------------------- which folders

    def _part(self, part: str) -> Watchable:
        """The folders of one watch. It is the same object as before while the watch need not be built anew."""
        last = self._reconciler.last
        wanted: Watchable = last.folders.watchable if self._current.settings.watch.enabled else _NOTHING
        if wanted is not self._wanted:
            self._wanted = wanted
            self._divide(wanted)
        return self._parts[part]

    def _divide(self, wanted: Watchable) -> None:
        steady, dead = self._parts["steady"], self._dead["steady"]
        lately = {path: known for path, known in wanted.items() if path in dead or not _has(steady, path, known)}
        others = sum(not is_of_a_build(path) for path in lately)
        gone = len(steady) - (len(wanted) - len(lately))
        if not wanted or (others and not steady) or others > MOST_MOVING or gone > MOST_MOVING:
            steady = {path: known for path, known in wanted.items() if not is_of_a_build(path)}
            lately = {path: known for path, known in wanted.items() if path not in steady}
            self._parts["steady"] = steady
            dead.clear()
        moving, dead = self._parts["moving"], self._dead["moving"]
        same = len(lately) == len(moving) and all(_has(moving, path, known) for path, known in lately.items())
        if not same or not dead.isdisjoint(lately):
            self._parts["moving"] = lately
            dead.clear()

    # ----------------------------------------------------------------- one watch

    async def _watch(self, part: str, wanted: Watchable) -> Exception | None:
        """Pass hints on until other folders must be watched, or a folder was replaced. Returns the watch's error."""
        folders = tuple(wanted)
        odd = next((folder for folder in folders if not fits(folder)), None)
        if odd is not None:  # watchfiles accepts no other names
            return ValueError(f"{odd} is not UTF-8")
        stop = anyio.Event()
        broken: Exception | None = None

        async def stopper() -> None:
            # A cancellation of awatch waits for its Rust thread (with rust_timeout=0 for ever); the event takes 4 ms.
            try:
                while self._part(part) is wanted:
                    await self._reconciler.looked.wait()
            finally:
                stop.set()

        async def proven() -> None:
            await anyio.sleep(PROVEN_SECONDS)
            self._tell(part, "")

        async with anyio.create_task_group() as group:
            group.start_soon(stopper)
            group.start_soon(proven)
            group.start_soon(self._ask_what_was_missed, wanted)
            self._watched[part] = folders
            try:
                async for notices in self._source(folders, stop):
                    if dead := {path for kind, path in notices if kind == _DELETED and path in wanted}:
                        self._dead[part] |= dead
                        self._wanted = None
                    if paths := worth_a_look(notices):
                        self._reconciler.hint(paths)
            except* (OSError, RuntimeError) as group_of:  # watchfiles' own errors, some wrapped by its task group
                broken = group_of.exceptions[0]
            finally:
                self._watched.pop(part, None)
            group.cancel_scope.cancel()
        return broken

    async def _ask_what_was_missed(self, watched: Watchable) -> None:
        """Ask for a look at what may have changed between the look that named these folders and the watch.

        This task begins when the source waits for the first time, so the kernel tells of all later changes.
        """
        with suppress(ShortageError):  # no thread is left now; the sweep finds it
            missed = await self._disk.run(changed_since, watched)
            if missed or watched is self._parts["steady"]:  # refgenie's config changes without a change of its folder
                self._reconciler.hint(missed)

    # ----------------------------------------------------------------- health

    def _tell(self, part: str, broken: str) -> None:
        self._broken[part] = broken
        line = next(filter(None, self._broken.values()), "")
        self._health.note("watch", line and f"change notices do not work ({line}); the sweeps go on")

    def _tell_of_limit(self) -> None:
        watch, left_out = self._current.settings.watch, self._reconciler.last.folders.left_out
        them = "1 folder is" if left_out == 1 else f"{left_out} folders are"
        self._health.note(
            "watch_limit",
            f"{them} not watched (watch.most_folders is {watch.most_folders}): the look every "
            f"{watch.sweep_seconds:g} seconds, or `refgeniectl scan`, finds what is built there; to watch them too, "
            "raise it, and fs.inotify.max_user_watches if it is not higher"
            if left_out and watch.enabled
            else "",
        )


def worth_a_look(notices: Notices) -> set[str]:
    """The paths of the notices, without the files that a build writes again and again and that no look reads."""
    return {path for kind, path in notices if kind != _MODIFIED or not _WRITTEN_BY_BUILDS.search(path)}


def _has(watched: Watchable, path: str, known: Known) -> bool:
    return path in watched and watched[path].identity == known.identity
