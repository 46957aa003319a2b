"""The one connection and the one way to a transaction.

aiosqlite's traps, each measured: an unclosed connection keeps the process from ever exiting; a cancelled
statement still runs; and what task B commits includes what task A has half done. Hence one lock around each
transaction, a shield inside it, and one place that owns the connection. SQLite before 3.51.3 can corrupt a WAL
database that two connections write, so there is one for everything.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from refgenied.config import DATABASE
from refgenied.files.durable import close_to_others, partial_of
from refgenied.model import StateError
from refgenied.store import rescue
from refgenied.store.network import refuse_network_disk
from refgenied.store.schema import APPLICATION_ID, MIGRATIONS

CHECKPOINT_ROWS = 1000
"""Rows that change until SQLite's log is brought into the file."""

Row = Sequence[Any]
P = ParamSpec("P")
T = TypeVar("T")


class Transaction:
    """Statements inside one transaction. It is over when the `async with` that gave it ends."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, values: Iterable[Any] = ()) -> int:
        """Run one statement; the number of rows it changed."""
        cursor = await self._connection.execute(sql, tuple(values))
        changed = cursor.rowcount
        await cursor.close()
        return changed

    async def insert(self, sql: str, values: Iterable[Any] = ()) -> int:
        """Run one INSERT; the new row's id."""
        cursor = await self._connection.execute(sql, tuple(values))
        row = cursor.lastrowid
        await cursor.close()
        if row is None:
            raise StateError("the database gave no row id")
        return row

    async def all(self, sql: str, values: Iterable[Any] = ()) -> list[Row]:
        return list(await self._connection.execute_fetchall(sql, tuple(values)))

    async def one(self, sql: str, values: Iterable[Any] = ()) -> Row | None:
        rows = await self.all(sql, values)
        return rows[0] if rows else None


def _text(value: bytes) -> str:
    """A byte that a disk has changed costs one letter, and not the whole answer."""
    return value.decode("utf-8", "replace")


class Store:
    """An open database: `async with Store.opened(folder) as store`."""

    def __init__(self, connection: aiosqlite.Connection, path: Path, *, fresh: bool) -> None:
        self._connection = connection
        self._lock = anyio.Lock()
        self.path = path
        self.fresh = fresh
        """Whether this start made the database."""
        self.trouble = ""
        """What was wrong with the file at this start, and what became of it; empty when nothing was."""
        self._damaged = False
        self._identity = rescue.identity(path)
        self._written: rescue.State | None = None
        """As this process has left the file, which SQLite writes in `_checkpoint` alone."""
        self._changes = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncGenerator[Store]:
        """Open (or make) the database in `folder`; close it for sure at the end.

        A damaged file is kept under another name, and a new one takes its place. Raises StateError when the folder
        lies on a network disk, or the file is not ours, cannot be opened, or was written by a newer refgenied.
        """
        refuse_network_disk(folder)
        path = folder / DATABASE
        rescue.bring_back(path)
        trouble = ""
        try:
            connection, fresh = await _open(path)
        except _DamagedError as error:
            aside = await anyio.to_thread.run_sync(rescue.put_aside, path)
            connection, _ = await _open(path)
            await connection.close()  # one connection at a time
            saved = await anyio.to_thread.run_sync(rescue.salvage, path, aside)
            connection, fresh = (await _open(path))[0], True
            trouble = (
                f"the database was damaged ({error.message}) and is kept as {aside}: records are read anew from the "
                f"manifests, {saved} counted downloads could be saved"
            )
        rescue.clear(path)
        store = cls(connection, path, fresh=fresh)
        store.trouble = trouble
        try:
            await store._checkpoint()
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                store.lost()  # while its files are open: no log of ours stays beside another file
                await connection.close()
                rescue.bring_back(path)

    async def look(self) -> str:
        """`lost`, between two transactions: while SQLite writes into the file, it looks as if another program did."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self.lost)

    def lost(self) -> str:
        """Why the open database is not the file of that name any more, or not a sound one; empty when all is well.

        Blocking, and only while no transaction is open. What is written to it then is seen by nobody after the next
        start.
        """
        if self._damaged:
            return f"the database {self.path} is damaged"
        try:
            there = rescue.identity(self.path)
        except OSError:
            return ""
        if there is None:
            return f"the database {self.path} was deleted"
        if there != self._identity:
            rescue.drop_own_log(self.path)
            return f"the database {self.path} was replaced by another file"
        if self._written is None or self._written == rescue.state(self.path):
            return ""
        rescue.set_free(self.path)
        return f"the database {self.path} was overwritten by another program"

    async def rescue(self) -> None:
        """Write a database that was deleted once more; it gets its name again when this one is closed. StateError."""
        rescued = rescue.rescued_of(self.path)
        async with self._lock:
            with anyio.CancelScope(shield=True):
                if rescue.identity(self.path) is not None or self._damaged:
                    return
                try:
                    rescued.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                    rescued.unlink(missing_ok=True)
                    await self._connection.execute("VACUUM INTO ?", (str(rescued),))
                except (sqlite3.Error, OSError) as error:
                    with suppress(OSError):
                        rescued.unlink(missing_ok=True)
                    raise StateError(f"{rescued}: {error}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """All of the body, or nothing. A cancellation is felt before the body or after it, never inside.

        StateError when SQLite cannot do it, such as when the state folder's disk is full. sqlite3.IntegrityError,
        which tells of the statement and not of the disk, stays what it is.
        """
        async with self._lock:
            with anyio.CancelScope(shield=True):
                try:
                    await self._connection.execute("BEGIN IMMEDIATE")
                    yield Transaction(self._connection)
                    await self._connection.execute("COMMIT")
                except BaseException as error:
                    if self._connection.in_transaction:  # a full disk may have made SQLite roll back already
                        await self._connection.execute("ROLLBACK")
                    if isinstance(error, sqlite3.OperationalError | sqlite3.DatabaseError) and not isinstance(
                        error, sqlite3.IntegrityError | sqlite3.ProgrammingError
                    ):
                        self._note_damage(error)
                        hint = (
                            "it is made anew at the next start" if self._damaged else "is the state folder's disk full?"
                        )
                        raise StateError(f"{self.path}: {error}", hint=hint) from error
                    raise
                if self._connection.total_changes - self._changes >= CHECKPOINT_ROWS:
                    await self._checkpoint()

    async def ask(
        self, statement: Callable[Concatenate[Transaction, P], Awaitable[T]], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What one statement function of this package answers, in a transaction of its own. StateError."""
        async with self.transaction() as tx:
            return await statement(tx, *arguments, **named)

    async def _checkpoint(self) -> None:
        """Bring SQLite's log into the file; not when another program has written that: it would become a mixture."""
        self._changes = self._connection.total_changes
        with suppress(sqlite3.Error):  # a full disk, say; the log goes on to grow, and nothing is lost
            if self._written is None or self._written == rescue.state(self.path):
                await self._connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
                self._written = rescue.state(self.path)

    def _note_damage(self, error: sqlite3.Error) -> None:
        if rescue.is_damage(error):
            self._damaged = True
            rescue.suspect(self.path)


