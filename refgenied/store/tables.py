"""Turns rows into structs and structs into rows, for all tables."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from refgenied.model import AssetKey
from refgenied.store.transaction import Transaction

T = TypeVar("T", bound=msgspec.Struct)

OF_ASSET = "genome_digest = ? AND asset_group = ? AND asset = ?"
ASSET = "genome_digest, asset_group, asset"
ONE_OF = (
    f"({ASSET}) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') "
    "FROM json_each(?))"
)
"""Its value is `these(keys)`. The index of the assets is searched once for each key."""


def names(key: AssetKey | None) -> tuple[str | None, str | None, str | None]:
    """The values of `ASSET`."""
    return (key.genome_digest, key.asset_group, key.asset) if key else (None, None, None)


def these(keys: Iterable[AssetKey]) -> str:
    """The value of `ONE_OF`."""
    return json.dumps([names(key) for key in keys])


def json_or(text: object, otherwise: Any) -> Any:
    """The value of a JSON text; `otherwise` if the text is not JSON any more, or has another type.

    A disk may have changed a bit in the text. SQLite notices this only if it breaks a page.
    """
    try:
        value = json.loads(str(text))
    except (ValueError, RecursionError):
        return otherwise
    return value if otherwise is None or isinstance(value, type(otherwise)) else otherwise


class Table(Generic[T]):
    """A table with rows that are read as structs. Its columns are the fields, and `ASSET` is the field `key`."""

    def __init__(self, name: str, struct: type[T], **read: Callable[[Any], Any]) -> None:
        """`read` makes the values of some fields from their columns.

        If refgenied cannot have written a column's value, `read` gives a harmless value.
        """
        self.name = name
        self._struct = struct
        self.fields = tuple(field for field in struct.__struct_fields__ if field != "key")
        self._read = [(self.fields.index(field), how) for field, how in read.items()]
        self._key_at = struct.__struct_fields__.index("key")

    async def all(self, tx: Transaction, which: str = "", values: Iterable[Any] = ()) -> list[T]:
        """`which` is the SQL after `FROM table`."""
        rows = await tx.all(f"SELECT {ASSET}, {', '.join(self.fields)} FROM {self.name} {which}", values)
        return [self._row(*row) for row in rows]

    async def one(self, tx: Transaction, which: str, values: Iterable[Any] = ()) -> T | None:
        found = await self.all(tx, which, values)
        return found[0] if found else None

    async def of(self, tx: Transaction, key: AssetKey) -> T | None:
        """The one row of this asset."""
        return await self.one(tx, f"WHERE {OF_ASSET}", names(key))

    async def some(self, tx: Transaction, keys: Iterable[AssetKey]) -> list[T]:
        """The rows of these assets."""
        return await self.all(tx, f"WHERE {ONE_OF}", (these(keys),))

    async def put(self, tx: Transaction, struct: T, *, insert: str = "INSERT", conflict: str = "", **more: Any) -> int:
        """Insert a row, with `more` columns. A tuple becomes JSON. Returns how many rows were changed."""
        values = {field: _stored(getattr(struct, field)) for field in self.fields} | more
        columns, marks = ", ".join(values), ", ".join("?" for _ in values)
        return await tx.execute(
            f"{insert} INTO {self.name} ({ASSET}, {columns}) VALUES (?, ?, ?, {marks}) {conflict}",
            (*names(getattr(struct, "key")), *values.values()),  # noqa: B009 - not every Struct has one
        )

    async def change(self, tx: Transaction, which: str, values: Iterable[Any], **columns: Any) -> int:
        """Give these columns new values in the rows `which`. Returns the number of these rows."""
        settings = ", ".join(f"{name} = ?" for name in columns)
        new = map(_stored, columns.values())
        return await tx.execute(f"UPDATE {self.name} SET {settings} WHERE {which}", (*new, *values))

    async def forget(self, tx: Transaction, key: AssetKey) -> None:
        """Delete the rows of this asset."""
        await tx.execute(f"DELETE FROM {self.name} WHERE {OF_ASSET}", names(key))

    def _row(self, genome: str | None, group: str, asset: str, *plain: Any) -> T:
        fields = [*plain]
        for at, read in self._read:
            fields[at] = read(fields[at])
        fields.insert(self._key_at, AssetKey(genome, group, asset) if genome else None)
        return self._struct(*fields)


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, tuple) else value
