"""The keys of a look in order. A list of assets goes through them page by page."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import islice

from refgenied.model import Asset, AssetKey, Look

SCANNED_AT_ONCE = 2000
"""The most keys that one step reads while most of them are not wanted: the daemon answers others in between."""


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

    def after(
        self, key: AssetKey | None, until: AssetKey | None, most: int, selects: Callable[[Asset], bool]
    ) -> tuple[list[AssetKey], AssetKey | None]:
        """At most `most` keys of selected assets after `key` and before `until`, and the last key that was read; None
        for this one: there are no more.
        """
        keys, assets = self._keys, self._look.assets
        begin = bisect_right(keys, key) if key is not None else 0
        found: list[AssetKey] = []
        for one in islice(keys, begin, begin + SCANNED_AT_ONCE):
            if until is not None and one >= until:
                return found, None
            if selects(assets[one]):
                found.append(one)
                if len(found) == most:
                    return found, one
        end = begin + SCANNED_AT_ONCE
        return found, keys[end - 1] if end < len(keys) else None