class _DamagedError(StateError):
    """The file is not a sound database."""


async def _open(path: Path) -> tuple[aiosqlite.Connection, bool]:
    """A connection to a sound database of ours, and whether it is new. StateError, _DamagedError."""
    try:
        _keep_from_others(path)
        connection = await aiosqlite.connect(path, isolation_level=None)
        connection.text_factory = _text
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StateError(f"{path}: {reason}", hint="look at the rights of the state folder") from None
    try:
        fresh = await _prepare(connection, path)
        await _check(connection, path)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await connection.close()
        if rescue.is_damage(error):
            raise _DamagedError(str(error)) from None
        if isinstance(error, sqlite3.Error):
            raise StateError(
                f"{path}: {error}",
                hint="stop the daemon, move the file away and start again: the records are read anew from the "
                "manifests in the archive folder (download counts apart)",
            ) from None
        raise
    return connection, fresh


def _keep_from_others(path: Path) -> None:
    """Who may read the file may lock it, and its log takes its rights: SQLite would wait for them for ever. OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
    try:
        close_to_others(file)
    finally:
        os.close(file)


async def _check(connection: aiosqlite.Connection, path: Path) -> None:
    """Read the whole file once (0.2 s for 10,000 archives and 200,000 downloads). _DamagedError."""
    how = "integrity_check" if rescue.is_suspect(path) else "quick_check"
    found = [str(row[0]) for row in await connection.execute_fetchall(f"PRAGMA {how}(1)")]
    if found != ["ok"]:
        raise _DamagedError(" ".join(found[0].split()))


async def _prepare(connection: aiosqlite.Connection, path: Path) -> bool:
    """Set the pragmas and bring the schema up to date; whether the database is new."""
    store = Store(connection, path, fresh=False)

    async def pragma(name: str) -> int:
        rows = list(await connection.execute_fetchall(f"PRAGMA {name}"))
        return int(rows[0][0])

    version, application = await pragma("user_version"), await pragma("application_id")
    if version == 0 and application == 0 and await pragma("schema_version") != 0:
        raise StateError(f"{path} is a database of something else", hint="set another state.folder")
    if version and application != APPLICATION_ID:
        raise StateError(f"{path} is a database of something else", hint="set another state.folder")
    if version > len(MIGRATIONS):
        raise StateError(
            f"{path} was written by a newer refgenied (schema {version}, this one knows {len(MIGRATIONS)})",
            hint=f"install that version again, or put {older_of(path, len(MIGRATIONS)).name} in its place if it is "
            "there (docs/upgrading.md), or move the file away: the records are read anew from the manifests",
        )
    pragmas = ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = FULL", "foreign_keys = ON")
    for statement in (*pragmas, "busy_timeout = 5000"):
        await connection.execute_fetchall(f"PRAGMA {statement}")
    if 0 < version < len(MIGRATIONS):
        await _keep_older(connection, path, version)
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        async with store.transaction() as tx:
            for statement in statements:
                await tx.execute(statement)
            await tx.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            await tx.execute(f"PRAGMA user_version = {number}")
    return version == 0


def older_of(path: Path, version: int) -> Path:
    """What the database is kept as before its schema is raised from `version`: the way back to an older refgenied."""
    return path.with_name(f"{path.name}.schema-{version}")


async def _keep_older(connection: aiosqlite.Connection, path: Path, version: int) -> None:
    kept = older_of(path, version)
    partial = partial_of(kept)
    try:
        partial.unlink(missing_ok=True)
        await connection.execute("VACUUM INTO ?", (str(partial),))
        shutil.copymode(path, partial)
        partial.rename(kept)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StateError(
            f"{path} cannot be copied to {kept}, which is done before a newer refgenied changes it: {error}",
            hint="make room in the state folder, and start again: nothing was changed",
        ) from None
