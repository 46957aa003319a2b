"""Statements about downloads, and about all archives that could ever be downloaded."""

import json

import msgspec

from refgenied.model import AssetKey
from refgenied.store.tables import ASSET, OF_ASSET, Table, names
from refgenied.store.transaction import Transaction


class Download(msgspec.Struct, frozen=True):
    """One archive that a client received completely."""

    id: str
    """Made by the program that counted it. The same id again is the same download."""
    key: AssetKey
    digest: str
    """md5 of the archive; "" when it is not known."""
    at: float
    """Unix seconds."""


class Edition(msgspec.Struct, frozen=True):
    """An archive that is, or once was, under an asset's name."""

    key: AssetKey
    digest: str
    size: int
    published_at: float
    """Unix seconds."""


DOWNLOADS = Table("download", Download)
EDITIONS = Table("edition", Edition)


async def record(tx: Transaction, download: Download, *, reported_by: str) -> bool:
    """Count the download. Returns whether it is new."""
    added = await DOWNLOADS.put(tx, download, insert="INSERT OR IGNORE", reported_by=reported_by)
    if added:
        await tx.execute(
            f"UPDATE archive SET download_count = download_count + 1 WHERE {OF_ASSET}", names(download.key)
        )
    return added > 0


async def recorded(tx: Transaction, ids: list[str]) -> int:
    """How many of these ids belong to recorded downloads."""
    which = "WHERE id IN (SELECT value FROM json_each(?))"
    return await tx.number(f"SELECT COUNT(*) FROM download {which}", (json.dumps(ids),))


async def is_known(tx: Transaction, key: AssetKey) -> bool:
    """Whether this asset ever had an archive."""
    return await tx.one(f"SELECT 1 FROM edition WHERE {OF_ASSET} LIMIT 1", names(key)) is not None


async def count(tx: Transaction, key: AssetKey) -> int:
    return await tx.number(f"SELECT COUNT(*) FROM download WHERE {OF_ASSET}", names(key))


async def editions(tx: Transaction, after: AssetKey | None, limit: int) -> list[Edition]:
    """All editions of the first `limit` assets after this one, in the order of assets; the newest of each first."""
    low = names(after or AssetKey("", "", ""))
    assets = f"SELECT DISTINCT {ASSET} FROM edition WHERE ({ASSET}) > (?, ?, ?) ORDER BY {ASSET} LIMIT ?"
    which = f"WHERE ({ASSET}) IN ({assets}) ORDER BY {ASSET}, published_at DESC"
    return await EDITIONS.all(tx, which, (*low, limit))
