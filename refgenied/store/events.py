"""Statements about the event log."""

from __future__ import annotations

import json
from typing import Any

from refgenied.model import AssetKey, Event
from refgenied.store.connection import Row, Transaction
from refgenied.store.jobs import names
from refgenied.store.values import json_or

KEPT = 10_000
"""Older events are forgotten; who comes back after that is told `lagged` and reads the state anew."""


async def add(
    tx: Transaction, kind: str, *, at: float, key: AssetKey | None = None, job: int | None = None, **data: Any
) -> Event:
    """Log one event in the transaction of the change that it tells of."""
    genome, group, asset = names(key) if key else (None, None, None)
    seq = await tx.insert(
        "INSERT INTO event (at, kind, genome_digest, asset_group, asset, job, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, kind, genome, group, asset, job, json.dumps(data)),
    )
    if seq % 100 == 0:
        await tx.execute("DELETE FROM event WHERE seq <= ?", (seq - KEPT,))
    return Event(seq=seq, at=at, kind=kind, key=key, job=job, data=data)


def _event(row: Row) -> Event:
    seq, at, kind, genome, group, asset, job, data = row
    key = AssetKey(genome, group, asset) if genome else None
    return Event(seq=seq, at=at, kind=kind, key=key, job=job, data=json_or(data, dict[str, Any]()))


async def since(tx: Transaction, seq: int, limit: int = 1000) -> list[Event]:
    """Events after `seq`, oldest first."""
    rows = await tx.all(
        "SELECT seq, at, kind, genome_digest, asset_group, asset, job, data FROM event WHERE seq > ? "
        "ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    return [_event(row) for row in rows]


async def before(tx: Transaction, at: float) -> int | None:
    """The `seq` before the first event of that moment or later; None when there is none. `at` in Unix seconds."""
    row = await tx.one("SELECT MIN(seq) - 1 FROM event WHERE at >= ?", (at,))
    return row[0] if row else None


async def span(tx: Transaction) -> tuple[int, int]:
    """The oldest and the newest `seq` in the log; (0, 0) when it is empty."""
    row = await tx.one("SELECT COALESCE(MIN(seq), 0), COALESCE(MAX(seq), 0) FROM event")
    return (int(row[0]), int(row[1])) if row else (0, 0)
