"""The archive folder as a whole: whether it is the one we know, its room, its lock, and which archives are lost."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from refgenied.archive.place import Place
from refgenied.archive_folder import generation
from refgenied.archive_folder.generation import Generation
from refgenied.archive_folder.leftovers import PROBE
from refgenied.config.roles import MARKER
from refgenied.files.durable import close_to_others, partial_of, save_atomically, writing
from refgenied.files.regular import WRONG_FILE_ERRNOS, is_shortage, open_regular, read_regular, unreadable
from refgenied.model import AlreadyRunningError, ArchiveRecord, AssetKey, ConfigError, RefgeniedError, WriteError
from refgenied.store import Store, archives


class ArchiveFolder:
    """Its functions that are not async block. An empty `path` means that no archive folder is set."""

    def __init__(self, path: str, known_id: str | None) -> None:
        self.path = path
        self.marker = Path(path, MARKER)
        """The file with the folder's id."""
        self.id = known_id
        self._one_probe = threading.Lock()
        self.publishing = anyio.Lock()
        """Held from the first change of a final name to the commit of its record, and by code that compares the two.

        Nobody holds it during packing or reading. Partial files have one writer: the asset's running job, or the
        request that has reserved the asset (`Jobs.reserved`, `Jobs.at_rest`).
        """
        self._failed: set[AssetKey] = set()
        """Assets whose last change was not finished. The database may not know of this change."""

    @classmethod
    async def opened(cls, path: str, store: Store) -> ArchiveFolder:
        """The folder at this path. The database keeps its id; a new id is stored there. ConfigError."""
        fact = f"archive_folder_id:{path}"
        folder = cls(path, await store.ask(archives.fact, fact))
        known = folder.id
        found = await anyio.to_thread.run_sync(folder.open)
        if found and found != known:
            await store.ask(archives.put_fact, fact, found)
        return folder

    @asynccontextmanager
    async def changing(self, key: AssetKey, store: Store) -> AsyncGenerator[int]:
        """A context for a publish or a removal. It holds `publishing`, and raises the folder's generation first.

        Gives the number for the transaction that records the change (`archives.put_generation`). NoSpaceError,
        ShortageError, WriteError: nothing has been changed.
        """
        async with self.changing_some(lambda: [key], store) as (number, done):
            yield number
            done(key)

    @asynccontextmanager
    async def changing_some(
        self, take: Callable[[], Sequence[AssetKey]], store: Store
    ) -> AsyncGenerator[tuple[int, Callable[[AssetKey], None]]]:
        """As `changing`, for several assets with one number: those that `take` gives once the lock is held.

        Also gives a function that the caller calls for each asset whose change is finished and recorded: any of them
        may fail without the others.
        """
        async with self.publishing:
            keys = take()
            recorded = await store.ask(archives.generation)
            number = await anyio.to_thread.run_sync(self._raise_generation, keys, recorded)
            self._failed.update(keys)
            yield number, self._failed.discard

    async def settle(self, store: Store) -> None:
        """At an orderly end: note in the folder that no change was interrupted. If it takes no writes, do nothing."""
        if not await self.usable():
            return
        async with self.publishing:
            recorded = await store.ask(archives.generation)
        with suppress(RefgeniedError):
            await anyio.to_thread.run_sync(self._settle, recorded)

    def _settle(self, recorded: int | None) -> None:
        now = generation.read(self.path)
        if now is not None and now.number == recorded and now.unsettled:
            left = tuple(key for key in now.unsettled if key in self._failed)
            generation.write(self.path, Generation(now.number, left))

    def _raise_generation(self, keys: Sequence[AssetKey], recorded: int | None) -> int:
        before = generation.read(self.path) or Generation(recorded or 0)
        now = before.next(*keys, recorded=recorded, failed=self._failed)
        generation.write(self.path, now)
        return now.number

    def open(self) -> str | None:
        """Make the folder when it is missing, and learn its id. ConfigError when the folder cannot be used."""
        if not self.path:
            return None
        try:
            if self.id is None:
                os.makedirs(self.path, exist_ok=True)
                if not self.marker.exists() or not self._id_there():
                    save_atomically(self.marker, f"{uuid.uuid4()}\n".encode("ascii"), mode=0o640)
                self.id = self._id_there()
        except (OSError, UnicodeDecodeError) as error:
            if is_shortage(error):
                raise unreadable(self.marker, error) from None  # the next start may succeed
            raise ConfigError(
                f"the archive folder {self.path} cannot be used: {error}",
                hint="make it writable for the daemon's user (a service: `refgenied install-units` does, for "
                "the sandbox too), or set refgenie.genome_archive_folder to another",
            ) from None
        return self.id

    def _id_there(self) -> str:
        return read_regular(self.marker, 200).decode("ascii").strip()

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder for this process: two daemons with two databases would delete each other's partial files.

        AlreadyRunningError: another daemon holds it. No lock is taken on a disk that has no locks. No lock is taken
        when the folder's disk is not mounted: `problem` says so, and nothing is written there.
        """
        try:
            marker = open_regular(self.marker) if self.path else None
        except OSError as error:
            if is_shortage(error):  # without the lock two daemons could write there
                raise unreadable(self.marker, error) from error
            marker = None
        if marker is None:
            yield
            return
        try:
            self._lock(marker)
            with suppress(OSError):  # a disk that takes no writes now keeps the old probe file
                self._clear_probe()
            yield
        finally:
            os.close(marker)

    def _lock(self, marker: int) -> None:
        close_to_others(marker)
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(
                f"another refgenied, with another state folder, uses the archive folder {self.path}",
                hint="stop it first; `refgenied check-config` shows which state folder this one has, and "
                f"`fuser -v {self.marker}` who holds the lock",
            ) from None
        except OSError:
            pass

    def place(self, key: AssetKey) -> Place:
        """Where the asset's archive is, or would be. BadRegistryPathError."""
        return Place(self.path, key)

    async def usable(self) -> bool:
        """Whether an archive folder is set and can be written now."""
        return bool(self.path) and not await anyio.to_thread.run_sync(self.problem)

    def problem(self) -> str:
        """Why nothing can be archived now; empty when all is well, or when no archive folder is set."""
        if not self.path:
            return ""
        wrong = self._wrong_marker()
        if wrong or os.access(self.path, os.W_OK | os.X_OK):
            return wrong
        disk = self._disk()
        read_only = disk is not None and disk.f_flag & os.ST_RDONLY
        return f"{self.path} {'is mounted read-only' if read_only else 'is not writable for the daemon'}"

    def _wrong_marker(self) -> str:
        marker = self.marker
        try:
            found = self._id_there()
        except FileNotFoundError:
            return (
                f"{self.path} is not the archive folder that the database knows: {MARKER} is not in it "
                f"(disk not mounted? a new, empty folder is taken after: echo {self.id} > {marker})"
            )
        except UnicodeDecodeError:
            found = ""
        except OSError as error:
            if error.errno not in WRONG_FILE_ERRNOS:
                return f"{marker} cannot be read: {error.strerror or error}"
            found = ""
        if found == self.id:
            return ""
        if not _is_id(found):
            return (
                f"{marker} is not what refgenied wrote, as after a crash of the machine: "
                f"if this is the right folder, it is taken after: rm -rf {marker}; echo {self.id} > {marker}"
            )
        return (
            f"{self.path} is another archive folder ({found}) than the database knows ({self.id}): "
            f"move the database away to read its records anew"
        )

    def _disk(self) -> os.statvfs_result | None:
        try:
            return os.statvfs(self.path)
        except OSError:
            return None

    def probe(self) -> None:
        """After a job failed: write, sync, rename and delete a small file at the top of the folder.

        WriteError, NoSpaceError or ShortageError: this fails too, so the folder or its disk is at fault, not the asset.
        """
        if not self.path:
            return
        problem = self.problem()
        if problem:
            raise WriteError(problem)
        probe = Path(self.path, PROBE)
        with self._one_probe, writing(probe):
            self._clear_probe()
            save_atomically(probe, b"Written to see whether this disk takes writes; it can be deleted.\n")
            probe.unlink()

    def _clear_probe(self) -> None:
        """Delete the probe file that a killed process has left."""
        probe = Path(self.path, PROBE)
        for left in (probe, partial_of(probe)):
            left.unlink(missing_ok=True)

    def lost(self, records: Mapping[AssetKey, ArchiveRecord]) -> dict[AssetKey, str]:
        """Recorded archives whose file is missing or has another size, and what is wrong with each."""
        found: dict[AssetKey, str] = {}
        for key, record in records.items():
            path = Path(self.path, record.path)
            try:
                size = path.stat().st_size
            except OSError as error:
                if not is_shortage(error):
                    found[key] = f"{path}: {error.strerror}"
                continue
            if size != record.size:
                found[key] = f"{path} has {size} bytes instead of {record.size}"
        return found

    def free(self) -> int:
        """Bytes that this process may still write; 0 when there is no folder."""
        disk = self._disk()
        return disk.f_bavail * disk.f_frsize if disk else 0


def _is_id(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False
