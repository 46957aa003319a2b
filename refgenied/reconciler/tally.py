"""How many assets are in each state, kept by change: `status` asks for it often."""

from collections import Counter
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from refgenied.model import Asset, AssetKey, AssetState, Look
from refgenied.policy import ArchiveState
from refgenied.reconciler.last_look import differing

States = tuple[AssetState, ArchiveState]

_STATES: dict[States, States] = {}
"""Each pair once, because every asset has one."""


class Counts(NamedTuple):
    total: int
    """All assets, with those that only have an archive."""
    states: Counter[AssetState]
    archive: Counter[ArchiveState]


class Tally:
    """The states of each asset when it was judged last, and the assets that may have changed since.

    It is a cache. A wrong entry of an asset that nothing tells of stays until the next full look.
    """

    def __init__(self, look: Look) -> None:
        self.changed: set[AssetKey] = set()
        """Assets to be judged anew before the next answer."""
        self.rounds = 0
        """How often some assets were judged."""
        self._look = look
        self._of: dict[AssetKey, States] = {}
        self._numbers: Counter[States] = Counter()

    def follow(self, look: Look) -> None:
        """Note the assets that differ in this look: those that are not the same objects."""
        if look is self._look:
            return
        before, self._look = self._look, look
        self.changed.update(differing(before, look))

    def put(self, asset: Asset, archive: ArchiveState, *, overtaken: bool = False) -> None:
        """Remember where this asset stands.

        `overtaken`: others were judged while this one was, so it may have been judged by newer facts already. If the
        two differ, it is judged once more.
        """
        now = (asset.state, archive)
        now = _STATES.setdefault(now, now)
        before = self._of.get(asset.key)
        if before is not now:
            if overtaken and before is not None:
                self.changed.add(asset.key)
            self.forget(asset.key)
            self._of[asset.key] = now
            self._numbers[now] += 1

    def forget(self, key: AssetKey) -> None:
        """There is neither such an asset nor an archive of it."""
        before = self._of.pop(key, None)
        if before is not None:
            self._numbers[before] -= 1

    def but(self, keys: AbstractSet[AssetKey]) -> set[AssetKey]:
        """The assets that are counted and are not among these."""
        return self._of.keys() - keys

    def counts(self) -> Counts:
        states: Counter[AssetState] = Counter()
        archive: Counter[ArchiveState] = Counter()
        for (state, archived), number in self._numbers.items():
            states[state] += number
            archive[archived] += number
        return Counts(len(self._of), states, archive)
