"""Statements about when archives were proved, and which are damaged. None of them reads all archives.

The order of proofs begins with the archives that were never proved. Then come those with a proof in the future, because
a clock was wrong, and then the others, the oldest proof first.
"""

from typing import Any, NamedTuple

from refgenied.model import ArchiveRecord, AssetKey
from refgenied.store.archives import ARCHIVES
from refgenied.store.tables import ASSET, names
from refgenied.store.transaction import Transaction

_ORDER = f"ORDER BY proved_at, {ASSET} LIMIT ?"
_RANGES = ("proved_at IS NULL", "proved_at > ?", "proved_at <= ?")


class Turn(NamedTuple):
    """A record's place in the order of proofs."""

    range: int
    proved_at: float | None
    key: AssetKey


async def page(
    tx: Transaction, now: float, limit: int, *, after: Turn | None = None, before: float | None = None
) -> tuple[list[ArchiveRecord], Turn | None]:
    """The first archives in the order of proofs, at most `limit`, and the last one's turn (without any: `after`).

    `after`: only later turns. `before`: no archive that was proved at this time or later, so that a walk over all
    archives that proves each of them comes to an end.
    """
    found: list[ArchiveRecord] = []
    for number in range(after.range if after else 0, len(_RANGES)):
        which, values = _RANGES[number], [now] * (number > 0)
        if number == 2 and before is not None:
            which, values = "proved_at < ?", [before]
        if after is not None and number == after.range:
            which, values = _later(which, values, after)
        rows = await ARCHIVES.all(
            tx, f"INDEXED BY archive_proved WHERE {which} {_ORDER}", (*values, limit - len(found))
        )
        found += rows
        if rows:
            after = Turn(number, rows[-1].proved_at, rows[-1].key)
        if len(found) == limit:
            break
    return found, after


def _later(which: str, values: list[Any], after: Turn) -> tuple[str, list[Any]]:
    if after.range == 0:
        return f"{which} AND ({ASSET}) > (?, ?, ?)", [*values, *names(after.key)]
    return f"{which} AND (proved_at, {ASSET}) > (?, ?, ?, ?)", [*values, after.proved_at, *names(after.key)]


async def damaged(tx: Transaction) -> tuple[ArchiveRecord | None, int]:
    """The first of the archives that are known to be damaged, and how many there are."""
    which = "INDEXED BY archive_damaged WHERE damaged IS NOT NULL"
    first = await ARCHIVES.one(tx, f"{which} ORDER BY {ASSET} LIMIT 1")
    return first, await tx.number(f"SELECT COUNT(*) FROM archive {which}") if first else 0


async def sound_bytes(tx: Transaction) -> int:
    """The bytes of all archives that are not known to be damaged. This reads all sizes, so ask seldom."""
    whole = await tx.number("SELECT SUM(size) FROM archive")
    lost = "SELECT SUM(size) FROM archive INDEXED BY archive_damaged WHERE damaged IS NOT NULL"
    return whole - await tx.number(lost)
