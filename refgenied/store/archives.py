"""Statements about archives, removals and the few facts that the daemon remembers."""

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from refgenied.model import Access, ArchiveRecord, AssetKey, Job, Removal
from refgenied.store.downloads import EDITIONS, Edition
from refgenied.store.jobs import latest
from refgenied.store.tables import ASSET, OF_ASSET, Table, json_or, names
from refgenied.store.transaction import Transaction


@lru_cache(maxsize=1024)
def aliases_of(text: object) -> tuple[str, ...]:
    """The value of the column `aliases`. The assets of a genome follow each other and share one tuple."""
    return tuple(alias for alias in json_or(text, list[str]()) if isinstance(alias, str))


ARCHIVES = Table(
    "archive",
    ArchiveRecord,
    aliases=aliases_of,
    access=lambda access: None if access is None else _ACCESS.get(access, Access.OWNER),
)
_ACCESS = {access.value: access for access in Access}
REMOVALS = Table("removal", Removal)
_CALLED = "instr(aliases, ?)"
"""Its value is an alias as JSON: the column is a JSON list."""
_THIS_ARCHIVE = f"{OF_ASSET} AND digest = ? AND created_at = ?"


def _this(record: ArchiveRecord) -> tuple[Any, ...]:
    """The values of `_THIS_ARCHIVE`."""
    return *names(record.key), record.digest, record.created_at


async def put(tx: Transaction, record: ArchiveRecord) -> None:
    """Record a published archive, and forget a removal of it.

    The asset's downloads stay counted, even after an archive was removed.
    """
    await tx.execute(  # a disk may have changed the names in a row, which would then keep the path for ever
        f"DELETE FROM archive WHERE path = ? AND NOT ({OF_ASSET})", (record.path, *names(record.key))
    )
    changed = ", ".join(f"{name} = excluded.{name}" for name in ARCHIVES.fields if name != "download_count")
    await ARCHIVES.put(tx, record, conflict=f"ON CONFLICT ({ASSET}) DO UPDATE SET {changed}")
    await tx.execute(
        f"UPDATE archive SET download_count = MAX(download_count, (SELECT COUNT(*) FROM download WHERE {OF_ASSET})) "
        f"WHERE {OF_ASSET}",
        names(record.key) * 2,
    )
    await _put_edition(tx, record)
    await REMOVALS.forget(tx, record.key)


async def touch(tx: Transaction, record: ArchiveRecord) -> None:
    """The asset's archive is still right: record the asset's present names, stamps and access."""
    now = {"stamp": record.stamp, "files_stamp": record.files_stamp, "aliases": record.aliases, "access": record.access}
    await ARCHIVES.change(tx, OF_ASSET, names(record.key), **now)


async def put_accesses(tx: Transaction, access: Mapping[AssetKey, Access]) -> None:
    """Record who may read these assets' files."""
    for key, who in access.items():
        await ARCHIVES.change(tx, OF_ASSET, names(key), access=who)


async def put_right(tx: Transaction, old: ArchiveRecord, new: ArchiveRecord) -> bool:
    """Replace the wrong record `old` by `new`. False: `old` is no longer recorded.

    The downloads stay counted, and the time of the last proof stays.
    """
    kept = ("aliases", "download_count", "proved_at", "damaged", "stamp", "files_stamp")
    changed = {name: getattr(new, name) for name in ARCHIVES.fields if name not in kept}
    known = await ARCHIVES.change(tx, _THIS_ARCHIVE, _this(old), **changed)
    if known:
        await _put_edition(tx, new)
    return bool(known)


async def _put_edition(tx: Transaction, record: ArchiveRecord) -> None:
    edition = Edition(record.key, record.digest, record.size, record.created_at)
    await EDITIONS.put(tx, edition, insert="INSERT OR IGNORE")


async def mark_proved(tx: Transaction, record: ArchiveRecord, at: float) -> bool:
    """Record that the file was read and agrees with its manifest. False: another archive is recorded now."""
    return bool(await ARCHIVES.change(tx, _THIS_ARCHIVE, _this(record), proved_at=at, damaged=None))


async def mark_damaged(tx: Transaction, record: ArchiveRecord, what: str) -> bool:
    """Record that the file does not agree with its manifest. False: another archive is recorded now."""
    return bool(await ARCHIVES.change(tx, _THIS_ARCHIVE, _this(record), damaged=what))


async def get(tx: Transaction, key: AssetKey) -> ArchiveRecord | None:
    return await ARCHIVES.of(tx, key)


async def everything(tx: Transaction) -> dict[AssetKey, ArchiveRecord]:
    return {record.key: record for record in await ARCHIVES.all(tx, f"ORDER BY {ASSET}")}


async def forget(tx: Transaction, key: AssetKey) -> None:
    await ARCHIVES.forget(tx, key)


async def totals(tx: Transaction) -> tuple[int, int]:
    """Number of archives and their bytes."""
    row = await tx.one("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM archive")
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def put_removal(tx: Transaction, removal: Removal) -> None:
    await REMOVALS.put(tx, removal, insert="INSERT OR REPLACE")


async def removals(tx: Transaction) -> dict[AssetKey, Removal]:
    return {removal.key: removal for removal in await REMOVALS.all(tx)}


