"""Statements about downloads, and about the archives that there ever were to be downloaded."""

from __future__ import annotations

import json

import msgspec

from refgenied.model import AssetKey
from refgenied.store.connection import Transaction
from refgenied.store.jobs import names

_OF_ASSET = "genome_digest = ? AND asset_group = ? AND asset = ?"


class Download(msgspec.Struct, frozen=True):
    """One archive that somebody got whole."""

    id: str
    """Made by who counted it; the same one again is the same download."""
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


async def record(tx: Transaction, download: Download, *, reported_by: str) -> bool:
    """Count the download; whether it is a new one."""
    added = await tx.execute(
        "INSERT OR IGNORE INTO download (id, genome_digest, asset_group, asset, digest, at, reported_by) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (download.id, *names(download.key), download.digest, download.at, reported_by),
    )
    if added:
        await tx.execute(
            f"UPDATE archive SET download_count = download_count + 1 WHERE {_OF_ASSET}", names(download.key)
        )
    return added > 0


async def recorded(tx: Transaction, ids: list[str]) -> int:
    """How many of these ids are those of downloads."""
    row = await tx.one("SELECT COUNT(*) FROM download WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),))
    return int(row[0]) if row else 0


async def is_known(tx: Transaction, key: AssetKey) -> bool:
    """Whether there ever was an archive of this asset."""
    return await tx.one(f"SELECT 1 FROM edition WHERE {_OF_ASSET} LIMIT 1", names(key)) is not None


async def count(tx: Transaction, key: AssetKey) -> int:
    row = await tx.one(f"SELECT COUNT(*) FROM download WHERE {_OF_ASSET}", names(key))
    return int(row[0]) if row else 0


async def editions(tx: Transaction) -> list[Edition]:
    """All of them, by asset, the newest of each first."""
    rows = await tx.all(
        "SELECT genome_digest, asset_group, asset, digest, size, published_at FROM edition "
        "ORDER BY genome_digest, asset_group, asset, published_at DESC"
    )
    return [
        Edition(AssetKey(genome, group, asset), digest, size, at) for genome, group, asset, digest, size, at in rows
    ]
