"""One transaction on one connection."""

import sqlite3
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from refgenied.model import StateError
from refgenied.store import rescue

Row = Sequence[Any]


class Transaction:
    """Statements inside one transaction. The transaction ends with its `async with`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, values: Iterable[Any] = ()) -> int:
        """Run one statement. Returns the number of rows that it changed."""
        cursor = await self._connection.execute(sql, tuple(values))
        changed = cursor.rowcount
        await cursor.close()
        return changed

    async def insert(self, sql: str, values: Iterable[Any] = ()) -> int:
        """Run one INSERT. Returns the new row's id."""
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

    async def number(self, sql: str, values: Iterable[Any] = ()) -> int:
        """The only value of the only row; 0 when there is none."""
        row = await self.one(sql, values)
        return int(row[0]) if row and row[0] is not None else 0


@asynccontextmanager
async def transaction(connection: aiosqlite.Connection, path: Path) -> AsyncGenerator[Transaction]:
    """As `Store.transaction`, without its lock and shield."""
    try:
        await connection.execute("BEGIN IMMEDIATE")
        yield Transaction(connection)
        await connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:  # on a full disk SQLite may have rolled back already
            await connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.IntegrityError | sqlite3.ProgrammingError
        ):
            damaged = rescue.is_damage(error)
            hint = "it is made anew at the next start" if damaged else "is the state folder's disk full?"
            raise StateError(f"{path}: {error}", hint=hint) from error
        raise
