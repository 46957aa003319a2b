"""The archive folder as a whole: is it the one we know, how much room is there, which archives are in place."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from refgenied.archive_folder import generation
from refgenied.archive_folder.generation import Generation
from refgenied.archive_folder.leftovers import PROBE
from refgenied.config import MARKER
from refgenied.files.durable import close_to_others, partial_of, save_atomically, writing
from refgenied.files.regular import SHORTAGE_ERRNOS, WRONG_FILE_ERRNOS, open_regular, read_regular, unreadable
from refgenied.model import (
    AlreadyRunningError,
    ArchiveRecord,
    AssetKey,
    ConfigError,
    NoSpaceError,
    RefgeniedError,
    ShortageError,
    WriteError,
)
from refgenied.store import Store, archives


def _id_in(marker: Path) -> str:
    return read_regular(marker, 200).decode("ascii").strip()


def _is_id(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


class ArchiveFolder:
    """Blocking; an empty `path` means that none is set."""

    def __init__(self, path: str, known_id: str | None) -> None:
        self.path = path
        self.id = known_id
        self._one_probe = threading.Lock()
        self.publishing = anyio.Lock()
        """Held from the first change of a final name to the commit of its record, and by who needs both to agree.

        Never held while something is packed or read. What is written before under partial names belongs to one
        writer: the asset's running job, or who has reserved the asset (`Jobs.reserved`, `Jobs.at_rest`).
        """
        self._failed: set[AssetKey] = set()
        """Assets whose last change did not come to its end, so that the database may not know of it."""

    @asynccontextmanager
    async def changing(self, key: AssetKey, store: Store) -> AsyncGenerator[int]:
        """Around a publish or a removal: `publishing` is held, and the folder's generation is raised.

        It gives the number for the transaction that records the change (`archives.put_generation`). NoSpaceError,
        ShortageError, WriteError: nothing has begun.
        """
        async with self.publishing:
            recorded = await store.ask(archives.generation)
            number = await anyio.to_thread.run_sync(self._raise_generation, key, recorded)
            self._failed.add(key)
            yield number
            self._failed.discard(key)

    async def settle(self, store: Store) -> None:
        """At an orderly end: nothing is half changed, and the folder says so. What cannot be written is left out."""
        if not self.path or await anyio.to_thread.run_sync(self.problem):
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

    def _raise_generation(self, key: AssetKey, recorded: int | None) -> int:
        before = generation.read(self.path) or Generation(recorded or 0)
        now = before.next(key, recorded=recorded, failed=self._failed)
        generation.write(self.path, now)
        return now.number

    def open(self) -> str | None:
        """Make the folder when it is missing, and learn or check its id. Raises ConfigError when it cannot be used."""
        if not self.path:
            return None
        marker = Path(self.path, MARKER)
        try:
            if self.id is None:
                Path(self.path).mkdir(parents=True, exist_ok=True)
                if not marker.exists() or not _id_in(marker):
                    save_atomically(marker, f"{uuid.uuid4()}\n".encode("ascii"), mode=0o640)
                self.id = _id_in(marker)
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno in SHORTAGE_ERRNOS:
                raise unreadable(marker, error) from None  # another start may do better
            raise ConfigError(
                f"the archive folder {self.path} cannot be used: {error}",
                hint="make it writable for the daemon's user (a service: `refgenied install-units` does, for "
                "the sandbox too), or set refgenie.genome_archive_folder to another",
            ) from None
        return self.id

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder for this process: two daemons with states of their own would cut each other's partials.

        AlreadyRunningError when another has it. A disk that knows no locks holds nothing, and one that is not mounted
        cannot be held: `problem` says so, and nothing is written there.
        """
        marker = self._marker()
        if marker is None:
            yield
            return
        try:
            close_to_others(marker)
            try:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunningError(
                    f"another refgenied, with another state folder, uses the archive folder {self.path}",
                    hint="stop it first; `refgenied check-config` shows which state folder this one has, and "
                    f"`fuser -v {Path(self.path, MARKER)}` who holds the lock",
                ) from None
            except OSError:
                pass
            with suppress(OSError):  # on a disk that takes nothing it stays until it does
                self._clear_probe()
            yield
        finally:
            os.close(marker)

    def _marker(self) -> int | None:
        try:
            return open_regular(Path(self.path, MARKER)) if self.path else None
        except OSError as error:
            if error.errno in SHORTAGE_ERRNOS:  # without the lock two daemons could write there
                raise unreadable(Path(self.path, MARKER), error) from error
            return None

    def problem(self) -> str:
        """Why nothing can be archived there now; empty when all is well (or none is set)."""
        if not self.path:
            return ""
        wrong = self._wrong_marker(Path(self.path, MARKER))
        if wrong:
            return wrong
        if os.access(self.path, os.W_OK | os.X_OK):
            return ""
        reason = "is mounted read-only" if self._read_only() else "is not writable for the daemon"
        return f"{self.path} {reason}"

    def _wrong_marker(self, marker: Path) -> str:
        mended = f"rm -rf {marker}; echo {self.id} > {marker}"
        try:
            found = _id_in(marker)
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
        if found != self.id and not _is_id(found):
            return (
                f"{marker} is not what refgenied wrote, as after a crash of the machine: "
                f"if this is the right folder, it is taken after: {mended}"
            )
        if found != self.id:
            return (
                f"{self.path} is another archive folder ({found}) than the database knows ({self.id}): "
                f"move the database away to read its records anew"
            )
        return ""

    def _read_only(self) -> bool:
        try:
            return bool(os.statvfs(self.path).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def probe(self) -> None:
        """Whose fault is it that something there failed? Write, sync, rename and delete a small file at the top.

        WriteError, NoSpaceError or ShortageError when that fails too: then the folder or its disk is at fault.
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
        """One that a kill has left."""
        probe = Path(self.path, PROBE)
        for left in (probe, partial_of(probe)):
            left.unlink(missing_ok=True)

    def trouble(self) -> str:
        """`problem`, or why a small file could not be written; empty when all is well."""
        try:
            self.probe()
        except (WriteError, NoSpaceError, ShortageError) as error:
            return error.message
        return ""

    def lost(self, records: Mapping[AssetKey, ArchiveRecord]) -> dict[AssetKey, str]:
        """Recorded archives whose file is not there, or has another size."""
        found: dict[AssetKey, str] = {}
        for key, record in records.items():
            path = Path(self.path, record.path)
            try:
                size = path.stat().st_size
            except OSError as error:
                if error.errno not in SHORTAGE_ERRNOS:
                    found[key] = f"{path}: {error.strerror}"
                continue
            if size != record.size:
                found[key] = f"{path} has {size} bytes instead of {record.size}"
        return found

    def free(self) -> int:
        """Bytes that this process may still write; 0 when the folder is not there."""
        try:
            room = os.statvfs(self.path)
        except OSError:
            return 0
        return room.f_bavail * room.f_frsize
