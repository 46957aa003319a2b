"""Statements about archives, removals and the few facts the daemon remembers."""

from __future__ import annotations

import json

import msgspec

from refgenied.model import Access, ArchiveRecord, AssetKey, Job, Removal
from refgenied.store.connection import Row, Transaction
from refgenied.store.jobs import latest, names, newest_of
from refgenied.store.values import json_or

_PLAIN = tuple(name for name in ArchiveRecord.__struct_fields__ if name not in ("key", "aliases"))
_COLUMNS = ", ".join(("genome_digest", "asset_group", "asset", "aliases", *_PLAIN))
_OF_ASSET = "genome_digest = ? AND asset_group = ? AND asset = ?"


def _record(row: Row) -> ArchiveRecord:
    """A value that nothing of ours has written is read as one that does no harm: verify puts it right."""
    genome, group, asset, aliases, *plain = row
    fields = dict(zip(_PLAIN, plain, strict=True))
    if fields["access"] not in (None, *Access):
        fields["access"] = Access.OWNER  # nothing private is shown by mistake
    known = tuple(alias for alias in json_or(aliases, list[str]()) if isinstance(alias, str))
    return msgspec.convert({"key": AssetKey(genome, group, asset), "aliases": known, **fields}, ArchiveRecord)


async def put(tx: Transaction, record: ArchiveRecord) -> None:
    """Record a published archive. The asset's downloads stay counted, also those of an archive that was removed;
    a removal of it is over.
    """
    await tx.execute(  # a row whose names have changed on the disk would hold the path for ever
        f"DELETE FROM archive WHERE path = ? AND NOT ({_OF_ASSET})", (record.path, *names(record.key))
    )
    values = (*names(record.key), json.dumps(record.aliases), *(getattr(record, name) for name in _PLAIN))
    updates = ", ".join(f"{name} = excluded.{name}" for name in ("aliases", *_PLAIN) if name != "download_count")
    await tx.execute(
        f"INSERT INTO archive ({_COLUMNS}) VALUES ({', '.join('?' for _ in values)}) "
        f"ON CONFLICT (genome_digest, asset_group, asset) DO UPDATE SET {updates}",
        values,
    )
    await tx.execute(
        f"UPDATE archive SET download_count = MAX(download_count, (SELECT COUNT(*) FROM download WHERE {_OF_ASSET})) "
        f"WHERE {_OF_ASSET}",
        names(record.key) * 2,
    )
    await _put_edition(tx, record)
    await tx.execute(f"DELETE FROM removal WHERE {_OF_ASSET}", names(record.key))


async def touch(tx: Transaction, record: ArchiveRecord) -> None:
    """The asset was looked at again, and its archive is still right: what it is called and stamped now."""
    await tx.execute(
        f"UPDATE archive SET stamp = ?, files_stamp = ?, aliases = ?, access = ? WHERE {_OF_ASSET}",
        (record.stamp, record.files_stamp, json.dumps(record.aliases), record.access, *names(record.key)),
    )


async def put_access(tx: Transaction, key: AssetKey, access: Access) -> None:
    """Who may read the asset's files, learned later than its archive."""
    await tx.execute(f"UPDATE archive SET access = ? WHERE {_OF_ASSET}", (access, *names(key)))


async def put_right(tx: Transaction, old: ArchiveRecord, new: ArchiveRecord) -> bool:
    """What was recorded is not what is there: `new` takes the place of `old`. False when that is not recorded any more.

    The downloads stay counted, and what was known of its proof is kept.
    """
    kept = ("download_count", "proved_at", "damaged", "stamp", "files_stamp")
    changed = [name for name in _PLAIN if name not in kept]
    known = await tx.execute(
        f"UPDATE archive SET {', '.join(f'{name} = ?' for name in changed)} "
        f"WHERE {_OF_ASSET} AND digest = ? AND created_at = ?",
        (*(getattr(new, name) for name in changed), *names(new.key), old.digest, old.created_at),
    )
    if known:
        await _put_edition(tx, new)
    return bool(known)


async def _put_edition(tx: Transaction, record: ArchiveRecord) -> None:
    await tx.execute(
        "INSERT OR IGNORE INTO edition (genome_digest, asset_group, asset, digest, size, published_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (*names(record.key), record.digest, record.size, record.created_at),
    )


