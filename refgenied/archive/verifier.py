"""Finds out whether an archive is sound: `verify` takes its path, `examine` its place and its record."""

import os

import msgspec

from refgenied.archive.format.arguments import archive_of, require_switch
from refgenied.archive.format.digests import asset_digest, matching_order, order_lacking_one
from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import BrokenSealError, Manifest, entries_of
from refgenied.archive.format.members import ArchiveMembers, check_size, manifest_beside
from refgenied.archive.format.mending import differences, mended_manifest, mended_record
from refgenied.archive.format.sorting import C
from refgenied.archive.place import Place, manifest_at
from refgenied.archive.prover import prove
from refgenied.archive.run import Check, OnProgress, Run, no_check, no_progress
from refgenied.archive.vetting import Vetting, vetted
from refgenied.genomes.member import Kind
from refgenied.model import ArchiveNotFoundError, ArchiveRecord, DamagedArchiveError


class Verified(msgspec.Struct, frozen=True):
    """An archive that was found to be sound."""

    proved: bool
    """Every byte agrees with the manifest. False: `quick` was asked for, or there is no manifest; then the archive is a
    sound tar, its gzip checksums are right, and its members can be extracted."""
    files: int
    size: int
    """Bytes of those files."""


def verify(
    archive: str | os.PathLike[str],
    *,
    quick: bool = False,
    members: bool = True,
    threads: int = 0,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Verified:
    """Read an archive (a path to a `.tgz`) back and compare it with the manifest beside it, if there is one.

    `quick` looks at sizes and the block table only. Without `members` the archive's own md5, the blocks' checksums and
    all headers are compared, but not the md5 of each file: this is much faster, and enough for an archive that was
    proved before (one with the same md5 holds the same bytes). `threads` decompress; 0: all cores.
    A fault is raised as an error: DamagedArchiveError (with the first bad member), UnsafeTreeError (no manifest, and
    a member must not be extracted), ArchiveNotFoundError, UnreadableError; BadArgumentError for an argument that makes
    no sense.
    """
    path = archive_of(archive)
    require_switch(quick, "quick")
    require_switch(members, "members")
    run = Run(threads, check, on_progress)
    manifest = manifest_beside(path)
    if manifest is not None:
        if not quick:
            prove(path, manifest, run, members=members)
        return Verified(not quick, manifest.totals.files, manifest.totals.source_size)
    if quick:
        return Verified(proved=False, files=0, size=0)
    vetting = Vetting(str(path), leave_out_stray=True)
    with ArchiveMembers(path) as in_archive:
        files = sum(entry.type is Kind.FILE for entry in vetted(in_archive, vetting, run))
    vetting.finish(check)
    return Verified(proved=False, files=files, size=vetting.total)


class Finding(msgspec.Struct, frozen=True):
    """The result of an examination, which itself writes nothing."""

    damage: str = ""
    """What is wrong with the archive, with the first bad member; empty when nothing is wrong."""
    record: ArchiveRecord | None = None
    """The record that the database should have; None: its record is right."""
    manifest: Manifest | None = None
    """The manifest that the file should hold; None: the file is right."""
    mended: str = ""
    """What the new record or manifest repairs, in one line; empty when nothing was wrong (a seal is only added)."""
    only_manifest: bool = False
    """Only the manifest is damaged: nothing is known to be wrong with the archive itself."""


def examine(place: Place, record: ArchiveRecord, run: Run, *, quick: bool = False) -> Finding:
    """Compare an archive, its manifest and its record. UnreadableError, and errors of `run.check`.

    `quick` looks at sizes, the block table, the seal and the record. Even then the archive is read, when only its bytes
    can tell whether the record or the manifest is right.
    """
    try:
        return _examined(place, record, run, quick=quick)
    except BrokenSealError as error:
        return Finding(error.message, only_manifest=True)
    except (ArchiveNotFoundError, DamagedArchiveError) as error:
        return Finding(error.message)


def _examined(place: Place, record: ArchiveRecord, run: Run, *, quick: bool) -> Finding:
    manifest, mended = _manifest(place, record)
    differing = differences(record, manifest, place.relative)
    proves = bool(manifest.seal) and manifest.seal == record.seal
    deep = not quick or (bool(differing) and not proves)
    if deep:
        prove(place.archive, manifest, run, members=record.proved_at is None or bool(differing))
    else:
        check_size(place.archive, manifest)
    if not manifest.seal:
        return _first_seal(place, record, manifest, differing, run.check) if deep else Finding()
    if differing or (deep and record.seal is None):
        right = mended_record(record, manifest, place.relative)
        return Finding(record=right, mended=_said(differing) if differing else "")
    return Finding(manifest=manifest, mended=mended) if mended else Finding()


def _manifest(place: Place, record: ArchiveRecord) -> tuple[Manifest, str]:
    """The place's manifest, repaired from the record if its seal is broken; and its fault, or ""."""
    try:
        return manifest_at(place), ""
    except BrokenSealError:
        manifest = mended_manifest(place.manifest, record)
        if manifest is None:
            raise
        return manifest, "its manifest had a wrong value in one field, and was repaired from the database"


def _first_seal(
    place: Place, record: ArchiveRecord, manifest: Manifest, differing: tuple[str, ...], check: Check
) -> Finding:
    """The sealed manifest and the record, for an archive that agrees with a manifest without a seal.

    No byte proves when the archive was made and who asked for it. For these two fields the database is believed.
    """
    right = manifest
    if differing or record.proved_at is None:
        entries = list(entries_of(manifest, place.folder))
        files = [entry.size for entry in entries if entry.type is Kind.FILE]
        right = msgspec.structs.replace(
            manifest,
            asset_digest=_right_asset_digest(manifest, record, entries, check),
            totals=msgspec.structs.replace(manifest.totals, files=len(files), source_size=sum(files)),
            created_at=record.created_at,
            requested_by=record.requested_by,
        )
    said = mended_record(record, right, place.relative)
    changed = tuple(name for name in differing if getattr(record, name) != getattr(said, name))
    texts = [_said(changed)] if changed else []
    if right != manifest:
        texts.append("its manifest had another value in one field")
    return Finding(record=said, manifest=right, mended="; ".join(texts))


def _right_asset_digest(manifest: Manifest, record: ArchiveRecord, entries: list[Entry], check: Check) -> str:
    """The asset digest of the files: the manifest's or the record's. DamagedArchiveError: it is neither."""
    candidates = list(dict.fromkeys((manifest.asset_digest, record.asset_digest)))
    computed = asset_digest(entries, check)
    if computed in candidates:
        return computed
    for digest in candidates:
        if matching_order(lambda: entries, digest, check) or order_lacking_one(entries, digest, check):
            return digest
    if len(candidates) == 1 and manifest.asset_digest_order != C:
        return candidates[0]  # the builder's locale is not installed here
    raise DamagedArchiveError(
        f"the files of {manifest.key.registry_path} have another asset digest than its manifest says "
        f"({manifest.asset_digest})"
    )


def _said(fields: tuple[str, ...]) -> str:
    names = " and ".join(fields).replace("_", " ")
    return f"the database had another {names} than the manifest, which proved to be right"
