"""What is done about a database file that is damaged, or that somebody deletes while it is open. Blocking.

Records and removals are in the manifests too; counted downloads are nowhere else. So a damaged file is kept, and what
can still be read of the downloads goes into the new one.
"""

from __future__ import annotations

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
"""What SQLite keeps beside a database while it is open."""
_SUSPECT = ".suspect"
"""A file with this ending says that the last run met damage: the next start reads the whole database."""
_RESCUED = ".rescued"
TABLES = {"download": 7, "edition": 6, "fact": 2, "log_line": 2, "log_pull": 2, "log_start": 4}
"""What only the database knows, and the numbers of columns."""
_KEPT_FACTS = ("first_started_at", "paused_by")
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is not a sound database (and not that a disk is full, or a file locked)."""
    number = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and isinstance(number, int) and number & 0xFF in _DAMAGED


def suspect(path: Path) -> None:
    """Have the next start read all of it."""
    with suppress(OSError):
        path.with_name(path.name + _SUSPECT).touch()


def is_suspect(path: Path) -> bool:
    return path.with_name(path.name + _SUSPECT).exists()


def clear(path: Path) -> None:
    with suppress(OSError):
        path.with_name(path.name + _SUSPECT).unlink(missing_ok=True)


def put_aside(path: Path) -> Path:
    """Give a damaged database and its logs another name, which is returned. StateError."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 0
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}.{number}")
    try:
        for log in _LOGS:
            with suppress(FileNotFoundError):
                path.with_name(path.name + log).rename(aside.with_name(aside.name + log))
        path.rename(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(
            f"{path} is damaged and cannot be moved away: {error.strerror or error}",
            hint="move it away and start again: the records are read anew from the manifests in the archive folder",
        ) from None
    return aside


def salvage(new: Path, damaged: Path) -> int:
    """Bring the counted downloads, and a user's pause, over into a new database as far as they can be read.

    How many downloads came over. What cannot be read is passed over.
    """
    saved = 0
    with closing(sqlite3.connect(new)) as to, suppress(sqlite3.Error, OSError):
        with closing(sqlite3.connect(damaged)) as old:  # not read-only: its log may have to be read first
            old.execute("PRAGMA writable_schema = ON")  # else SQLite reads nothing of a file that was cut
            for table, columns in TABLES.items():
                for row in _rows(old, table, columns):
                    if table == "fact" and row[0] not in _KEPT_FACTS:
                        continue
                    came = _insert(to, table, row)
                    saved += came if table == "download" else 0
        to.commit()
    return saved


def _rows(old: sqlite3.Connection, table: str, columns: int) -> Iterator[tuple[Any, ...]]:
    """Up to the damage from the beginning, then up to it from the end."""
    for order in ("ASC", "DESC"):
        try:
            for row in old.execute(f"SELECT * FROM {table} ORDER BY 1 {order}"):
                if len(row) == columns:
                    yield row
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        return


def _insert(to: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> int:
    """The number of rows that came into the table; 0 for one that does not fit."""
    try:
        return to.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row).rowcount
    except sqlite3.Error:
        return 0


# ----------------------------------------------------------------- deleted or replaced while it is open


def identity(path: Path) -> tuple[int, int] | None:
    """None when nothing is there. OSError when that cannot be known."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_dev, info.st_ino


def set_free(path: Path) -> None:
    """Another program has written over the open database (`cp backup …`): give what it wrote a file of its own.

    When this process closes the old one, SQLite writes its log into that.
    """
    copy = partial_of(path)
    with suppress(OSError):
        shutil.copy2(path, copy)
        copy.rename(path)
        sync_folder(path.parent)
        drop_own_log(path)


def drop_own_log(path: Path) -> None:
    """Of a database that was replaced while this process has it open: at the next start SQLite would write its log,
    which has kept its name, into the other file.
    """
    with suppress(OSError):
        log = identity(path.with_name(path.name + _LOGS[0]))
        if log is not None and log in map(_identity_of_open, os.listdir("/proc/self/fd")):
            drop_logs(path)


def _identity_of_open(number: str) -> tuple[int, int] | None:
    try:
        info = os.fstat(int(number))
    except OSError:
        return None
    return info.st_dev, info.st_ino


def drop_logs(path: Path) -> None:
    """Of a database that is gone."""
    for log in _LOGS:
        with suppress(OSError):
            path.with_name(path.name + log).unlink(missing_ok=True)


def rescued_of(path: Path) -> Path:
    """Where an open database is written once more when its name is gone."""
    return path.with_name(path.name + _RESCUED)


def bring_back(path: Path) -> bool:
    """Give a rescued database its name again, when no other one is there. Whether there was one. StateError."""
    rescued = rescued_of(path)
    try:
        if not rescued.exists():
            return False
        if path.exists():  # somebody has put another one there: that is what he wants
            rescued.unlink()
            return False
        drop_logs(path)
        rescued.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"{rescued} cannot be given its name {path.name} again: {error.strerror or error}") from None
    return True
