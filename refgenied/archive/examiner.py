"""A recorded archive, held against its manifest and its record: is it whole, and do the three say the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format.digests import asset_digest, matching_order, order_lacking_one
from refgenied.archive.format.manifest import BrokenSealError, Manifest, entries_of
from refgenied.archive.format.mending import differences, mended_manifest, mended_record
from refgenied.archive.format.sorting import C
from refgenied.archive.presence import check_archive, manifest_at
from refgenied.archive.run import Check, OnProgress, no_check, no_progress
from refgenied.archive.verifier import check_sizes
from refgenied.genomes.walk import Kind
from refgenied.model import ArchiveNotFoundError, ArchiveRecord, DamagedArchiveError

if TYPE_CHECKING:
    from refgenied.archive.format.entries import Entry
    from refgenied.archive.place import Place


class Finding(msgspec.Struct, frozen=True):
    """What an examination has shown; nothing is written by it."""

    damage: str = ""
    """What is wrong with the archive, with the first bad member; empty when nothing is."""
    record: ArchiveRecord | None = None
    """What the record should be; None: as it is."""
    manifest: Manifest | None = None
    """What should be written as the manifest; None: what is there."""
    mended: str = ""
    """What is put right so, in one line; empty when nothing was wrong (a manifest without a seal gets one)."""
    only_manifest: bool = False
    """The damage is the manifest's: nothing is known to be wrong with the archive itself."""


def examine(
    place: Place,
    record: ArchiveRecord,
    *,
    quick: bool = False,
    threads: int = 1,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Finding:
    """Compare an archive, its manifest and its record. UnreadableError, and what `check` raises.

    `quick` looks at sizes, the block table, the seal and the record; the archive is read all the same when only its
    bytes can tell whether the record or the manifest is right.
    """
    try:
        return _examined(place, record, quick, threads, on_progress, check)
    except BrokenSealError as error:
        return Finding(error.message, only_manifest=True)
    except (ArchiveNotFoundError, DamagedArchiveError) as error:
        return Finding(error.message)


def _examined(
    place: Place,
    record: ArchiveRecord,
    quick: bool,  # noqa: FBT001
    threads: int,
    on_progress: OnProgress,
    check: Check,
) -> Finding:
    manifest, mended = _manifest(place, record)
    differing = differences(record, manifest, place.relative)
    proves = bool(manifest.seal) and manifest.seal == record.seal
    deep = not quick or (bool(differing) and not proves)
    check_sizes(place.archive, manifest)
    check_archive(
        place,
        manifest,
        deep=deep,
        members=record.proved_at is None or bool(differing),
        threads=threads,
        on_progress=on_progress,
        check=check,
    )
    if not manifest.seal:
        return _first_seal(place, record, manifest, differing, check) if deep else Finding()
    if differing or (deep and record.seal is None):
        right = mended_record(record, manifest, place.relative)
        return Finding(record=right, mended=_said("the database had", differing) if differing else "")
    return Finding(manifest=manifest, mended=mended) if mended else Finding()


def _manifest(place: Place, record: ArchiveRecord) -> tuple[Manifest, str]:
    """The place's manifest, put right from the record when its seal is broken; and what was wrong with it."""
    try:
        return manifest_at(place), ""
    except BrokenSealError:
        manifest = mended_manifest(place, record)
        if manifest is None:
            raise
        return manifest, "its manifest had another value in one field, and was put right from the database"


def _first_seal(
    place: Place, record: ArchiveRecord, manifest: Manifest, differing: tuple[str, ...], check: Check
) -> Finding:
    """The archive agrees with a manifest that has no seal yet: what is to be sealed, and recorded.

    Nothing can prove when it was made, and who asked for it: there the database is believed.
    """

    def entries() -> list[Entry]:
        return list(entries_of(manifest, place.folder))

    right = manifest
    if differing or record.proved_at is None:
        digest = _right_asset_digest(manifest, record, entries(), check)
        files = [entry for entry in entries() if entry.type is Kind.FILE]
        totals = msgspec.structs.replace(
            manifest.totals, files=len(files), source_size=sum(entry.size for entry in files)
        )
        right = msgspec.structs.replace(
            manifest,
            asset_digest=digest,
            totals=totals,
            created_at=record.created_at,
            requested_by=record.requested_by,
        )
    said = mended_record(record, right, place.relative)
    changed = tuple(name for name in differing if getattr(record, name) != getattr(said, name))
    texts = [_said("the database had", changed)] if changed else []
    if right != manifest:
        texts.append("its manifest had another value in one field")
    return Finding(record=said, manifest=right, mended="; ".join(texts))


def _right_asset_digest(manifest: Manifest, record: ArchiveRecord, entries: list[Entry], check: Check) -> str:
    """Of the manifest's and the record's asset digest the one that the files have. DamagedArchiveError: neither."""
    candidates = list(dict.fromkeys((manifest.asset_digest, record.asset_digest)))
    if asset_digest(entries, check) in candidates:
        return asset_digest(entries, check)
    for digest in candidates:
        if matching_order(lambda: entries, digest, check) or order_lacking_one(entries, digest, check):
            return digest
    if len(candidates) == 1 and manifest.asset_digest_order != C:
        return candidates[0]  # the builder's locale is not installed here
    raise DamagedArchiveError(
        f"the files of {manifest.key.registry_path} have another asset digest than its manifest says "
        f"({manifest.asset_digest})"
    )


def _said(who: str, fields: tuple[str, ...]) -> str:
    return f"{who} another {' and '.join(fields).replace('_', ' ')} than the manifest, which proved to be right"
