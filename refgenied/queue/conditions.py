"""The requirements of every job: the archive folder, room in it, a database that takes writes, descriptors and memory.

If one of them is missing, this is a condition: no job is at fault, the queue waits, and it continues by itself. Each
requirement has a line that says what is wrong now (`line`), and a check (`look`). The checks run every few seconds
while the daemon runs, so they are cheap while all is well.
"""

import os
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar, Self, TypeVar

import anyio
import anyio.to_thread

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.files.disk import DiskThread
from refgenied.model import NoSpaceError, RefgeniedError, ShortageError, StateError, UnreadableError, WriteError
from refgenied.store import Store, archives

T = TypeVar("T")

DISK_ANSWER_SECONDS = 20.0
"""If the archive folder does not answer for this long, this is a condition. A sync of a busy disk takes a while."""
QUOTA_RETRY_SECONDS = 600.0
"""The free space does not show a quota. So after this long a job is tried even without more free space."""
SMALLEST_GROWTH, LARGEST_GROWTH = 64 << 10, 16 << 20
"""Limits of the growth in free bytes since the failure that makes another attempt worth it."""
STATE_ROOM = 256 << 10
"""With fewer free bytes the state folder's disk counts as full: a job's end and its events may need this many."""
SHORTEST_SHORTAGE, LONGEST_SHORTAGE = 5.0, 600.0
"""Seconds to wait after a shortage. If the shortage comes back at once, the next wait is twice as long."""
SPARE_DESCRIPTORS = 8
"""If fewer descriptors can be opened, this is a shortage. As many are kept in reserve, to answer clients then."""


class Requirement(ABC):
    """One thing that every job needs."""

    name: ClassVar[str]
    """The name of its condition in the health."""
    waiting_for: ClassVar[str]
    errors: ClassVar[tuple[type[RefgeniedError], ...]]
    """A job fails with one of these errors because of the condition."""

    def __init__(self) -> None:
        self.line = ""
        """What is wrong, and where; empty when all is well."""
        self.let_others_go_first = 0.0
        """For this many seconds the job that failed stays behind other jobs, or until `ended_for_certain`."""
        self.ended_for_certain = True
        """Whether the end of the condition was seen. If not, an attempt is only a test."""
        self.lock = anyio.Lock()
        """Only one look runs at a time, because the late answer of an older look would be out of date."""

    async def met(self, error: RefgeniedError) -> None:
        """A job, or another part of the daemon, failed with this error because of the condition."""
        self.line = error.message

    @abstractmethod
    async def look(self) -> None:
        """Bring `line` up to date."""

    async def try_anyhow(self) -> None:
        """Note that a person says that the condition is over."""
        await self.look()


class Folder(Requirement):
    """The archive folder exists, is the folder that we know, and takes writes."""

    name, waiting_for = "archive_folder", "the archive folder"
    errors = (WriteError, UnreadableError)

    def __init__(self, folder: ArchiveFolder) -> None:
        super().__init__()
        self._folder = folder
        self.disk = DiskThread("archive folder's state")

    async def look(self) -> None:
        try:
            self.line = await self.answer(self._folder.probe if self.line else self._folder.problem) or ""
        except ShortageError:
            pass  # no look was possible: the line stays as it is
        except RefgeniedError as error:
            self.line = error.message

    async def probe(self) -> RefgeniedError | None:
        """Write a small file there. Returns its error; None when all is well."""
        try:
            await self.answer(self._folder.probe)
        except RefgeniedError as error:
            return error
        return None

    async def answer(self, question: Callable[[], T]) -> T:
        """The result or error of `question`. ShortageError. WriteError: the disk does not answer in time."""
        since = self.disk.busy_since
        if since is None or time.monotonic() - since < DISK_ANSWER_SECONDS:  # else we know that it does not answer
            with anyio.move_on_after(DISK_ANSWER_SECONDS):
                return await self.disk.run(question)
        raise WriteError(f"{self._folder.path} does not answer: does its disk work?")


