"""Downloads on disk until the daemon has recorded them: files of lines, which one process appends to.

A line is a download, or takes one back: `{"not": id}`. A file that a process has left is read once, and deleted when
all of it is recorded. Files of one download each, as version 0.1.0 wrote them, are taken too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from refgenied.files.durable import NEW_FILE_FLAGS, partial_of, sync_folder, write_all
from refgenied.files.regular import open_regular, read_regular

log = structlog.get_logger("serve")

Download = dict[str, Any]

FIELDS = ("id", "genome_digest", "asset_group", "asset", "digest", "at")
LONGEST_NAME = 256
SUFFIX = ".jsonl"
OLD_SUFFIX = ".json"
MOST_BYTES = 1 << 20
"""Of a file; then another is begun."""
MOST_READ = 64 << 20


class Segments:
    """Blocking; not for two threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = -1
        self._path = folder / "none"
        self.size = 0
        """Bytes of the file that is appended to."""
        self.taken_back: set[str] = set()
        """Ids of downloads in files that are left, which are none."""
        self._passed_over: set[Path] = set()

    def open(self) -> int:
        """Make the folder; how many downloads others have left in it. OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it cannot be written", str(self.folder))
        found: set[str] = set()
        for path in self.left():
            for row in self._rows(path):
                (self.taken_back if "not" in row else found).add(str(row.get("not") or row["id"]))
        return len(found - self.taken_back)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """They are on the disk when this returns. OSError: nothing was written."""
        data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:  # somebody has deleted it
            self._begin()
        try:
            write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            self._let_go()  # what is in it now is not known; it is read like one that another process left
            raise
        self.size += len(data)

    def begin_another(self) -> None:
        """What is in the file so far is left to be read."""
        self._let_go()

    def clear(self) -> None:
        """Nothing in the file is wanted any more."""
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
                self.size = 0

    def close(self) -> None:
        if self._fd >= 0 and self.size == 0:
            self._path.unlink(missing_ok=True)
        self._let_go()

    def left(self) -> list[Path]:
        """Files that nobody appends to any more, the oldest first."""
        names = sorted(os.listdir(self.folder))
        ours = (name for name in names if name.endswith((SUFFIX, OLD_SUFFIX)) and not name.startswith("."))
        paths = map(self.folder.joinpath, ours)
        return [path for path in paths if path != self._current and path not in self._passed_over and _is_free(path)]

    def read(self, path: Path) -> list[Download]:
        """The downloads in such a file that were not taken back. Nothing that is in it holds up the others."""
        rows = list(self._rows(path))
        self.taken_back.update(str(row["not"]) for row in rows if "not" in row)
        return [row for row in rows if "not" not in row and row["id"] not in self.taken_back]

    def remove(self, path: Path) -> None:
        """All of it is recorded."""
        with suppress(FileNotFoundError):
            if self._is_garbled(path):
                aside = path.with_suffix(".damaged")
                path.rename(aside)
                log.warning("serve.download_damaged", path=str(aside))
            else:
                path.unlink()

    # ----------------------------------------------------------------- inside

    @property
    def _current(self) -> Path | None:
        return self._path if self._fd >= 0 else None

    def _begin(self) -> None:
        self._let_go()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{time.time_ns():020}-{os.getpid()}{SUFFIX}"
        hidden = partial_of(path)
        fd = os.open(hidden, NEW_FILE_FLAGS | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before it is seen, or another might take it for left
            hidden.rename(path)
            sync_folder(self.folder)
        except OSError:
            os.close(fd)
            for name in (hidden, path):
                name.unlink(missing_ok=True)
            raise
        self._fd, self._path, self.size = fd, path, 0

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.size = -1, 0

    def _lines(self, path: Path) -> list[bytes]:
        """Without the end of one that a crash has cut."""
        try:
            data = read_regular(path, MOST_READ)
        except FileNotFoundError:
            return []
        except OSError as error:  # a FIFO, a file of somebody else
            self._passed_over.add(path)
            log.warning("serve.download_unreadable", path=str(path), reason=error.strerror or str(error))
            return []
        if path.suffix == OLD_SUFFIX:
            return [data]
        *lines, cut = data.split(b"\n")
        return [*lines, cut] if _row(cut) else lines

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        return filter(None, map(_row, self._lines(path)))

    def _is_garbled(self, path: Path) -> bool:
        return not all(map(_row, self._lines(path)))


def _row(line: bytes) -> dict[str, Any] | None:
    """None for what a crash of the machine, or somebody, has garbled."""
    try:
        found = json.loads(line)
        if "not" in found:
            return {"not": str(found["not"])}
        row = {field: found[field] for field in FIELDS}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return row if is_reportable(row) else None


def is_reportable(row: Download) -> bool:
    """Whether the daemon takes it (`download.record`): one that it refuses would hold up those reported with it."""
    names = ((field, 1, LONGEST_NAME) for field in ("genome_digest", "asset_group", "asset"))
    texts = (("id", 8, 64), ("digest", 0, 64), *names)
    return (
        all(_is_text(row[field]) and least <= len(row[field]) <= most for field, least, most in texts)
        and isinstance(row["at"], int | float)
        and 0 <= row["at"] < float("inf")
    )


def _is_text(value: object) -> bool:
    """No half surrogates: JSON can say them, and the daemon's reader refuses them."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_free(path: Path) -> bool:
    """Whether no process holds it."""
    if path.suffix == OLD_SUFFIX:
        return True
    try:
        fd = open_regular(path)
    except OSError:
        return True  # whoever reads it says what is wrong
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
