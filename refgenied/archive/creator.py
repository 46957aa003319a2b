"""Makes an archive of an asset's files: packs them, syncs, reads back and compares. The result can be published."""

import os
import stat
import time
from functools import partial
from pathlib import Path

import msgspec

from refgenied.archive.format.arguments import path_of, require_callable
from refgenied.archive.format.codec import Codec, CodecRecord, ContentAware
from refgenied.archive.format.digests import asset_digest, matching_order, order_lacking_one
from refgenied.archive.format.manifest import About, Manifest, Packed, Versions, entries_of
from refgenied.archive.format.sorting import C
from refgenied.archive.packer import pack_tree
from refgenied.archive.place import Place
from refgenied.archive.prover import prove
from refgenied.archive.publisher import Draft, drafting, write_manifest_partial
from refgenied.archive.run import Check, OnProgress, Run, no_check, no_progress
from refgenied.files.regular import reading
from refgenied.genomes.member import access_to
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.walk import Tree
from refgenied.model import Access, AssetKey, BadArgumentError, BadRegistryPathError, ConflictError, DigestMismatchError


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
    ConflictError (something is at `archive`), BadRegistryPathError (an asset cannot have this name, or no `.tgz`),
    UnsafeTreeError, SourceChangedError, UnreadableError, NoSpaceError, WriteError.
    """
    source, path = Path(os.path.abspath(path_of(folder, "folder"))), Path(os.path.abspath(path_of(archive, "archive")))
    run = Run(threads, check, on_progress)
    if codec is not None:
        require_callable(getattr(codec, "compress", None), "codec.compress")
    _require_places(source, path)
    place = Place.plain(path, AssetKey("", "", source.name))
    for taken in (place.archive, place.manifest, place.entries):
        if os.path.lexists(taken):
            raise ConflictError(f"{taken} is in the way: nothing is ever overwritten", hint="move it away first")
    with Tree(source) as tree:
        draft = pack_asset(tree, place, About(created_at=time.time()), run, codec=codec)
    draft.publish()
    return draft.manifest


def _require_places(folder: Path, archive: Path) -> None:
    """Check that there is a folder to pack, and that the archive does not become a part of it."""
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


def pack_asset(tree: Tree, place: Place, about: About, run: Run, *, codec: Codec | None = None) -> Draft:
    """Pack the tree (entered by the caller) into partial files in the archive folder, and prove them.

    The call blocks, and calls `run.check` and `run.on_progress` in this thread only. On any error nothing is left:
    errors of `check`, UnsafeTreeError, SourceChangedError, UnreadableError, DigestMismatchError, NoSpaceError,
    WriteError, DamagedArchiveError (the disk gave back other bytes than were written).
    """
    codec = codec or ContentAware()
    size, access = 0, Access.EVERYONE
    for member in tree:
        run.check()
        size += member.size
        access = access.narrowed(access_to(member))
    access = about.access or access
    with drafting(place, access):
        packed = pack_tree(tree, place, size, codec=codec, run=run, mode=access.file_mode)
        manifest = write_manifest(place, about, packed, codec.record, run.check)
        prove(place.archive_partial, manifest, run, listing=place.entries_partial.name)
    return Draft(place, manifest)


def write_manifest(place: Place, about: About, packed: Packed, codec: CodecRecord, check: Check) -> Manifest:
    """Write a manifest under its partial name, for files that were packed or were found in an existing archive.

    DigestMismatchError: the files do not have the asset digest that refgenie recorded. UnreadableError, ShortageError,
    WriteError, NoSpaceError.
    """
    digest, order = _recomputed_asset_digest(place, packed, about.asset_digest, check)
    known = msgspec.structs.asdict(place.key) | msgspec.structs.asdict(about) | msgspec.structs.asdict(packed)
    known |= {
        "asset_digest": digest,
        "asset_digest_order": order,
        "recorded_asset_digest": about.asset_digest or None,
        "versions": Versions(),
        "codec": codec,
        "removed": None,
    }
    return write_manifest_partial(place, msgspec.convert(known, Manifest))


def _recomputed_asset_digest(place: Place, packed: Packed, expected: str | None, check: Check) -> tuple[str, str]:
    """The asset digest, and the order of names in which it was computed.

    DigestMismatchError: the digest of all files is not the expected one, and leaving out one file (it may have been a
    link where the asset was built) does not give the expected one either.
    """
    entries = partial(entries_of, packed, place.folder, place.entries_partial.name)
    digest = packed.asset_digest or asset_digest(entries(), check)
    if not expected or digest == expected:
        return digest, C
    order = matching_order(entries, expected, check)
    if order is None and packed.entries_file is None:
        order = order_lacking_one(entries(), expected, check)
    if order is None:
        raise DigestMismatchError(
            f"the files of {place.key.registry_path} are not those that refgenie recorded: their asset "
            f"digest is {digest}, and refgenie's config says {expected}",
            hint="build or pull the asset again; if it was built under a locale that this machine lacks (it "
            "decides in which order refgenie hashes the files), install that locale",
        )
    return expected, order
