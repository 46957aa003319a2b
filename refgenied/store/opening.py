"""Opens a connection to our database, checks that it is sound, and brings it to the newest schema. Blocking."""

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from refgenied.files.durable import close_to_others, partial_of
from refgenied.files.regular import descriptor
from refgenied.model import StateError
from refgenied.store import rescue
from refgenied.store.schema import APPLICATION_ID, MIGRATIONS
from refgenied.store.transaction import transaction

PRAGMAS = ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = FULL", "foreign_keys = ON")
LOCK_MILLISECONDS = 5000
"""SQLite waits at most this long for another program that has locked the file."""


_STATEMENTS = 512
"""Statements that SQLite keeps compiled: more than this package has."""


class DamagedError(StateError):
    """The file is not a sound database."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the database; make it if there is none. Only the calling thread may use it. StateError, DamagedError."""
    try:
        _keep_from_others(path)
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
        connection.text_factory = _text
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StateError(f"{path}: {reason}", hint="look at the rights of the state folder") from None
    try:
        _prepare(connection, path)
        _check(connection, path)
    except BaseException as error:
        connection.close()
        for reason in (error, error.__cause__):  # the cause matters if the schema could not be raised
            if reason is not None and rescue.is_damage(reason):
                raise DamagedError(str(reason)) from None
        if isinstance(error, sqlite3.Error):
            raise StateError(
                f"{path}: {error}",
                hint="stop the daemon, move the file away and start again: the records are read anew from the "
                "manifests in the archive folder (download counts apart)",
            ) from None
        raise
    return connection


def _text(value: bytes) -> str:
    """The text. A byte that a disk has changed spoils only one letter, not the whole answer."""
    return value.decode("utf-8", "replace")


def _keep_from_others(path: Path) -> None:
    """Let only the owner and the group open the file. Others could lock it, and SQLite would wait for ever.

    OSError.
    """
    with descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)) as file:
        close_to_others(file)


def _pragma(connection: sqlite3.Connection, name: str) -> str:
    """The pragma's first value; empty when it has none (for example after it was set)."""
    rows = connection.execute(f"PRAGMA {name}").fetchall()
    return str(rows[0][0]) if rows else ""


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole file once (0.2 s for 10,000 archives and 200,000 downloads). DamagedError."""
    how = "integrity_check" if rescue.is_suspect(path) else "quick_check"
    found = _pragma(connection, f"{how}(1)")
    if found != "ok":
        raise DamagedError(" ".join(found.split()))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the pragmas and raise the schema to the newest version."""
    version = int(_pragma(connection, "user_version"))
    application = int(_pragma(connection, "application_id"))
    is_new = version == application == 0 and _pragma(connection, "schema_version") == "0"
    if not is_new and application != APPLICATION_ID:
        raise StateError(f"{path} is a database of something else", hint="set another state.folder")
    if version > len(MIGRATIONS):
        raise StateError(
            f"{path} was written by a newer refgenied (schema {version}, this one knows {len(MIGRATIONS)})",
            hint=f"install that version again, or put {older_of(path, len(MIGRATIONS)).name} in its place if it is "
            "there (docs/upgrading.md), or move the file away: the records are read anew from the manifests",
        )
    for setting in (*PRAGMAS, f"busy_timeout = {LOCK_MILLISECONDS}"):
        _pragma(connection, setting)
    if 0 < version < len(MIGRATIONS):
        _keep_older(connection, path, version)
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with transaction(connection, path):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")


def older_of(path: Path, version: int) -> Path:
    """The copy that is made before the schema is raised from `version`, for a return to an older refgenied."""
    return path.with_name(f"{path.name}.schema-{version}")


def copy(connection: sqlite3.Connection, to: Path, mode: int) -> None:
    """Write a copy of the open database, with these permission bits. sqlite3.Error, OSError."""
    partial = partial_of(to)
    try:
        partial.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", (str(partial),))
        partial.chmod(mode)
        partial.rename(to)
    except (sqlite3.Error, OSError):
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _keep_older(connection: sqlite3.Connection, path: Path, version: int) -> None:
    kept = older_of(path, version)
    try:
        copy(connection, kept, stat.S_IMODE(os.stat(path).st_mode))
    except (sqlite3.Error, OSError) as error:
        raise StateError(
            f"{path} cannot be copied to {kept}, which is done before a newer refgenied changes it: {error}",
            hint="make room in the state folder, and start again: nothing was changed",
        ) from error