async def removal(tx: Transaction, key: AssetKey) -> Removal | None:
    return await REMOVALS.of(tx, key)


async def removals_of(tx: Transaction, asset_group: str, asset: str | None) -> list[Removal]:
    """The removals of assets with these names, of all genomes. `asset`: None for all assets of the group."""
    return await REMOVALS.all(tx, "WHERE asset_group = ? AND asset = COALESCE(?, asset)", (asset_group, asset))


async def known(tx: Transaction) -> tuple[dict[AssetKey, ArchiveRecord], dict[AssetKey, Removal]]:
    """Every archive and every removal at one moment."""
    return await everything(tx), await removals(tx)


async def known_keys(tx: Transaction) -> set[AssetKey]:
    """The assets with an archive or a removal."""
    rows = await tx.all(f"SELECT {ASSET} FROM archive UNION SELECT {ASSET} FROM removal")
    return {AssetKey(*row) for row in rows}


async def keys(tx: Transaction, begin: AssetKey, until: AssetKey | None, limit: int) -> list[AssetKey]:
    """The first assets with an archive from `begin` on and before `until`, in order."""
    which, values = _within(begin, until, limit)
    return [AssetKey(*row) for row in await tx.all(f"SELECT {ASSET} FROM archive {which}", values)]


async def within(tx: Transaction, begin: AssetKey, until: AssetKey | None, limit: int) -> list[ArchiveRecord]:
    """The first archives from `begin` on and before `until`, in order of their assets."""
    return await ARCHIVES.all(tx, *_within(begin, until, limit))


def _within(begin: AssetKey, until: AssetKey | None, limit: int) -> tuple[str, tuple[Any, ...]]:
    before = f"AND ({ASSET}) < (?, ?, ?)" if until else ""
    which = f"WHERE ({ASSET}) >= (?, ?, ?) {before} ORDER BY {ASSET} LIMIT ?"
    return which, (*names(begin), *(names(until) if until else ()), limit)


async def named(
    tx: Transaction, digests: Collection[str], alias: str, asset_group: str, asset: str | None
) -> list[tuple[AssetKey, tuple[str, ...]]]:
    """The recorded assets with these names, of genomes with one of these digests or with this recorded alias; and
    their recorded aliases. `asset`: None for all assets of the group.
    """
    rows = await tx.all(
        f"SELECT {ASSET}, aliases FROM archive WHERE asset_group = ? {'' if asset is None else 'AND asset = ?'} "
        f"AND (genome_digest IN (SELECT value FROM json_each(?)) OR {_CALLED}) ORDER BY {ASSET}",
        (asset_group, *([] if asset is None else [asset]), json.dumps([*digests]), json.dumps(alias)),
    )
    return [(AssetKey(*of), aliases_of(text)) for *of, text in rows]


async def genomes_called(tx: Transaction, alias: str) -> list[str]:
    """The digests of genomes with archives that were recorded with this alias."""
    rows = await tx.all(f"SELECT DISTINCT genome_digest FROM archive WHERE {_CALLED}", (json.dumps(alias),))
    return [str(digest) for (digest,) in rows]


async def known_of(
    tx: Transaction, keys: Collection[AssetKey]
) -> tuple[dict[AssetKey, ArchiveRecord], dict[AssetKey, Removal]]:
    """The archives and the removals of these assets at one moment."""
    return (
        {record.key: record for record in await ARCHIVES.some(tx, keys)},
        {removal.key: removal for removal in await REMOVALS.some(tx, keys)},
    )


async def history(
    tx: Transaction, keys: Collection[AssetKey]
) -> tuple[dict[AssetKey, ArchiveRecord], dict[AssetKey, Job], dict[AssetKey, Removal]]:
    """The archives, newest jobs and removals of these assets at one moment."""
    recorded, removed = await known_of(tx, keys)
    return recorded, await latest(tx, keys), removed


async def fact(tx: Transaction, name: str) -> str | None:
    """A value that is kept between starts: `first_started_at`, `paused_by`, `archive_folder_id`."""
    row = await tx.one("SELECT value FROM fact WHERE name = ?", (name,))
    return row[0] if row else None


async def put_fact(tx: Transaction, name: str, value: str) -> None:
    await tx.execute("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))


async def forget_fact(tx: Transaction, name: str) -> None:
    await tx.execute("DELETE FROM fact WHERE name = ?", (name,))


async def first_started_at(tx: Transaction, now: float) -> float:
    """When a daemon first started with this database, in Unix seconds. The first call sets it to `now`."""
    started = await fact(tx, "first_started_at")
    if started is None or float(started) > now:  # a wrong clock has set a later time: no build would count as new
        await put_fact(tx, "first_started_at", repr(now))
        return now
    return float(started)


GENERATION = "generation"
READ_FROM = "records_read_from"
"""The id of the archive folder whose manifests the database has read."""


async def generation(tx: Transaction) -> int | None:
    """The archive folder's generation at the last recorded change; None: no change yet, or only by refgenied 0.1."""
    found = await fact(tx, GENERATION)
    return int(found) if found is not None and found.isdigit() else None


async def put_generation(tx: Transaction, number: int) -> None:
    await put_fact(tx, GENERATION, str(number))
