"""An archive folder with many archives, made from one real archive; and what a look at them touches."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from parts import running
from synthetic import Genomes

from refgenied.archive.format.manifest import Manifest, encode, read_manifest
from refgenied.archive.place import Place
from refgenied.catalog.parts import Head
from refgenied.catalog.wanted import Wanted
from refgenied.model import ArchiveRecord, Asset, AssetKey, AssetState, Genome, Look


class Shelf:
    """Archives in `folder`, as they are recorded, and a look at their assets."""

    def __init__(self, folder: Path, manifest: Manifest, archive: bytes) -> None:
        self.folder = folder
        self._manifest = manifest
        self._archive = archive
        self.records: dict[AssetKey, ArchiveRecord] = {}
        self.assets: dict[AssetKey, Asset] = {}

    @classmethod
    async def made(cls, genomes: Genomes, folder: Path) -> Shelf:
        key = genomes.build()
        (genomes.folder(key) / "_refgenie_build/refgenie_log.md").write_text("it was built")
        async with running(genomes) as parts:
            await parts.settle()
            place = Place(parts.archive_folder.path, key)
            folder.mkdir()
            return cls(folder, read_manifest(place.manifest), place.archive.read_bytes())

    def other(self, folder: Path) -> Shelf:
        """An empty one."""
        folder.mkdir()
        return Shelf(folder, self._manifest, self._archive)

    def put(self, key: AssetKey, **fields: Any) -> ArchiveRecord:
        """Publish and record an archive of this asset; `fields` of its manifest."""
        place = Place(self.folder, key)
        place.folder.mkdir(parents=True, exist_ok=True)
        content = self._archive + len(self.records).to_bytes(4, "big")
        place.archive.unlink(missing_ok=True)
        place.archive.write_bytes(content)
        named = {"genome_digest": key.genome_digest, "asset_group": key.asset_group, "asset": key.asset}
        known = {"size": len(content), "digest": hashlib.md5(content).hexdigest()}
        manifest = msgspec.structs.replace(self._manifest, **(named | known | fields))
        place.manifest.write_bytes(encode(manifest))
        record = self.records[key] = manifest.record(place.relative)
        self.assets[key] = Asset(key, AssetState.COMPLETE, "built", "/f", record.aliases, "s", "f")
        return record

    def wanted(self, keys: Iterable[AssetKey] | None = None, **fields: Any) -> Wanted:
        digests = {key.genome_digest for key in self.assets}
        genomes = {digest: Genome(digest, (f"alias-{digest[:6]}",)) for digest in digests}
        look = Look(dict(self.assets), genomes, (), "", (1, 1), ())
        head = Head("/genomes", str(self.folder), {})
        chosen = None if keys is None else list(keys)
        records = {
            key: self.records[key] for key in (self.records if chosen is None else chosen) if key in self.records
        }
        values: dict[str, Any] = {"records": records, "removals": {}, "look": look, "head": head, "files": False}
        return Wanted(**(values | {"keys": chosen} | fields))


_watching: list[list[str]] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        for touched in _watching:
            touched.append(os.fsdecode(arguments[0]))


@contextmanager
def touched(folder: Path) -> Generator[list[str]]:
    """The paths below this folder that are opened or asked for their stat in this context, relative to it."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    found: list[str] = []
    paths: list[str] = []
    real = os.stat

    def stat(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if not isinstance(path, int):
            found.append(os.fsdecode(path))
        return real(path, *arguments, **named)

    _watching.append(found)
    os.stat = stat
    try:
        yield paths
    finally:
        os.stat = real
        _watching.remove(found)
        paths += [os.path.relpath(path, folder) for path in found if path.startswith(f"{folder}/")]
