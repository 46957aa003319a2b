"""Many archived assets without building them, and what it costs the database and the disk to answer about them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from parts import Parts

from refgenied.model import ArchiveRecord, Asset, AssetKey, AssetState, Genome, Look
from refgenied.store import Transaction, archives
from refgenied.store import jobs as rows

OF_A_GENOME = 5


def keys_of(number: int) -> list[AssetKey]:
    """The keys of the first assets: five of each genome, in order."""
    return [AssetKey(f"{n // OF_A_GENOME:040}", f"group{n % OF_A_GENOME}", "default") for n in range(number)]


def alias_of(key: AssetKey) -> str:
    return f"genome{int(key.genome_digest)}"


def look_of(keys: Iterable[AssetKey]) -> Look:
    assets = {
        key: Asset(key, AssetState.COMPLETE, "built", "/f", (alias_of(key),), stamp="s", files_stamp="f")
        for key in keys
    }
    genomes = {key.genome_digest: Genome(key.genome_digest, (alias_of(key),)) for key in assets}
    return Look(assets, genomes, (), "refgenie 0.13", (1, 1), ())


def record_of(parts: Parts, key: AssetKey) -> ArchiveRecord:
    """Its record, and a file of the right size."""
    path = f"{key.genome_digest}/{key.asset_group}__{key.asset}.tgz"
    file = Path(parts.archive_folder.path, path)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x" * 10)
    fields = {"key": key, "aliases": (alias_of(key),), "path": path, "size": 10, "digest": "d", "asset_digest": "a"}
    fields |= {"content_digest": "c", "files": 1, "source_size": 1, "stamp": "s", "files_stamp": "f", "created_at": 1.0}
    return msgspec.convert(fields, ArchiveRecord)


async def filled(parts: Parts, keys: Iterable[AssetKey]) -> None:
    """All these assets are in the last look, archived, and each has a job that has ended."""
    records = [record_of(parts, key) for key in keys]

    async def put(tx: Transaction) -> None:
        for record in records:
            await archives.put(tx, record)
            job = await rows.add(tx, record.key, rows.Need("s", 20), requested_by="x", now=1.0)
            await tx.execute("UPDATE job SET state = 'succeeded', ended_at = ? WHERE id = ?", (float(job), job))

    await parts.store.ask(put)
    see(parts, look_of(record.key for record in records))


def see(parts: Parts, look: Look) -> None:
    """This is the last look."""
    parts.reconciler.last.look = look
    parts.reconciler.last.at = 1.0


class Cost:
    steps = 0
    """Steps of the database's machine: each is a fraction of a microsecond, and reading a row takes some of them."""
    files = 0
    """Archives that were asked about on the disk."""


@asynccontextmanager
async def cost(parts: Parts) -> AsyncGenerator[Cost]:
    """What the answers in this context cost."""
    spent = Cost()
    ask = parts.archive_folder.lost

    def step() -> int:
        spent.steps += 1
        return 0

    def lost(records: Mapping[AssetKey, ArchiveRecord]) -> dict[AssetKey, str]:
        spent.files += len(records)
        return ask(records)

    async def count(tx: Transaction, *, on: bool) -> None:
        tx._connection.set_progress_handler(step if on else None, 1)

    parts.archive_folder.lost = lost
    await parts.store.ask(count, on=True)
    try:
        yield spent
    finally:
        await parts.store.ask(count, on=False)
        parts.archive_folder.lost = ask
