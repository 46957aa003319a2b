"""How many aliases of one genome are taken: they stand in each line about each asset of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 1000
LONGEST = 20_000
"""Bytes of all of them together."""


def bounded(aliases: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """The first of them, each once, and how many are left out."""
    taken: dict[str, None] = {}
    room, beyond = LONGEST, 0
    for alias in aliases:
        if alias in taken:
            continue
        size = len(alias.encode("utf-8", "surrogatepass"))
        if len(taken) == MOST or size > room:
            beyond += 1
        else:
            taken[alias] = None
            room -= size
    return tuple(taken), beyond