async def mark_proved(tx: Transaction, record: ArchiveRecord, at: float) -> bool:
    """The file was read back and is what its manifest says. False when that archive is no longer the recorded one."""
    return bool(
        await tx.execute(
            f"UPDATE archive SET proved_at = ?, damaged = NULL WHERE {_OF_ASSET} AND digest = ? AND created_at = ?",
            (at, *names(record.key), record.digest, record.created_at),
        )
    )


async def mark_damaged(tx: Transaction, record: ArchiveRecord, what: str) -> bool:
    """The file is not what its manifest says. False when that archive is no longer the recorded one."""
    return bool(
        await tx.execute(
            f"UPDATE archive SET damaged = ? WHERE {_OF_ASSET} AND digest = ? AND created_at = ?",
            (what, *names(record.key), record.digest, record.created_at),
        )
    )


async def get(tx: Transaction, key: AssetKey) -> ArchiveRecord | None:
    row = await tx.one(f"SELECT {_COLUMNS} FROM archive WHERE {_OF_ASSET}", names(key))
    return _record(row) if row else None


async def everything(tx: Transaction) -> dict[AssetKey, ArchiveRecord]:
    rows = await tx.all(f"SELECT {_COLUMNS} FROM archive ORDER BY genome_digest, asset_group, asset")
    return {record.key: record for record in map(_record, rows)}


async def forget(tx: Transaction, key: AssetKey) -> None:
    await tx.execute(f"DELETE FROM archive WHERE {_OF_ASSET}", names(key))


async def totals(tx: Transaction) -> tuple[int, int]:
    """Number of archives and their bytes."""
    row = await tx.one("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM archive")
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def put_removal(tx: Transaction, removal: Removal) -> None:
    await tx.execute(
        "INSERT OR REPLACE INTO removal (genome_digest, asset_group, asset, stamp, removed_at, removed_by) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (*names(removal.key), removal.stamp, removal.removed_at, removal.removed_by),
    )


async def removals(tx: Transaction) -> dict[AssetKey, Removal]:
    rows = await tx.all("SELECT genome_digest, asset_group, asset, stamp, removed_at, removed_by FROM removal")
    return {
        removal.key: removal
        for removal in (Removal(AssetKey(g, a, t), stamp, at, by) for g, a, t, stamp, at, by in rows)
    }


async def known(tx: Transaction) -> tuple[dict[AssetKey, ArchiveRecord], dict[AssetKey, Removal]]:
    """Every archive and every removal, as they are at one moment."""
    return await everything(tx), await removals(tx)


async def history(
    tx: Transaction, key: AssetKey | None = None
) -> tuple[dict[AssetKey, ArchiveRecord], dict[AssetKey, Job], dict[AssetKey, Removal]]:
    """The archives and the newest jobs of all assets, or of one, and all removals, as they are at one moment."""
    if key is None:
        return await everything(tx), await latest(tx), await removals(tx)
    record = await get(tx, key)
    return {key: record} if record else {}, await newest_of(tx, key), await removals(tx)


async def fact(tx: Transaction, name: str) -> str | None:
    """Something remembered between starts: `first_started_at`, `paused_by`, `archive_folder_id`."""
    row = await tx.one("SELECT value FROM fact WHERE name = ?", (name,))
    return row[0] if row else None


async def put_fact(tx: Transaction, name: str, value: str) -> None:
    await tx.execute("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))


async def forget_fact(tx: Transaction, name: str) -> None:
    await tx.execute("DELETE FROM fact WHERE name = ?", (name,))


async def first_started_at(tx: Transaction, now: float) -> float:
    """When a daemon first started with this database, Unix seconds: `now` at the first time that this is asked."""
    started = await fact(tx, "first_started_at")
    if started is None or float(started) > now:  # a later time was set by a wrong clock: nothing would ever be new
        await put_fact(tx, "first_started_at", repr(now))
        return now
    return float(started)


GENERATION = "generation"
READ_FROM = "records_read_from"
"""The id of the archive folder whose manifests the database has read."""


async def generation(tx: Transaction) -> int | None:
    """The archive folder's generation as of the last recorded change; None: nothing was, or by refgenied 0.1."""
    found = await fact(tx, GENERATION)
    return int(found) if found is not None and found.isdigit() else None


async def put_generation(tx: Transaction, number: int) -> None:
    await put_fact(tx, GENERATION, str(number))
