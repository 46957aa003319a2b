"""Packing for callers without a daemon, an archive folder or a genome: a folder in, an archive and its manifest out."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from refgenied.archive.creator import pack_asset
from refgenied.archive.format.arguments import path_of, require_callable, threads_of
from refgenied.archive.format.manifest import About, Manifest
from refgenied.archive.place import Place
from refgenied.archive.run import Check, OnProgress, no_check, no_progress
from refgenied.files.regular import reading
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.walk import Tree
from refgenied.model import AssetKey, BadArgumentError, BadRegistryPathError, ConflictError

if TYPE_CHECKING:
    from refgenied.archive.format.codec import Codec


def pack(
    folder: str | os.PathLike[str],
    archive: str | os.PathLike[str],
    *,
    codec: Codec | None = None,
    threads: int = 0,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Manifest:
    """Pack a folder into an archive `X.tgz` with its manifest `X.json` beside it, and read both back.

    The archive holds one top folder, named as `folder`; `_refgenie_build` in it is left out. Links inside stay links,
    links that lead out are refused. `threads` compress; 0: all cores. The files appear when they are whole and on
    the disk; on any error nothing is left. BadArgumentError (`folder` is no folder, or `archive` would lie in it),
    ConflictError (something is at `archive`), BadRegistryPathError (a name that no asset has, or not `.tgz`),
    UnsafeTreeError, SourceChangedError, UnreadableError, NoSpaceError, WriteError.
    """
    source, path = Path(os.path.abspath(path_of(folder, "folder"))), Path(os.path.abspath(path_of(archive, "archive")))
    cores = threads_of(threads)
    if codec is not None:
        require_callable(getattr(codec, "compress", None), "codec.compress")
    require_callable(on_progress, "on_progress")
    require_callable(check, "check")
    _require_places(source, path)
    place = Place.plain(path, AssetKey("", "", source.name))
    for taken in (place.archive, place.manifest, place.entries):
        if os.path.lexists(taken):
            raise ConflictError(f"{taken} is in the way: nothing is ever overwritten", hint="move it away first")
    with Tree(source) as tree:
        draft = pack_asset(
            tree,
            place,
            About(created_at=time.time()),
            codec=codec,
            threads=cores,
            on_progress=on_progress,
            check=check,
        )
    draft.publish()
    return draft.manifest


def _require_places(folder: Path, archive: Path) -> None:
    """There is a folder to pack, and its archive does not become a part of it."""
    with reading(folder):
        what = "is not a folder" if os.path.lexists(folder) else "is not there"
        if what == "is not there" or not stat.S_ISDIR(os.stat(folder).st_mode):
            raise BadArgumentError(f"{folder} {what}: an archive is made of a folder with an asset's files")
    if archive.suffix != ".tgz":
        raise BadRegistryPathError(f"{archive.name!r} cannot be the name of an archive: it ends in .tgz")
    if not is_name(folder.name):
        raise BadRegistryPathError(f"{folder.name!r} cannot be the name of an asset")
    if Path(os.path.realpath(archive.parent)).is_relative_to(os.path.realpath(folder)):
        raise BadArgumentError(f"{archive} would lie in the folder that it is made of: name a place outside")
