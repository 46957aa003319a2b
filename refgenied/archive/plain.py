"""Packing for callers without a daemon, an archive folder or a genome: a folder in, an archive and its manifest out."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from refgenied.archive.draft import pack_asset
from refgenied.archive.manifest import About, Manifest
from refgenied.archive.place import Place
from refgenied.archive.progress import Check, OnProgress, no_check, no_progress
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.walk import Tree
from refgenied.model import AssetKey, BadRegistryPathError, ConflictError

if TYPE_CHECKING:
    from refgenied.archive.codec import Codec


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
    the disk; on any error nothing is left. ConflictError (something is at `archive`), BadRegistryPathError (a name
    that no asset has, or not `.tgz`), UnsafeTreeError, SourceChangedError, UnreadableError, NoSpaceError, WriteError.
    """
    path = Path(os.path.abspath(archive))
    top = os.path.basename(os.path.abspath(folder))
    if path.suffix != ".tgz" or not is_name(top):
        wrong = path.name if path.suffix != ".tgz" else top
        raise BadRegistryPathError(f"{wrong!r} cannot be the name of an {'archive' if wrong != top else 'asset'}")
    place = Place.plain(path, AssetKey("", "", top))
    for taken in (place.archive, place.manifest, place.entries):
        if os.path.lexists(taken):
            raise ConflictError(f"{taken} is in the way: nothing is ever overwritten", hint="move it away first")
    with Tree(folder) as tree:
        draft = pack_asset(
            tree,
            place,
            About(created_at=time.time()),
            codec=codec,
            threads=threads or len(os.sched_getaffinity(0)),
            on_progress=on_progress,
            check=check,
        )
    draft.publish()
    return draft.manifest
