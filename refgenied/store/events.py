"""Statements about the event log."""

import json
from typing import Any

from refgenied.model import AssetKey, Event
from refgenied.store.tables import ASSET, Table, json_or, names
from refgenied.store.transaction import Transaction

KEPT_EVENTS = 10_000
"""The newest events that are kept. A client that missed older ones is told `lagged`, and reads the state again."""


EVENTS = Table("event", Event, data=lambda text: json_or(text, dict[str, Any]()))


async def add(
    tx: Transaction, kind: str, *, at: float, key: AssetKey | None = None, job: int | None = None, **data: Any
) -> Event:
    """Log one event, in the same transaction as the change."""
    seq = await tx.insert(
        f"INSERT INTO event (at, kind, {ASSET}, job, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, kind, *names(key), job, json.dumps(data)),
    )
    if seq % 100 == 0:
        await tx.execute("DELETE FROM event WHERE seq <= ?", (seq - KEPT_EVENTS,))
    return Event(seq=seq, at=at, kind=kind, key=key, job=job, data=data)


async def since(tx: Transaction, seq: int, limit: int = 1000) -> list[Event]:
    """Events after `seq`, oldest first."""
    return await EVENTS.all(tx, "WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))


async def before(tx: Transaction, at: float) -> int | None:
    """The `seq` before the first event at this moment or later; None: no such event. `at` in Unix seconds."""
    row = await tx.one("SELECT MIN(seq) - 1 FROM event WHERE at >= ?", (at,))
    return row[0] if row else None


async def span(tx: Transaction) -> tuple[int, int]:
    """The oldest and the newest `seq` in the log; (0, 0) when it is empty."""
    row = await tx.one("SELECT COALESCE(MIN(seq), 0), COALESCE(MAX(seq), 0) FROM event")
    return (int(row[0]), int(row[1])) if row else (0, 0)
