"""One archive as the server's config shows it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from refgenied.archive import Entry, Manifest
from refgenied.genomes.walk import Kind
from refgenied.model import ArchiveRecord, Asset, AssetKey

MOST_NAMES = 50_000
"""File names in one page of directory contents; the server reads the whole list for each page."""

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


class Facts(msgspec.Struct, frozen=True):
    """What an archive's manifest says of it: it stays true whatever becomes of the asset."""

    description: str
    seek_keys: dict[str, str]
    parents: tuple[str, ...]
    children: tuple[str, ...]
    asset_digest: str
    source_size: int

    @classmethod
    def of(cls, manifest: Manifest) -> Facts:
        return cls(
            manifest.description,
            manifest.seek_keys,
            manifest.parents,
            manifest.children,
            manifest.asset_digest,
            manifest.totals.source_size,
        )


class ServedEntry(msgspec.Struct, frozen=True):
    """All that the server's config has of one archive."""

    key: AssetKey
    description: str
    archive_digest: str
    archive_size: int
    asset_digest: str
    asset_size: int
    seek_keys: dict[str, str]
    parents: tuple[str, ...]
    children: tuple[str, ...]

    @property
    def tag(self) -> dict[str, object]:
        """The eight keys that the server and the client want."""
        return {
            "asset_path": self.key.asset_group,
            "asset_digest": self.asset_digest,
            "archive_digest": self.archive_digest,
            "asset_size": human_size(self.asset_size),
            "archive_size": human_size(self.archive_size),
            "seek_keys": dict(self.seek_keys),
            "asset_parents": list(self.parents),
            "asset_children": list(self.children),
        }


def entry_of(record: ArchiveRecord, facts: Facts, asset: Asset | None) -> ServedEntry:
    """What the archive holds, from its manifest; who its relatives are, from the last look where that knows.

    refgenie registers parents and children after the build has ended, so the manifest may be without them.
    """
    same = asset is not None and asset.asset_digest in (record.asset_digest, None)
    parents = (asset.parents if asset and same else ()) or facts.parents
    children = (asset.children if asset else ()) or facts.children
    description = (asset.description if asset else "") or facts.description
    return ServedEntry(
        key=record.key,
        description=description,
        archive_digest=record.digest,
        archive_size=record.size,
        asset_digest=record.asset_digest,
        asset_size=record.source_size,
        seek_keys=facts.seek_keys,
        parents=parents,
        children=children,
    )


def human_size(size: float) -> str:
    """As refgenie writes it: base 1024, two digits (`8.58 MB`)."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} {_UNITS[-1]}"


def contents(entries: Iterable[Entry]) -> list[str]:
    """The files inside, as the server lists them: relative paths of files and links."""
    names = (entry.path for entry in entries if entry.type is not Kind.FOLDER)
    found = list(itertools.islice(names, MOST_NAMES))
    more = sum(1 for _ in names)
    return [*found, f"… and {more} more files"] if more else found
