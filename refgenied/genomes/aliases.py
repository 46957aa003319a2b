"""Limits the aliases of one genome, because every line about an asset of the genome repeats them."""

from collections.abc import Iterable

MAX_ALIASES = 1000
MAX_ALIASES_BYTES = 20_000
"""The bytes that all aliases of one genome may have together."""


def first_aliases(aliases: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """The first aliases, each once, and how many are left out."""
    taken: dict[str, None] = {}
    room, left_out = MAX_ALIASES_BYTES, 0
    for alias in aliases:
        if alias in taken:
            continue
        size = len(alias.encode("utf-8", "surrogatepass"))
        if len(taken) == MAX_ALIASES or size > room:
            left_out += 1
        else:
            taken[alias] = None
            room -= size
    return tuple(taken), left_out
