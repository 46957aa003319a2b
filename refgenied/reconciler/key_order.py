"""The keys of a look in order. A list of assets goes through them page by page."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from refgenied.model import Asset, AssetKey, Look

SCANNED_AT_ONCE = 2000
"""The most keys that one step reads while most of them are not wanted: the daemon answers others in between."""


class Span(NamedTuple):
    """A part of all keys in their order."""

    begin: AssetKey
    until: AssetKey | None
    """The first key that is not in it; None: it goes to the end."""

    @classmethod
    def of(cls, genome_digest: str, asset_group: str | None = None, asset: str | None = None) -> Span:
        """All assets of a genome or of a group, or one asset."""
        if asset_group is None:
            return cls(AssetKey(genome_digest, "", ""), AssetKey(f"{genome_digest}\0", "", ""))
        if asset is None:
            return cls(AssetKey(genome_digest, asset_group, ""), AssetKey(genome_digest, f"{asset_group}\0", ""))
        key = AssetKey(genome_digest, asset_group, asset)
        return cls(key, successor(key))

    def rest(self, key: AssetKey | None) -> Span | None:
        """The part of it after this key; None: there is nothing."""
        begin = self.begin if key is None else max(self.begin, successor(key))
        return Span(begin, self.until) if self.until is None or begin < self.until else None


def successor(key: AssetKey) -> AssetKey:
    """The smallest key after this one: no name has a character 0."""
    return AssetKey(key.genome_digest, key.asset_group, f"{key.asset}\0")


EVERYTHING = Span(AssetKey("", "", ""), None)


class KeyOrder:
    def __init__(self, look: Look) -> None:
        self._look = look
        self._keys = sorted(look.assets)

    def follow(self, look: Look) -> None:
        """From now on give the keys of this look. They are sorted by change: most looks have the keys of the last."""
        if look is self._look:
            return
        before, self._look = self._look.assets, look
        if before.keys() == look.assets.keys():
            return
        kept = [key for key in self._keys if key in look.assets]
        self._keys = sorted([*kept, *(key for key in look.assets if key not in before)])  # nearly sorted: linear

    def first(self, span: Span, most: int, selects: Callable[[Asset], bool]) -> tuple[list[AssetKey], Span]:
        """The first selected assets of the span, at most `most`, and the part of the span that was read for them."""
        keys, assets = self._keys, self._look.assets
        begin = bisect_left(keys, span.begin)
        found: list[AssetKey] = []
        last = None
        for last in islice(keys, begin, begin + SCANNED_AT_ONCE):
            if span.until is not None and last >= span.until:
                return found, span
            if selects(assets[last]):
                found.append(last)
                if len(found) == most:
                    break
        if last is None or last == keys[-1]:
            return found, span
        return found, Span(span.begin, successor(last))
