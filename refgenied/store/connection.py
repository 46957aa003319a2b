"""The one connection, its thread, and the one way to a transaction.

Three things were measured: a process must not wait for a thread with a connection that was not closed; a cancelled
statement still runs; and a commit by one task includes the unfinished changes of another. So there is a lock around
each transaction, a shield inside it, and one place that owns the connection. SQLite before 3.51.3 can damage a WAL
database that two connections write, so one connection is used for everything.

`Store.ask` runs a whole function in the connection's thread, with all its statements, its commit and its sync: one
visit to that thread takes longer than ten statements. Everything that runs often goes this way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from refgenied.config.roles import DATABASE
from refgenied.files.regular import identity
from refgenied.model import StateError
from refgenied.store import opening, rescue
from refgenied.store.state_folder import refuse_network_disk
from refgenied.store.thread import DatabaseThread
from refgenied.store.transaction import Transaction, run_through, transaction

CHECKPOINT_ROWS = 1000
"""After this many changed rows SQLite's log is written into the file."""

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """An open database: `async with Store.opened(folder) as store`."""

    def __init__(self, connection: sqlite3.Connection, thread: DatabaseThread, path: Path, trouble: str = "") -> None:
        self._connection = connection
        self._thread = thread
        self._lock = anyio.Lock()
        self.path = path
        self.trouble = trouble
        """What was wrong with the file at this start, and where it is now; empty when nothing was wrong."""
        self._damaged = False
        self._identity = rescue.identity(path)
        self._written: tuple[int, ...] = ()
        """The file's identity after SQLite has written it, which happens only in `_checkpoint`; empty before."""
        self._changes = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncGenerator[Store]:
        """Open (or make) the database in `folder`, and close it at the end in any case.

        A damaged file is kept under another name, and a new one takes its place. StateError when the folder is on a
        network disk, or the file is not ours, cannot be opened, or was written by a newer refgenied.
        """
        refuse_network_disk(folder)
        path = folder / DATABASE
        rescue.bring_back(path)
        thread = DatabaseThread()
        try:
            connection, trouble = await thread.run(partial(_open, path))
            rescue.clear(path)
            store = cls(connection, thread, path, trouble)
            try:
                await thread.run(store._checkpoint)
                yield store
            finally:
                with anyio.CancelScope(shield=True):
                    store.lost()  # before the files are closed, so our log does not stay beside another file
                    await thread.run(connection.close)
                    rescue.bring_back(path)
        finally:
            thread.end()

    # ----------------------------------------------------------------- statements

    async def ask(
        self,
        statement: Callable[Concatenate[Transaction, P], Coroutine[Any, Any, T]],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """Call a function of a transaction; all its statements are done, or none. It waits for the transaction alone.

        A cancellation takes effect before or after, never inside. StateError: SQLite fails, for example on a full disk.
        A sqlite3.IntegrityError is raised as it is, because the statement is at fault.
        """

        def visit() -> T:
            with self._whole() as tx:
                return run_through(statement(tx, *arguments, **named))

        async with self._lock:
            return await self._thread.run(visit)

    @contextmanager
    def _whole(self) -> Generator[Transaction]:
        """One transaction, in the connection's thread."""
        try:
            with transaction(self._connection, self.path) as tx:
                yield tx
        except StateError as error:
            if error.__cause__ is not None and rescue.is_damage(error.__cause__):
                self._damaged = True
                rescue.suspect(self.path)
            raise
        if self._connection.total_changes - self._changes >= CHECKPOINT_ROWS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Write SQLite's log into the file, but not if another program has written the file: data would be mixed."""
        self._changes = self._connection.total_changes
        with suppress(sqlite3.Error):  # for example a full disk: the log grows, and nothing is lost
            if not self._overwritten:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._written = identity(self.path)

    # ----------------------------------------------------------------- the file

    @property
    def _overwritten(self) -> bool:
        return bool(self._written) and self._written != identity(self.path)

    async def look(self) -> str:
        """Call `lost` between two transactions. During a transaction our own writes look like another program's."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self.lost)

    def lost(self) -> str:
        """Why the open database is no longer the file with its name, or is damaged; empty when all is well.

        Blocking; call it only while no transaction is open. Later writes to a lost database are gone at the next start.
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
        if not self._overwritten:
            return ""
        rescue.set_free(self.path)
        return f"the database {self.path} was overwritten by another program"

    async def rescue(self) -> None:
        """Save a database that was deleted. The copy gets its name when this database is closed. StateError."""
        async with self._lock:
            with anyio.CancelScope(shield=True):
                if rescue.identity(self.path) is None and not self._damaged:
                    rescued = rescue.rescued_of(self.path)
                    try:
                        os.makedirs(rescued.parent, mode=0o750, exist_ok=True)
                        await self._thread.run(partial(opening.copy, self._connection, rescued, 0o640))
                    except (sqlite3.Error, OSError) as error:
                        raise StateError(f"{rescued}: {error}") from error


def _open(path: Path) -> tuple[sqlite3.Connection, str]:
    """The open database, and what was wrong with its file. StateError."""
    try:
        return opening.connect(path), ""
    except opening.DamagedError as error:
        aside = rescue.put_aside(path)
        opening.connect(path).close()  # only one connection may be open
        saved = rescue.salvage(path, aside)
        return opening.connect(path), (
            f"the database was damaged ({error.message}) and is kept as {aside}: records are read anew from the "
            f"manifests, {saved} counted downloads could be saved"
        )