class Room(Requirement):
    """The archive folder has room."""

    name, waiting_for = "space", "room in the archive folder"
    errors = (NoSpaceError,)

    def __init__(self, folder: ArchiveFolder) -> None:
        super().__init__()
        self.let_others_go_first = 2 * QUOTA_RETRY_SECONDS  # a smaller job may fit into the same room
        self._folder = folder
        self._wanted = 0
        self._until = 0.0
        self._not_even_a_probe = False

    async def met(self, error: RefgeniedError) -> None:
        """Call this after the unfinished files were deleted."""
        await super().met(error)
        free = await anyio.to_thread.run_sync(self._folder.free)
        self._wanted = free + min(max(free // 16, SMALLEST_GROWTH), LARGEST_GROWTH)
        self._not_even_a_probe = not await self._takes_a_probe()
        self._until = time.monotonic() + QUOTA_RETRY_SECONDS

    async def look(self) -> None:
        if not self.line:
            return
        grown = await anyio.to_thread.run_sync(self._folder.free) >= self._wanted
        # The number of free bytes does not show a quota, nor a disk without inodes.
        self.ended_for_certain = grown or (self._not_even_a_probe and await self._takes_a_probe())
        if self.ended_for_certain or time.monotonic() >= self._until:
            self.line = ""

    async def _takes_a_probe(self) -> bool:
        try:
            await anyio.to_thread.run_sync(self._folder.probe)
        except RefgeniedError as error:  # any other error is a condition of `Folder`
            return not isinstance(error, NoSpaceError)
        return True

    async def try_anyhow(self) -> None:
        self.line = ""


class Database(Requirement):
    """The database takes writes."""

    name, waiting_for = "database", "the database"
    errors = (StateError,)

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    async def look(self) -> None:
        full = await anyio.to_thread.run_sync(_full, os.path.dirname(self._store.path))
        if self.line and not full:
            try:  # write a few new pages, because a job's end may need them
                await self._store.ask(archives.put_fact, "room", "." * STATE_ROOM)
                await self._store.ask(archives.forget_fact, "room")
            except StateError as error:
                full = error.message
        self.line = full


def _full(folder: str) -> str:
    """Why nothing can be written there; empty when there is no visible reason. It writes nothing."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"the state folder {folder} cannot be reached: {error.strerror or error}"
    if disk.f_flag & os.ST_RDONLY:
        return f"the state folder {folder} is mounted read-only"
    free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
    if disk.f_blocks and free < STATE_ROOM:
        return f"the state folder {folder} is on a full disk: less than {STATE_ROOM >> 10} KiB are free"
    return ""


class Means(Requirement):
    """The process has descriptors and memory left."""

    name, waiting_for = "shortage", "descriptors or memory"
    errors = (ShortageError,)

    def __init__(self) -> None:
        super().__init__()
        self.ended_for_certain = False  # one asset may need more than the machine has, so others go first
        self._wait = 0.0
        self._until = 0.0
        self._reserve: ExitStack | None = None

    async def met(self, error: RefgeniedError) -> None:
        await super().met(error)
        self._give_up_the_reserve()
        now = time.monotonic()
        again = now < self._until + 2 * SHORTEST_SHORTAGE
        self._wait = min(2 * self._wait, LONGEST_SHORTAGE) if again and self._wait else SHORTEST_SHORTAGE
        self._until = now + self._wait
        self.let_others_go_first = 2 * self._wait

    async def look(self) -> None:
        if self.line and time.monotonic() < self._until:
            return
        try:
            self._reserve = self._reserve or _open(SPARE_DESCRIPTORS)
            _open(SPARE_DESCRIPTORS).close()
        except OSError as error:
            self._give_up_the_reserve()
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.line = f"the daemon cannot open more files: {error.strerror or error} (its limit is {most})"
        else:
            self.line = ""

    async def try_anyhow(self) -> None:
        self.line = ""

    def __enter__(self) -> Self:
        """From now on until `__exit__` descriptors may be kept in reserve."""
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up_the_reserve()

    def _give_up_the_reserve(self) -> None:
        if self._reserve is not None:
            self._reserve.close()
        self._reserve = None


def _open(descriptors: int) -> ExitStack:
    """Open this many descriptors, until the stack is closed. OSError: none is open."""
    with ExitStack() as files:
        for _ in range(descriptors):
            files.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return files.pop_all()
