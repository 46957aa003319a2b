"""What every job needs: the archive folder, room in it, a database that takes writes, descriptors and memory.

One that is missing is a condition: nobody's fault, waited for without end, and over by itself. Each knows what is wrong
now (`line`) and finds out how it is (`look`). Looks are cheap while all is well: they come every few seconds, for ever.
"""

from __future__ import annotations

import os
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import ClassVar, Self

import anyio
import anyio.to_thread

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.files.disk import DiskThread
from refgenied.model import NoSpaceError, RefgeniedError, ShortageError, StateError, UnreadableError, WriteError
from refgenied.store import Store, archives

DISK_ANSWER_SECONDS = 20.0
"""Seconds after which a folder that does not answer is a condition, too. A sync on a busy disk takes a while."""
TRY_ANYHOW_SECONDS = 600.0
"""A quota is not seen in the free space: try again after so long."""
SMALLEST_GROWTH, LARGEST_GROWTH = 64 << 10, 16 << 20
"""More free bytes than at the failure that make another try worth it: a part of what a try may write in vain."""
STATE_ROOM = 256 << 10
"""Free bytes under which the state folder's disk counts as full: what a job's end and its events may need."""
SHORTEST_SHORTAGE, LONGEST_SHORTAGE = 5.0, 600.0
"""Seconds. A shortage that comes back at once is waited for twice as long each time."""
SPARE_DESCRIPTORS = 8
"""Fewer that can be opened are a shortage. As many are kept in reserve, so that clients can still be answered then."""


class Condition(ABC):
    """Something without which no job can go on."""

    name: ClassVar[str]
    """As the health calls it."""
    waiting_for: ClassVar[str]
    errors: ClassVar[tuple[type[RefgeniedError], ...]]
    """What a job that met it fails with."""

    def __init__(self) -> None:
        self.line = ""
        """What is wrong, and where; empty when all is well."""
        self.let_others_go_first = 0.0
        """Seconds from now for which the job that met it stays behind others, unless the end is certain."""
        self.ended_for_certain = True
        """Whether the end of it was seen, or is only worth a try."""
        self.lock = anyio.Lock()
        """One look at a time: an older one that comes back later would tell of what is past."""

    async def met(self, error: RefgeniedError) -> None:
        """A job, or whoever else, failed with this error because of it."""
        self.line = error.message

    @abstractmethod
    async def look(self) -> None:
        """Bring `line` up to date."""

    async def try_anyhow(self) -> None:
        """A person says that it is over."""
        await self.look()


class Folder(Condition):
    """The archive folder is there, is the one we know, and takes writes."""

    name, waiting_for = "archive_folder", "the archive folder"
    errors = (WriteError, UnreadableError)

    def __init__(self, folder: ArchiveFolder) -> None:
        super().__init__()
        self._folder = folder
        self._disk = DiskThread("archive folder's state")

    async def look(self) -> None:
        with suppress(ShortageError):  # nobody could look: it is as it was
            self.line = await self._answer(self._folder.trouble if self.line else self._folder.problem)

    async def probe(self) -> RefgeniedError | None:
        """What went wrong with a small file there; None when all is well."""
        problems: list[RefgeniedError] = []

        def probe() -> str:
            try:
                self._folder.probe()
            except RefgeniedError as error:
                problems.append(error)
            return ""

        try:
            silent = await self._answer(probe)
        except ShortageError as error:
            return error
        return WriteError(silent) if silent else problems[0] if problems else None

    async def _answer(self, ask: Callable[[], str]) -> str:
        """What `ask` says; a disk that does not answer (its server is away) holds nobody up for ever. ShortageError."""
        since = self._disk.busy_since
        if since is None or time.monotonic() - since < DISK_ANSWER_SECONDS:  # else nobody need wait again to know
            with anyio.move_on_after(DISK_ANSWER_SECONDS):
                return await self._disk.run(ask)
        return f"{self._folder.path} does not answer: is its disk well?"


class Room(Condition):
    """There is room in the archive folder."""

    name, waiting_for = "space", "room in the archive folder"
    errors = (NoSpaceError,)

    def __init__(self, folder: ArchiveFolder) -> None:
        super().__init__()
        self.let_others_go_first = 2 * TRY_ANYHOW_SECONDS  # when time is over without any room, smaller ones may fit
        self._folder = folder
        self._wanted = 0
        self._until = 0.0
        self._not_even_a_probe = False

    async def met(self, error: RefgeniedError) -> None:
        """Call this once what was half written is gone."""
        await super().met(error)
        free = await anyio.to_thread.run_sync(self._folder.free)
        self._wanted = free + min(max(free // 16, SMALLEST_GROWTH), LARGEST_GROWTH)
        self._not_even_a_probe = not await self._takes_a_probe()
        self._until = time.monotonic() + TRY_ANYHOW_SECONDS

    async def look(self) -> None:
        if not self.line:
            return
        grown = await anyio.to_thread.run_sync(self._folder.free) >= self._wanted
        # A quota, or a disk without inodes: its free bytes tell nothing.
        self.ended_for_certain = grown or (self._not_even_a_probe and await self._takes_a_probe())
        if self.ended_for_certain or time.monotonic() >= self._until:
            self.line = ""

    async def _takes_a_probe(self) -> bool:
        try:
            await anyio.to_thread.run_sync(self._folder.probe)
        except NoSpaceError:
            return False
        except RefgeniedError:  # something else: the folder's own condition tells of it
            return True
        return True

    async def try_anyhow(self) -> None:
        self.line = ""


class Database(Condition):
    """The database takes writes."""

    name, waiting_for = "database", "the database"
    errors = (StateError,)

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    async def look(self) -> None:
        full = await anyio.to_thread.run_sync(_full, os.path.dirname(self._store.path))
        if full or not self.line:
            self.line = full
            return
        try:
            await self._try_to_write()
        except StateError as error:
            self.line = error.message
        else:
            self.line = ""

    async def _try_to_write(self) -> None:
        """A few new pages, as a job's end may need them; StateError when there are none."""
        async with self._store.transaction() as tx:
            await archives.put_fact(tx, "room", "." * STATE_ROOM)
        async with self._store.transaction() as tx:
            await archives.forget_fact(tx, "room")


def _full(folder: str) -> str:
    """Why nothing can be written there; empty when nothing speaks against it. Nothing is written to find out."""
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


class Means(Condition):
    """The process has descriptors and memory left."""

    name, waiting_for = "shortage", "descriptors or memory"
    errors = (ShortageError,)

    def __init__(self) -> None:
        super().__init__()
        self.ended_for_certain = False  # one asset may need more than there is: others go first
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
        """Descriptors may be kept in reserve until the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up_the_reserve()

    def _give_up_the_reserve(self) -> None:
        if self._reserve is not None:
            self._reserve.close()
        self._reserve = None


def _open(descriptors: int) -> ExitStack:
    """So many of them, until it is closed. OSError: none."""
    with ExitStack() as files:
        for _ in range(descriptors):
            files.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return files.pop_all()
