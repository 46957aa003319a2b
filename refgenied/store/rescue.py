"""Handles a database file that is damaged, or that somebody deletes while it is open. Blocking.

Records and removals are in the manifests too, but counted downloads are only here. So a damaged file is kept, and the
downloads that can still be read go into the new file.
"""

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refgenied.files.durable import partial_of, sync_folder
from refgenied.model import StateError

_LOGS = ("-wal", "-shm")
"""SQLite keeps files with these endings beside a database while it is open."""
_SUSPECT = ".suspect"
"""A file with this ending means that damage was found. Then the next start checks the whole database."""
_RESCUED = ".rescued"
TABLES = {"download": 7, "edition": 6, "fact": 2, "log_line": 2, "log_pull": 2, "log_start": 4}
"""The tables with facts that only the database has, and their numbers of columns."""
_KEPT_FACTS = ("first_started_at", "paused_by")
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that the file is not a sound database. A full disk or a locked file is another error."""
    number = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and isinstance(number, int) and number & 0xFF in _DAMAGED


def suspect(path: Path) -> None:
    """Tell the next start to check the whole database."""
    with suppress(OSError):
        _beside(path, _SUSPECT).touch()


def is_suspect(path: Path) -> bool:
    return _beside(path, _SUSPECT).exists()


def clear(path: Path) -> None:
    with suppress(OSError):
        _beside(path, _SUSPECT).unlink(missing_ok=True)


def put_aside(path: Path) -> Path:
    """Give a damaged database and its logs another name. Returns the new path. StateError."""
    name = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (path.with_name(f"{name}.{number}" if number else name) for number in itertools.count())
    aside = next(free for free in names if not os.path.lexists(free))
    try:
        for log in _LOGS:
            with suppress(FileNotFoundError):
                _beside(path, log).rename(_beside(aside, log))
        path.rename(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(
            f"{path} is damaged and cannot be moved away: {error.strerror or error}",
            hint="move it away and start again: the records are read anew from the manifests in the archive folder",
        ) from None
    return aside


def salvage(new: Path, damaged: Path) -> int:
    """Copy the counted downloads and a user's pause into a new database, as far as they can be read.

    Returns the number of downloads.
    """
    saved = 0
    with closing(sqlite3.connect(new)) as to, suppress(sqlite3.Error, OSError):
        with closing(sqlite3.connect(damaged)) as old:  # not read-only, because SQLite may have to read its log first
            old.execute("PRAGMA writable_schema = ON")  # without this SQLite reads nothing from a file that was cut
            for table, columns in TABLES.items():
                for row in _rows(old, table, columns):
                    if table != "fact" or row[0] in _KEPT_FACTS:
                        inserted = _insert(to, table, row)
                        saved += inserted if table == "download" else 0
        to.commit()
    return saved


def _rows(old: sqlite3.Connection, table: str, columns: int) -> Iterator[tuple[Any, ...]]:
    """The rows before the damage, and then, if there is damage, the rows after it."""
    for order in ("ASC", "DESC"):
        try:
            for row in old.execute(f"SELECT * FROM {table} ORDER BY 1 {order}"):
                if len(row) == columns:
                    yield row
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        return


def _insert(to: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> int:
    """Insert a row. Returns the number of inserted rows; 0: the row does not fit."""
    try:
        return to.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row).rowcount
    except sqlite3.Error:
        return 0


# ----------------------------------------------------------------- deleted or replaced while it is open


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None when there is no file. OSError: the system does not say."""
    try:
        return _device_and_inode(os.stat(path))
    except FileNotFoundError:
        return None


def _device_and_inode(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def set_free(path: Path) -> None:
    """Another program has written over the open database (`cp backup …`): copy its data to a new file.

    Otherwise SQLite would write its log into these data when this process closes the database.
    """
    copy = partial_of(path)
    with suppress(OSError):
        shutil.copy2(path, copy)
        copy.rename(path)
        sync_folder(path.parent)
        drop_own_log(path)


def drop_own_log(path: Path) -> None:
    """Delete the log of an open database that was replaced. The next start would write it into the other file."""
    with suppress(OSError):
        log = identity(_beside(path, _LOGS[0]))
        if log is not None and any(log == _identity_of_open(number) for number in os.listdir("/proc/self/fd")):
            drop_logs(path)


def _identity_of_open(number: str) -> tuple[int, int] | None:
    try:
        return _device_and_inode(os.fstat(int(number)))
    except OSError:  # the descriptor was closed meanwhile
        return None


def drop_logs(path: Path) -> None:
    """Delete the logs of a database that is gone."""
    for log in _LOGS:
        with suppress(OSError):
            _beside(path, log).unlink(missing_ok=True)


def rescued_of(path: Path) -> Path:
    """The path for a copy of the open database after its file was deleted."""
    return _beside(path, _RESCUED)


def bring_back(path: Path) -> None:
    """Give a rescued database its name again. If a new file has the name, delete the rescued copy. StateError."""
    rescued = rescued_of(path)
    try:
        if not rescued.exists():
            return
        if path.exists():
            rescued.unlink()
            return
        drop_logs(path)
        rescued.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"{rescued} cannot be given its name {path.name} again: {error.strerror or error}") from None
