"""The place of an asset's archive: refgenie 1's nested path, and the names beside it."""

import os
from pathlib import Path
from typing import Self

from refgenied.archive.format.arguments import path_of
from refgenied.archive.format.manifest import Manifest, read_manifest
from refgenied.files.durable import LONGEST_NAME_BYTES, partial_of
from refgenied.model import AssetKey, BadRegistryPathError, DamagedArchiveError

_ENTRIES = ".files.jsonl.gz"
"""The longest ending of a file's name."""


class Place:
    """The files of one asset's archive. BadRegistryPathError: a name could lead to a place outside.

    `{archive_folder}/{genome_digest}/{asset_group}/{asset}/{asset_group}__{asset}.tgz`, the manifest
    (`.json`) and, when there are many files, their list (`.files.jsonl.gz`). Unfinished files are hidden:
    `.{name}.partial`.
    """

    def __init__(self, archive_folder: str | os.PathLike[str], key: AssetKey) -> None:
        for part in (key.genome_digest, key.asset_group, key.asset):
            if not part or part.startswith(".") or "/" in part or not part.isprintable():
                raise BadRegistryPathError(
                    f"{part!r} in {key.registry_path!r} cannot be the name of a folder in the archive folder",
                    hint="names are not empty, don't begin with a dot, and have no '/' and no unprintable characters",
                )
        self.archive_folder = path_of(archive_folder, "archive_folder")
        self.key = key
        name = f"{key.asset_group}__{key.asset}"
        longest = len(os.fsencode(f"{name}{_ENTRIES}"))
        if longest > LONGEST_NAME_BYTES:
            raise BadRegistryPathError(
                f"the names of asset group and asset are too long together: one of the archive's files would have a "
                f"name of {longest} bytes, and {LONGEST_NAME_BYTES} is the most ({key.registry_path})",
                hint="a shorter tag helps (refgenie tag)",
            )
        self._name_files(self.archive_folder / key.genome_digest / key.asset_group / key.asset, name)

    @classmethod
    def plain(cls, archive: str | os.PathLike[str], key: AssetKey) -> Self:
        """An archive at any path `X.tgz`, outside of an archive folder; its manifest is `X.json`."""
        place = cls.__new__(cls)
        path = Path(archive)
        place.archive_folder = path.parent
        place.key = key
        place._name_files(path.parent, path.stem)  # noqa: SLF001 - of its own class
        return place

    def _name_files(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.archive = self.folder / f"{name}.tgz"
        self.manifest = self.folder / f"{name}.json"
        self.entries = self.folder / f"{name}{_ENTRIES}"
        self.archive_partial = partial_of(self.archive)
        self.manifest_partial = partial_of(self.manifest)
        self.entries_partial = partial_of(self.entries)

    @property
    def relative(self) -> str:
        """The archive's path below the archive folder."""
        return str(self.archive.relative_to(self.archive_folder))

    @property
    def partials(self) -> tuple[Path, Path, Path]:
        """The partial names, in the order of removal: without a manifest the others mean nothing."""
        return self.manifest_partial, self.entries_partial, self.archive_partial

    def __repr__(self) -> str:
        return f"Place({str(self.archive)!r})"


def manifest_at(place: Place, path: Path | None = None) -> Manifest:
    """The manifest of the archive at a place. `path`: read it from this file instead.

    Errors as `read_manifest`, and DamagedArchiveError when the manifest describes another asset.
    """
    path = path or place.manifest
    manifest = read_manifest(path)
    if manifest.key != place.key:
        raise DamagedArchiveError(f"{path} describes another asset, {manifest.key.registry_path}")
    return manifest
