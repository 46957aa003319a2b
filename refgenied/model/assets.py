"""Assets, genomes, and the result of one look at all of them.

There may be 100,000 of each, and none can refer to itself, so Python's garbage collector does not visit them (`gc`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from refgenied.model.access import Access


class AssetKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """The identity of one asset: three names, never an alias."""

    genome_digest: str
    asset_group: str
    asset: str

    @property
    def registry_path(self) -> str:
        """`{genome_digest}/{asset_group}:{asset}`."""
        return f"{self.genome_digest}/{self.asset_group}:{self.asset}"

    def aliased(self, alias: str) -> str:
        """The same registry path as a person writes it: `hg38/fasta:default`."""
        return f"{alias}/{self.asset_group}:{self.asset}"

    def named(self, aliases: Sequence[str]) -> str:
        """The registry path with the genome's first alias, if it has one."""
        return self.aliased(aliases[0]) if aliases else self.registry_path


class AssetState(StrEnum):
    """The state of one asset in the genome folder."""

    COMPLETE = "complete"  # built here, finished, registered
    BUILDING = "building"  # a running flag or lock, and something has changed lately
    FAILED = "failed"  # the last build left a failed flag
    INTERRUPTED = "interrupted"  # a running flag or lock, and nothing has changed for long
    UNREGISTERED = "unregistered"  # complete on disk, absent from refgenie's config
    PULLED = "pulled"  # downloaded: at refgenie's own place, no build flags
    ADDED = "added"  # `refgenie add`: in another place in the genome folder, no build flags
    MISSING = "missing"  # in refgenie's config (or archived), but not on disk
    UNREADABLE = "unreadable"  # a folder or file cannot be read, or we may not read it


ARCHIVABLE = frozenset({AssetState.COMPLETE, AssetState.UNREGISTERED, AssetState.PULLED, AssetState.ADDED})
"""States in which an asset's files are at rest: a user can ask for an archive of it."""


class Asset(msgspec.Struct, frozen=True, gc=False):
    """One asset, as one look at the genome folder found it."""

    key: AssetKey
    state: AssetState
    reason: str
    """One plain line: why this state."""
    folder: str
    """Absolute path of the folder with the asset's files (it may be missing)."""
    aliases: tuple[str, ...] = ()
    stamp: str = ""
    """It changes whenever the files, the build flags or refgenie's entry change. Empty: they could not be read or are
    not at rest. Two equal stamps mean that nothing was built or touched in between."""
    files_stamp: str = ""
    """The part of `stamp` that covers the files alone (path, type, mode, size, mtime, ctime, inode)."""
    built_at: float | None = None
    """When the build finished (mtime of its completed flag, Unix seconds); None when there is no flag."""
    asset_digest: str | None = None
    """refgenie's own digest of the files, from its config."""
    description: str = ""
    seek_keys: dict[str, str] = {}
    parents: tuple[str, ...] = ()
    """Registry paths of the assets from which this one was built, from refgenie's config."""
    children: tuple[str, ...] = ()
    access: Access = Access.EVERYONE
    """Who may read all its files, by their permission bits and those of the folders above them in the genome folder.
    It means nothing while the files are not at rest."""
    size: int = 0
    """Bytes of all its files, as the walk sees them; 0 while the files are not at rest."""


class BuildRecord(msgspec.Struct, frozen=True):
    """How an asset was built, as far as its build folder shows."""

    commands: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    log_name: str | None = None
    log: str = ""
    """The first 256 KiB of the log; "" when there is none."""


class Genome(msgspec.Struct, frozen=True, gc=False):
    digest: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    default_assets: dict[str, str] = {}
    """Asset group → the asset of a registry path that names only the group."""


class Problem(msgspec.Struct, frozen=True):
    """Something in the genome folder that could not be read; everything else is still read."""

    path: str
    message: str


class Look(msgspec.Struct, frozen=True):
    """The result of one look at the genome folder."""

    assets: dict[AssetKey, Asset]
    genomes: dict[str, Genome]
    problems: tuple[Problem, ...]
    layout: str
    """A text for people: `refgenie 0.13 (genome_config.yaml)`, `refgenie 1`, or a note that the folder is empty."""
    root: tuple[int, int] | None
    """(device, inode) of the genome folder; None when it does not exist."""
    watch: tuple[str, ...]
    """Folders whose changes are worth another look."""
    servers: tuple[str, ...] = ()
    config_version: str = ""
    full: bool = True
    """False: only at what may have changed since an earlier look; all else is taken from that one."""

    @property
    def ok(self) -> bool:
        """Whether the genome folder could be read. Only then a missing asset is really missing."""
        return self.root is not None
