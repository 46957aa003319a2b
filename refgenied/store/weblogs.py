"""Statements about other web servers' logs: the lines that were counted, and the parts of downloads."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from refgenied.store.tables import json_or
from refgenied.store.transaction import Transaction

Line = tuple[str, int]
"""A line's hash, and its number among equal lines, from 1."""


async def taken(tx: Transaction, lines: Iterable[Line]) -> set[Line]:
    """The lines among these that were taken before."""
    rows = await tx.all(
        "SELECT line, number FROM json_each(?) AS asked JOIN log_line "
        "ON line = json_extract(asked.value, '$[0]') AND number = json_extract(asked.value, '$[1]')",
        (json.dumps(list(lines)),),
    )
    return {(line, number) for line, number in rows}


async def take(tx: Transaction, lines: Iterable[Line]) -> None:
    """Remember these lines as taken."""
    await tx.execute(
        "INSERT OR IGNORE INTO log_line (line, number) "
        "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
        (json.dumps(list(lines)),),
    )


async def times(tx: Transaction, lines: Iterable[str]) -> dict[str, int]:
    """How often each of these lines was taken. Lines that were never taken are left out."""
    rows = await tx.all(
        "SELECT line, MAX(number) FROM log_line WHERE line IN (SELECT value FROM json_each(?)) GROUP BY line",
        (json.dumps(list(lines)),),
    )
    return dict(rows)  # type: ignore[arg-type]


async def pulls(tx: Transaction, whos: Iterable[str]) -> dict[str, Any]:
    """The kept state of each of these pairs of a client and an archive."""
    rows = await tx.all(
        "SELECT who, state FROM log_pull WHERE who IN (SELECT value FROM json_each(?))", (json.dumps(list(whos)),)
    )
    kept = {str(who): json_or(state, None) for who, state in rows}
    return {who: state for who, state in kept.items() if state is not None}


async def keep_pulls(tx: Transaction, states: Mapping[str, Any]) -> None:
    for who, state in states.items():
        await tx.execute("INSERT OR REPLACE INTO log_pull (who, state) VALUES (?, ?)", (who, json.dumps(state)))


class Start(msgspec.Struct, frozen=True):
    """The beginning of a log."""

    start: str
    """A text that identifies the file."""
    first_line: str
    repeated: int
    """The number of equal lines at the beginning."""


async def lines_before(tx: Transaction, start: Start, *, copies: bool) -> dict[str, int] | None:
    """How often the log's first lines were in earlier logs; None: the log is not known. With `copies`, another file
    that begins with the same lines counts as the same log.
    """
    row = await tx.one("SELECT before FROM log_start WHERE start = ?", (start.start,))
    if row is None and copies:
        row = await tx.one(
            "SELECT before FROM log_start WHERE first_line = ? AND repeated = ?",
            (start.first_line, start.repeated),
        )
    return json_or(row[0], dict[str, int]()) if row else None


async def keep_start(tx: Transaction, start: Start, before: Mapping[str, int]) -> None:
    await tx.execute(
        "INSERT OR IGNORE INTO log_start (start, first_line, repeated, before) VALUES (?, ?, ?, ?)",
        (start.start, start.first_line, start.repeated, json.dumps(before)),
    )
