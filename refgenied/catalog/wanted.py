"""What the archive folder is to be brought to for its server, and what it was brought to."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from refgenied.catalog.server_config import Head
from refgenied.model import Access, ArchiveRecord, AssetKey, Look, Removal
from refgenied.policy import access_now

PRIVATE = "of private assets: only the owner may read some file (archive.publish_private = true serves them)"


class Wanted(msgspec.Struct, frozen=True):
    """What the folder is to be brought to."""

    records: Mapping[AssetKey, ArchiveRecord]
    removals: Mapping[AssetKey, Removal]
    look: Look
    """The last look; an empty one when the genome folder is away."""
    head: Head
    files: bool
    """Link each asset's folder in the genome folder beside its archive."""
    publish_private: bool = False
    """Serve also what only its owner may read."""

    def private(self, record: ArchiveRecord) -> bool:
        """Whether the archive is to be seen by nobody, because some file in it may be read by its owner alone."""
        access = access_now(record, self.look.assets.get(record.key))
        return access is Access.OWNER and not self.publish_private

    def groups(self) -> frozenset[tuple[str, str]]:
        """Genomes and asset groups: each may have a folder for its archives, whose name no link may take."""
        return frozenset((key.genome_digest, key.asset_group) for key in (*self.look.assets, *self.records))


class Served(msgspec.Struct, frozen=True):
    """What it was brought to."""

    archives: int = 0
    left_out: tuple[str, ...] = ()
    """Plain lines: what is not in the server's config, and why; then what else is wrong with single archives."""
    faulty: int = 0
    """Archives that are not served because of something that a person can mend."""
    unwell: bool = False
    """Whether anything is there to be mended: another refresh may find that it was."""
    changed: bool = False
    """Whether the config was written now."""
    doubtful: frozenset[AssetKey] = frozenset()
    """Archives whose record, manifest and file do not fit together: one of them must be looked at."""
