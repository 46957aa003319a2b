"""One archive in the server's config, and the files of its page."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import Manifest, entries_of
from refgenied.archive_folder.names import ServedNames
from refgenied.catalog.faults import Faults
from refgenied.files.durable import save_atomically
from refgenied.genomes.member import Kind
from refgenied.model import Access, ArchiveRecord, Asset, AssetKey

MOST_PAGE_NAMES = 50_000
"""The most file names on one page. The server reads the whole list each time it shows the page."""

_SIZE_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


class ServedEntry(msgspec.Struct, frozen=True):
    """The facts about one archive that the server's config holds."""

    key: AssetKey
    description: str
    archive_digest: str
    archive_size: int
    asset_digest: str
    asset_size: int
    seek_keys: dict[str, str]
    parents: tuple[str, ...]
    children: tuple[str, ...]

    @classmethod
    def of(cls, key: AssetKey, manifest: Manifest) -> ServedEntry:
        """The facts from the manifest, which stay true when the asset changes."""
        named = {"archive_digest": manifest.digest, "archive_size": manifest.size}
        sized = {"key": key, "asset_size": manifest.totals.source_size}
        return msgspec.convert(msgspec.structs.asdict(manifest) | named | sized, cls)

    def brought_up(self, record: ArchiveRecord, asset: Asset | None) -> ServedEntry:
        """The same entry with the record's values, and with the description and relatives that the last look has found.

        refgenie registers parents and children after the build has ended, so the manifest may lack them.
        """
        same = asset is not None and asset.asset_digest in (record.asset_digest, None)
        return msgspec.structs.replace(
            self,
            description=(asset.description if asset else "") or self.description,
            archive_digest=record.digest,
            archive_size=record.size,
            asset_digest=record.asset_digest,
            asset_size=record.source_size,
            parents=(asset.parents if asset and same else ()) or self.parents,
            children=(asset.children if asset else ()) or self.children,
        )

    @property
    def tag(self) -> dict[str, object]:
        """The eight keys that the server and the client need."""
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


def human_size(size: float) -> str:
    """The size as refgenie writes it: base 1024, two digits (`8.58 MB`)."""
    power = 0
    while size >= 1024 and power < len(_SIZE_UNITS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.2f} {_SIZE_UNITS[power]}"


def made_of(record: ArchiveRecord, asset: Asset | None) -> int:
    """A hash of all that `ServedEntry.brought_up` takes from the record and the last look; never 0.

    While it stays the same, the manifest need not be read again.
    """
    found = asset and (asset.description, asset.asset_digest, asset.parents, asset.children)
    return hash((record.digest, record.size, record.asset_digest, record.source_size, found)) or 1


def write_pages(
    names: ServedNames, manifest: Manifest, access: Access, faults: Faults, *, aliases: Sequence[str] = ()
) -> bool:
    """Write the files of an archive's page: its directory contents, its recipe and its build log.

    Returns whether all are right now. A file that cannot be written is noted as a fault, and the archive is served
    without it. The files are not synced: after a power cut the next start compares and makes them again.
    """
    build = manifest.build
    files = {
        names.contents: msgspec.json.encode(_contents(entries_of(manifest, names.place.folder))),
        names.recipe: None if build.recipe is None else msgspec.json.encode(build.recipe),
        names.log: build.log.encode("utf-8", "replace") if build.log else None,
    }
    mode = access.file_mode if access is Access.GROUP else 0o644  # a private archive is shown to everybody or to nobody
    whole = True
    for path, data in files.items():
        try:
            if data is None:
                path.unlink(missing_ok=True)
            else:
                save_atomically(path, data, mode=mode, durably=False)
        except OSError as error:
            faults.note(manifest.key, error, served=True, aliases=aliases)
            whole = False
    return whole


def _contents(entries: Iterable[Entry]) -> list[str]:
    """The files inside, as the server lists them: relative paths of files and links."""
    names = (entry.path for entry in entries if entry.type is not Kind.FOLDER)
    found = list(itertools.islice(names, MOST_PAGE_NAMES))
    more = sum(1 for _ in names)
    return [*found, f"… and {more} more files"] if more else found
