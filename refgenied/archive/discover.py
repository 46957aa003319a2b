"""Finds all archives in a folder: those that refgenied, refgenie 1 and refgenieserver made."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import msgspec

from refgenied.archive.format.arguments import path_of
from refgenied.archive.format.manifest import About
from refgenied.archive.place import Place
from refgenied.archive.presence import PassedOver, places
from refgenied.files.regular import is_shortage, opener, read_regular, unreadable
from refgenied.genomes.build_folder import MAX_LOG_BYTES
from refgenied.genomes.genome_config import ConfigEntry, GenomeConfig, parse_config
from refgenied.genomes.yaml_limits import MAX_BYTES
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import AssetKey, BadRegistryPathError, BuildRecord, UnreadableError

CONFIG = "genome_config.yaml"
_MAX_RECIPE_BYTES = 1 << 20


class Maker(StrEnum):
    """Who made an archive, as its place and the files beside it show."""

    REFGENIED = "refgenied"
    REFGENIESERVER = "refgenieserver"
    REFGENIE1 = "refgenie 1"


class Found(msgspec.Struct, frozen=True):
    """One archive that may be taken over."""

    maker: Maker
    archive: Path
    key: AssetKey
    about: About
    """Facts about the asset from the files beside the archive. For REFGENIED they come from the manifest."""
    digest: str | None
    """The md5 that its maker recorded."""


def find_archives(folder: str | os.PathLike[str], passed_over: PassedOver | None = None) -> Iterator[Found]:
    """Every archive below a folder, streaming: first those with nested names, then those with refgenieserver's flat
    names.

    A flat name that is only another link to a nested archive is left out. UnreadableError; `passed_over` as for
    `places`.
    """
    root = path_of(folder, "folder")
    config = _read_config(root)
    looks = chain(
        ((place.archive, partial(_nested, place, config)) for place in places(root, passed_over)),
        ((archive, partial(_served, root, archive, config, key)) for key, archive in _flat(root, config)),
    )
    for archive, look in looks:
        try:
            found = look()
        except OSError as error:
            if passed_over is None or is_shortage(error):
                raise unreadable(archive, error) from error
            passed_over(error)
            continue
        if found is not None:
            yield found


def find_archive(path: str | os.PathLike[str]) -> Found:
    """The archive at a path; the path tells its asset. UnreadableError says at which paths archives lie."""
    archive = Path(os.path.abspath(path_of(path, "path")))
    if not archive.is_file():
        raise UnreadableError(f"{archive} is not a file that the daemon can read", hint="name a .tgz")
    with suppress(IndexError, BadRegistryPathError):
        root, names = archive.parents[3], archive.parts[-4:-1]
        place = Place(root, AssetKey(*names))
        found = found_at(place) if place.archive == archive else None
        if found is not None:
            return found
    with suppress(IndexError):
        root = archive.parents[1]
        for found in find_archives(root) if (root / CONFIG).is_file() else ():
            if found.archive.is_file() and found.archive.samefile(archive):
                return found
    raise UnreadableError(
        f"{archive} does not have the path of an archive, so its asset is not known",
        hint="an archive lies at GENOME/GROUP/ASSET/GROUP__ASSET.tgz, with GENOME as its digest; "
        "refgenieserver's at GENOME/GROUP__ASSET.tgz beside its genome_config.yaml",
    )


def found_at(place: Place) -> Found | None:
    """The archive of any maker at a place in an archive folder; None when there is none. UnreadableError."""
    ours = os.path.lexists(place.manifest)  # then the server's config is not needed; it may be broken
    return _nested(place, None if ours else _read_config(place.archive_folder))


def _nested(place: Place, config: GenomeConfig | None) -> Found | None:
    if os.path.lexists(place.manifest):
        return Found(Maker.REFGENIED, place.archive, place.key, About(created_at=0.0), None)
    if place.archive.is_file():
        return Found(Maker.REFGENIE1, place.archive, place.key, _about(place.archive, config, place.key, None), None)
    return None


def _served(root: Path, archive: Path, config: GenomeConfig | None, key: AssetKey) -> Found | None:
    """The archive under a flat name; None when it is another link to a nested one. OSError."""
    nested = Place(root, key).archive
    if not archive.is_file() or (nested.is_file() and nested.samefile(archive)):
        return None
    about = _about(archive, config, key, _recipe(archive.parent, key))
    return Found(Maker.REFGENIESERVER, archive, key, about, _entry(config, key).archive_digest)


def _flat(root: Path, config: GenomeConfig | None) -> Iterator[tuple[AssetKey, Path]]:
    """Each `{genome}/{asset}__{tag}.tgz` of the genomes in the server's config. Folders named by an alias are not read:
    they hold copies.

    Two assets may have the same file name (`a__b:c` and `a:b__c`). Then both are given, and the archive itself shows
    which asset it holds.
    """
    if config is None:
        return
    known: dict[tuple[str, str], list[AssetKey]] = {}
    for key in config.entries:
        known.setdefault((key.genome_digest, f"{key.asset_group}__{key.asset}"), []).append(key)
    for digest in sorted(config.genomes):
        for archive in sorted((root / digest).glob("*__*.tgz")):
            group, _, asset = archive.stem.partition("__")
            for key in known.get((digest, archive.stem), [AssetKey(digest, group, asset)]):
                try:
                    Place(root, key)
                except BadRegistryPathError:
                    continue
                yield key, archive


def _read_config(root: Path) -> GenomeConfig | None:
    """The server's config; None when there is none. UnreadableError."""
    path = root / CONFIG
    try:
        text = read_regular(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return parse_config(text, str(path))
    except GarbledError as error:
        raise UnreadableError(f"{path} is not a config of refgenie ({error})") from error


def _about(archive: Path, config: GenomeConfig | None, key: AssetKey, recipe: BuildRecord | None) -> About:
    genome = config.genomes.get(key.genome_digest) if config else None
    said = {
        "created_at": archive.stat().st_mtime,
        "aliases": genome.aliases if genome else (),
        "build": recipe or BuildRecord(),
    }
    return msgspec.convert(msgspec.structs.asdict(_entry(config, key)) | said, About)


def _entry(config: GenomeConfig | None, key: AssetKey) -> ConfigEntry:
    return config.entries.get(key, ConfigEntry()) if config else ConfigEntry()


def _recipe(folder: Path, key: AssetKey) -> BuildRecord:
    """The recipe and the log, which refgenieserver has copied beside an archive."""
    name = f"{key.asset_group}__{key.asset}"
    log = folder / f"build_log_{name}.md"
    text = _beginning(log, MAX_LOG_BYTES).decode("utf-8", "replace")
    recipe: object = None
    with suppress(ValueError, RecursionError):
        recipe = json.loads(_beginning(folder / f"build_recipe_{name}.json", _MAX_RECIPE_BYTES))
    return BuildRecord(
        recipe=cast("dict[str, Any]", recipe) if isinstance(recipe, dict) else None,
        log_name=log.name if text else None,
        log=text,
    )


def _beginning(path: Path, most: int) -> bytes:
    """The first bytes of a file; b"" when it cannot be read."""
    with suppress(OSError), open(path, "rb", opener=opener) as file:
        return file.read(most)
    return b""
