"""From an asset's files to an archive that is ready to appear: packed, synced, read back and compared."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from refgenied.archive.format.codec import Codec, CodecRecord, ContentAware
from refgenied.archive.format.digests import asset_digest, matching_order, order_lacking_one
from refgenied.archive.format.entries import Entry, sidecar_entries
from refgenied.archive.format.manifest import About, Manifest, Versions, read_manifest
from refgenied.archive.format.sorting import C
from refgenied.archive.packer import Packed, pack
from refgenied.archive.prover import prove
from refgenied.archive.publisher import Draft, discard, make_folders, write_manifest_partial
from refgenied.archive.run import Check, OnProgress, no_check, no_progress
from refgenied.genomes.member import access_to
from refgenied.model import Access, DigestMismatchError, WriteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from refgenied.archive.place import Place
    from refgenied.genomes.walk import Tree


def pack_asset(
    tree: Tree,
    place: Place,
    about: About,
    *,
    codec: Codec | None = None,
    threads: int = 1,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Draft:
    """Pack the tree (entered by the caller) into partial files in the archive folder, and prove them.

    Blocks; `check` and
    `on_progress` are called in this thread only. On any error nothing is left: what `check` raises,
    UnsafeTreeError, SourceChangedError, UnreadableError, DigestMismatchError, NoSpaceError, WriteError,
    DamagedArchiveError (the disk gave back something else).
    """
    codec = codec or ContentAware()
    found = _survey(tree, check)
    access = about.access or found.access
    make_folders(place, access)
    try:
        discard(place, folders=False)
        packed = pack(
            tree,
            place,
            found.size,
            codec=codec,
            threads=threads,
            on_progress=on_progress,
            check=check,
            mode=access.file_mode,
        )
        digest, order = recomputed_asset_digest(place, packed, about.asset_digest, check)
        manifest = manifest_of(place, about, packed, codec.record, digest, order)
        write_manifest_partial(place, manifest)
        manifest = read_manifest(place.manifest_partial)
        prove(
            place.archive_partial,
            manifest,
            _entries(place, packed),
            threads=threads,
            on_progress=on_progress,
            check=check,
        )
    except BaseException:
        with suppress(WriteError):  # what stopped us is the news; `reconcile` removes what cannot be removed now
            discard(place)
        raise
    return Draft(place, manifest)


class _Survey(NamedTuple):
    """What is known of the files before one is read."""

    size: int
    """Bytes of all."""
    access: Access


def _survey(tree: Tree, check: Check) -> _Survey:
    size, access = 0, Access.EVERYONE
    for member in tree:
        check()
        size += member.size
        access = access.narrowed(access_to(member))
    return _Survey(size, access)


def recomputed_asset_digest(place: Place, packed: Packed, expected: str | None, check: Check) -> tuple[str, str]:
    """The asset digest and the order of names it was computed in. DigestMismatchError: it is not the expected one,
    also without the one file that may have been a link where it was built.
    """
    digest = packed.asset_digest if packed.in_order else asset_digest(_entries(place, packed), check)
    if not expected or digest == expected:
        return digest, C
    order = matching_order(lambda: _entries(place, packed), expected, check)
    if order is None and packed.entries_file is None:
        order = order_lacking_one(packed.entries or (), expected, check)
    if order is None:
        raise DigestMismatchError(
            f"the files of {place.key.registry_path} are not those that refgenie recorded: their asset "
            f"digest is {digest}, and refgenie's config says {expected}",
            hint="build or pull the asset again; if it was built under a locale that this machine lacks (it "
            "decides in which order refgenie hashes the files), install that locale",
        )
    return expected, order


def _entries(place: Place, packed: Packed) -> Iterable[Entry]:
    if packed.entries_file is None:
        return packed.entries or ()
    return sidecar_entries(place.entries_partial, packed.entries_file)


def manifest_of(
    place: Place,
    about: About,
    packed: Packed,
    codec: CodecRecord,
    digest: str,
    order: str,
) -> Manifest:
    """The manifest of what was packed, or found in an archive that was there."""
    key = place.key
    return Manifest(
        genome_digest=key.genome_digest,
        asset_group=key.asset_group,
        asset=key.asset,
        aliases=about.aliases,
        description=about.description,
        seek_keys=about.seek_keys,
        parents=about.parents,
        children=about.children,
        size=packed.size,
        digest=packed.digest,
        content_digest=packed.content_digest,
        asset_digest=digest,
        asset_digest_order=order,
        recorded_asset_digest=about.asset_digest or None,
        totals=packed.totals,
        build=about.build,
        created_at=about.created_at,
        requested_by=about.requested_by,
        stamp=about.stamp,
        files_stamp=about.files_stamp,
        versions=Versions(),
        codec=codec,
        removed=None,
        entries_file=packed.entries_file,
        blocks=packed.blocks,
        entries=packed.entries,
    )
