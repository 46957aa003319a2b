"""Which assets some registry paths mean, by the last look, and where another asset may be that they mean now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from refgenied.genomes.registry_path import parse, resolve
from refgenied.model import AssetKey, AssetNotFoundError, BadRegistryPathError
from refgenied.reconciler.last_look import LastLook


class Named(NamedTuple):
    keys: set[AssetKey]
    """The assets that the paths mean."""
    folders: set[str]
    """The folders of asset groups in which a new asset may be meant: the path names no asset, or one that is not known.
    """
    unknown: bool
    """Whether a path means no asset."""

    @classmethod
    def of(cls, paths: Iterable[str], last: LastLook, root: str) -> Named:
        """`root`: the genome folder. A text that is no registry path means nothing, and is not unknown."""
        named = cls(set(), set(), unknown=False)
        unknown = False
        for path in paths:
            try:
                genome, group, asset = parse(path)
            except BadRegistryPathError:  # no look makes it one
                continue
            try:
                named.keys.add(resolve(last.look, path))
            except (AssetNotFoundError, BadRegistryPathError):
                unknown, asset = True, None
            if asset is None:
                named.folders.update(f"{root}/data/{one.digest}/{group}" for one in last.genomes_called(genome))
        return named._replace(unknown=unknown)
