"""One transaction on one connection."""

import sqlite3
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from refgenied.model import StateError
from refgenied.store import rescue

T = TypeVar("T")
Row = Sequence[Any]


class Transaction:
    """Statements inside one transaction.

    It is used in the connection's thread, and no statement waits: a function with many statements runs there as a
    whole, see `run_through`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, values: Iterable[Any] = ()) -> int:
        """Run one statement. Returns the number of rows that it changed."""
        return await self._run(_changed, sql, values)

    async def insert(self, sql: str, values: Iterable[Any] = ()) -> int:
        """Run one INSERT. Returns the new row's id."""
        row = await self._run(_inserted, sql, values)
        if row is None:
            raise StateError("the database gave no row id")
        return row

    async def all(self, sql: str, values: Iterable[Any] = ()) -> list[Row]:
        return await self._run(_rows, sql, values)

    async def one(self, sql: str, values: Iterable[Any] = ()) -> Row | None:
        rows = await self.all(sql, values)
        return rows[0] if rows else None

    async def number(self, sql: str, values: Iterable[Any] = ()) -> int:
        """The only value of the only row; 0 when there is none."""
        row = await self.one(sql, values)
        return int(row[0]) if row and row[0] is not None else 0

    async def _run(
        self, statement: Callable[[sqlite3.Connection, str, tuple[Any, ...]], T], sql: str, values: Iterable[Any]
    ) -> T:
        return statement(self._connection, sql, tuple(values))


def _changed(connection: sqlite3.Connection, sql: str, values: tuple[Any, ...]) -> int:
    return connection.execute(sql, values).rowcount


def _inserted(connection: sqlite3.Connection, sql: str, values: tuple[Any, ...]) -> int | None:
    return connection.execute(sql, values).lastrowid


def _rows(connection: sqlite3.Connection, sql: str, values: tuple[Any, ...]) -> list[Row]:
    return connection.execute(sql, values).fetchall()


def run_through(body: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing but a transaction that never waits."""
    try:
        body.send(None)
    except StopIteration as done:
        return done.value
    body.close()
    raise RuntimeError("a function of a transaction waited for something else")


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Generator[Transaction]:
    """As `Store.ask`, in the connection's thread: all statements in this context are done, or none."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield Transaction(connection)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:  # on a full disk SQLite may have rolled back already
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.IntegrityError | sqlite3.ProgrammingError
        ):
            damaged = rescue.is_damage(error)
            hint = "it is made anew at the next start" if damaged else "is the state folder's disk full?"
            raise StateError(f"{path}: {error}", hint=hint) from error
        raise
