"""The records of the database about archives and removals."""

import msgspec

from refgenied.model.access import Access
from refgenied.model.assets import AssetKey


class ArchiveRecord(msgspec.Struct, frozen=True):
    """The record of one archive in the database. The manifest beside the archive has more."""

    key: AssetKey
    aliases: tuple[str, ...]
    path: str
    """The path relative to the archive folder, so the folder can be moved."""
    size: int
    digest: str
    """md5 of the `.tgz`, which refgenie uses too."""
    asset_digest: str
    content_digest: str
    files: int
    """Number of regular files inside."""
    source_size: int
    """Bytes of those files."""
    stamp: str
    files_stamp: str
    created_at: float
    proved_at: float | None = None
    """When the file was last read back and agreed with its manifest; None: never."""
    download_count: int = 0
    requested_by: str = "refgenied"
    damaged: str | None = None
    """The damage that a verify found, in one line with the first bad member; None when no damage is known."""
    access: Access | None = None
    """Who may read the asset's files; None: not known yet (an archive of refgenied 0.1)."""
    seal: str | None = None
    """The seal of the manifest: with it, manifest and record prove each other. None: the manifest had no seal then."""

    def proved_before(self, now: float) -> float:
        """When it was last proved; 0.0: never, or the time is in the future because a clock was wrong."""
        at = self.proved_at or 0.0
        return at if at <= now else 0.0


class Removal(msgspec.Struct, frozen=True):
    """A user removed this asset's archive. It is not archived again automatically while its stamp stays the same."""

    key: AssetKey
    stamp: str
    removed_at: float
    removed_by: str
