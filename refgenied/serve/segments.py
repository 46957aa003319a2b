"""Keeps downloads on the disk until the daemon has recorded them, in files of lines. One process appends to each file.

A line is a download, or takes a download back: `{"not": id}`. A file of a process that has ended is read once, and
deleted when all its downloads are recorded. Version 0.1.0 wrote files with one download each; they are read too.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from refgenied.files.durable import NEW_FILE_FLAGS, partial_of, sync_folder, write_all
from refgenied.files.regular import open_regular, read_regular
from refgenied.model import DownloadReport

log = structlog.get_logger("serve")

SUFFIX = ".jsonl"
OLD_SUFFIX = ".json"
MOST_SEGMENT_BYTES = 1 << 20
"""When a file is longer, a new file is begun."""
MOST_READ_BYTES = 64 << 20


class SpooledDownload(DownloadReport, frozen=True, forbid_unknown_fields=False):
    """A download as `download.record` takes it. If the daemon refused one, the others in its request would wait too."""


class TakenBack(msgspec.Struct, frozen=True, rename={"id": "not"}):
    """A line that takes a download back."""

    id: str


SpoolRow = SpooledDownload | TakenBack


class Segments:
    """The files in one folder. Its methods block. Two threads must not use it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = -1
        self._path: Path | None = None
        """The file to which this process appends."""
        self.size = 0
        """Bytes in that file."""
        self.taken_back: set[str] = set()
        """Ids of lines in older files that were taken back, and so are not downloads."""
        self._passed_over: set[Path] = set()

    def open(self) -> int:
        """Make the folder. Returns how many downloads other processes have left in it. OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it cannot be written", str(self.folder))
        found: set[str] = set()
        for row in (row for path in self.left() for row in self._rows(path)):
            (found if isinstance(row, SpooledDownload) else self.taken_back).add(row.id)
        return len(found - self.taken_back)

    def append(self, rows: Iterable[SpoolRow]) -> None:
        """Append lines. They are on the disk when this returns. OSError: nothing was written."""
        data = msgspec.json.Encoder().encode_lines(rows)
        if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:  # somebody has deleted it
            self._begin()
        try:
            write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            self.begin_another()  # the content is not known now; the file is read later, like one of another process
            raise
        self.size += len(data)

    def begin_another(self) -> None:
        """Leave the file as it is, to be read later, and begin a new one."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path, self.size = -1, None, 0

    def clear(self) -> None:
        """Empty the file, because the daemon has recorded all its downloads."""
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
                self.size = 0

    def close(self) -> None:
        if self._path is not None and self.size == 0:
            self._path.unlink(missing_ok=True)
        self.begin_another()

    def left(self) -> list[Path]:
        """Files that no process appends to any more, the oldest first."""
        names = sorted(os.listdir(self.folder))
        ours = (name for name in names if name.endswith((SUFFIX, OLD_SUFFIX)) and not name.startswith("."))
        paths = map(self.folder.joinpath, ours)
        return [path for path in paths if path != self._path and path not in self._passed_over and _is_free(path)]

    def read(self, path: Path) -> list[SpooledDownload]:
        """The downloads in such a file, except those that were taken back."""
        rows = list(self._rows(path))
        self.taken_back.update(row.id for row in rows if isinstance(row, TakenBack))
        return [row for row in rows if isinstance(row, SpooledDownload) and row.id not in self.taken_back]

    def remove(self, path: Path) -> None:
        """Delete a file whose downloads are recorded. A file with unreadable lines is kept under another name."""
        with suppress(FileNotFoundError):
            if all(map(_row, self._lines(path))):
                path.unlink()
            else:
                aside = path.with_suffix(".damaged")
                path.rename(aside)
                log.warning("serve.download_damaged", path=str(aside))

    # ----------------------------------------------------------------- inside

    def _begin(self) -> None:
        self.begin_another()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{time.time_ns():020}-{os.getpid()}{SUFFIX}"
        hidden = partial_of(path)
        fd = os.open(hidden, NEW_FILE_FLAGS | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # first lock, then name it: others read files without lock
            hidden.rename(path)
            sync_folder(self.folder)
        except OSError:
            os.close(fd)
            for name in (hidden, path):
                name.unlink(missing_ok=True)
            raise
        self._fd, self._path = fd, path

    def _lines(self, path: Path) -> list[bytes]:
        """The lines of a file, without the last line if a crash has cut it."""
        try:
            data = read_regular(path, MOST_READ_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:  # it is a FIFO, or a file of another user
            self._passed_over.add(path)
            log.warning("serve.download_unreadable", path=str(path), reason=error.strerror or str(error))
            return []
        if path.suffix == OLD_SUFFIX:
            return [data]
        *lines, cut = data.split(b"\n")
        return [*lines, cut] if _row(cut) else lines

    def _rows(self, path: Path) -> Iterator[SpoolRow]:
        return filter(None, map(_row, self._lines(path)))


def _row(line: bytes) -> SpoolRow | None:
    """The content of a line; None: a crash of the machine, or a person, has garbled it."""
    for kind in (SpooledDownload, TakenBack):
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return msgspec.json.decode(line, type=kind)
    return None


def is_reportable(download: SpooledDownload) -> bool:
    """Whether the daemon can read it. It cannot, if a name is too long or has half a surrogate (not valid UTF-8)."""
    try:
        return _row(msgspec.json.encode(download)) == download
    except ValueError:
        return False


def _is_free(path: Path) -> bool:
    """Whether no process has locked the file."""
    if path.suffix == OLD_SUFFIX:
        return True
    try:
        fd = open_regular(path)
    except OSError:
        return True  # the attempt to read it will show what is wrong
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
