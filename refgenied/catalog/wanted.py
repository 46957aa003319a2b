"""What the archive folder must get, and what it has got."""

from collections.abc import Collection, Mapping

import msgspec

from refgenied.catalog.parts import Head
from refgenied.model import Access, ArchiveRecord, AssetKey, Look, Removal
from refgenied.policy import access_now

NOT_AS_RECORDED = "whose file is missing or is not as recorded"
PRIVATE = "of private assets: only the owner may read some file (archive.publish_private = true serves them)"
NAME_TAKEN = "whose file name another asset has already (two underscores in a name)"


class Wanted(msgspec.Struct, frozen=True):
    """The state that the folder must get."""

    records: Mapping[AssetKey, ArchiveRecord]
    """The recorded archives of `keys`."""
    removals: Mapping[AssetKey, Removal]
    """The removals of `keys`."""
    look: Look
    """The last look; an empty look when the genome folder is missing."""
    head: Head
    files: bool
    """Whether each asset's files in the genome folder are linked beside its archive."""
    publish_private: bool = False
    """Whether archives that only their owner may read are served too."""
    keys: Collection[AssetKey] | None = None
    """The assets to look at; None: all, and `records` and `removals` have all."""

    def private(self, record: ArchiveRecord) -> bool:
        """Whether the archive must stay hidden, because only the owner may read some file in it."""
        access = access_now(record, self.look.assets.get(record.key))
        return access is Access.OWNER and not self.publish_private


class Served(msgspec.Struct, frozen=True):
    """The state that the folder has got."""

    archives: int = 0
    left_out: tuple[str, ...] = ()
    """Plain lines: which archives are not in the server's config, and why; then other faults of single archives."""
    faulty: int = 0
    """The number of archives that are not served because of a fault that a person can repair."""
    unwell: bool = False
    """Whether there is a fault that the next refresh may repair."""
    changed: bool = False
    """Whether the config was written now."""
    doubtful: frozenset[AssetKey] = frozenset()
    """Archives whose record, manifest and file were found not to fit together now; each of them must be checked."""
