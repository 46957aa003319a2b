"""Archives that are there already, taken over as they are: nothing is compressed again.

Ours come with their manifest. Those of other programs are read once, to learn what a manifest must say: members, md5s,
digests. Their file stays as it is, under our name: a hard link, or on another disk a copy.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.creator import manifest_of, recomputed_asset_digest
from refgenied.archive.format import tar
from refgenied.archive.format.codec import CodecRecord
from refgenied.archive.format.digests import ContentDigest
from refgenied.archive.format.entries import Entry, EntryList, sidecar_entries
from refgenied.archive.format.manifest import BlockTable, Totals, entries_of, read_manifest
from refgenied.archive.format.members import Contents
from refgenied.archive.format.sorting import sorted_tokens
from refgenied.archive.packer import Packed
from refgenied.archive.presence import manifest_at
from refgenied.archive.publisher import Draft, discard, make_folders, write_manifest_partial
from refgenied.archive.run import Check, Meter, OnProgress, Phase, no_check, no_progress
from refgenied.archive.verifier import prove_all
from refgenied.archive.vetting import Vetting
from refgenied.files.durable import keep_beside, writing
from refgenied.files.regular import opener, unreadable
from refgenied.genomes.walk import Kind
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError, UnreadableError, WriteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from refgenied.archive.format.manifest import About
    from refgenied.archive.place import Place

UNKNOWN_CODEC = CodecRecord(name="gzip", level=0, library="another program", version="", machine="")
"""Of an archive that we did not make."""
_CHUNK = 1 << 20
REPLACED = "replaced"
"""How a file of another program is kept when ours takes its name: `….tgz.replaced`."""


def take_foreign(
    archive: Path,
    place: Place,
    about: About,
    *,
    digest: str | None = None,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Draft:
    """Read an archive that another program made, and draft it for `place` with a manifest; its bytes stay.

    `archive` may be `place.archive` itself. `digest`: the md5 that it must have. Every gzip checksum is compared,
    and the asset digest when `about` has one. On any error nothing is left: DamagedArchiveError, UnsafeTreeError
    (it holds what no asset has), DigestMismatchError, ArchiveNotFoundError, UnreadableError, NoSpaceError, WriteError.
    """
    make_folders(place)
    try:
        discard(place, folders=False)
        _bring(archive, place.archive_partial, check)
        found = _survey(place, on_progress, check)
        _require_digest(archive, found, digest)
        asset_digest, order = recomputed_asset_digest(place, found, about.asset_digest, check)
        manifest = manifest_of(place, about, found, UNKNOWN_CODEC, asset_digest, order)
        write_manifest_partial(place, manifest)
    except BaseException:
        with suppress(WriteError):
            discard(place)
        raise
    return Draft(place, read_manifest(place.manifest_partial))


def take_ours(
    source: Place,
    place: Place,
    *,
    threads: int = 1,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Draft:
    """Bring an archive of ours from another archive folder, and prove it. Errors as for `take_foreign`.

    That it was removed there does not matter here.
    """
    manifest = msgspec.structs.replace(manifest_at(source), removed=None)
    if manifest.entries_file is not None and manifest.entries_file.name != source.entries.name:
        raise DamagedArchiveError(f"{source.manifest} names another list of files than {source.entries.name}")
    make_folders(place)
    try:
        discard(place, folders=False)
        _bring(source.archive, place.archive_partial, check)
        if manifest.entries_file is not None:
            _bring(source.entries, place.entries_partial, check)
        write_manifest_partial(place, manifest)
        prove_all(
            place.archive_partial,
            manifest,
            lambda: entries_of(manifest, source.folder),
            threads=threads,
            on_progress=on_progress,
            check=check,
        )
    except BaseException:
        with suppress(WriteError):
            discard(place)
        raise
    return Draft(place, read_manifest(place.manifest_partial))


def make_way(place: Place) -> Path | None:
    """Before a publish: an archive that another program made gets another name, `….tgz.replaced`, which is returned.

    None when there is none. WriteError.
    """
    if not os.path.lexists(place.archive) or os.path.lexists(place.manifest):
        return None
    with writing(place.archive):
        aside = keep_beside(place.archive, REPLACED)
        place.archive.unlink()
    return aside


def _bring(file: Path, partial: Path, check: Check) -> None:
    """A hard link, or on another disk (or where links are refused) a copy that is on the disk.

    A file of somebody else is copied too: its owner could write what is published.
    """
    if not file.is_file():
        raise ArchiveNotFoundError(f"there is no archive {file}")
    if file.is_symlink():  # to whatever we may read, and others perhaps not
        raise UnreadableError(f"{file} is a link: it is not taken", hint="import the folder that it leads to")
    try:
        if file.lstat().st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it belongs to somebody else")
        os.link(file, partial, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            with writing(partial):
                raise
    else:
        return
    try:
        source = open(file, "rb", buffering=0, opener=opener)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise unreadable(file, error) from error
    with source, writing(partial), partial.open("xb", buffering=0) as copy:
        while chunk := source.read(_CHUNK):
            check()
            copy.write(chunk)
        os.fsync(copy.fileno())
        shutil.copystat(file, partial)


def _require_digest(archive: Path, found: Packed, digest: str | None) -> None:
    if digest is not None and found.digest != digest:
        raise DamagedArchiveError(f"{archive} has the md5 {found.digest}, and genome_config.yaml says {digest}")


def _survey(place: Place, on_progress: OnProgress, check: Check) -> Packed:
    """What packing would have told."""
    path = place.archive_partial
    md5 = hashlib.md5(usedforsecurity=False)
    vetting = Vetting(str(place.archive), leave_out_stray=True)
    meter = Meter(Phase.READING, 0, on_progress)
    counts = {Kind.FILE: 0, Kind.FOLDER: 0, Kind.LINK: 0}
    mode = stat.S_IMODE(path.stat().st_mode) & 0o666
    with EntryList(place.entries.name, place.entries_partial, mode) as entries:
        with Contents(path, observe=md5.update) as contents:
            for found in contents:
                check()
                vetting.add(found.raw_path, found.type, found.size, found.raw_target)
                entries.add([msgspec.structs.replace(found, md5=contents.md5(found, check))])
                counts[found.type] += 1
                meter.show(vetting.total)
        vetting.finish(check)
        if contents.top != place.key.asset.encode():
            raise DamagedArchiveError(
                f"{place.archive} holds the folder {contents.top.decode(errors='backslashreplace')!r}, "
                f"not {place.key.asset!r}"
            )
        inline, sidecar = entries.finish()
    listing = sidecar_entries(place.entries_partial, sidecar) if sidecar else iter(inline or ())
    return Packed(
        size=path.stat().st_size,
        digest=md5.hexdigest(),
        content_digest=_content_digest(place.key.asset.encode(), listing),
        asset_digest="",
        in_order=False,
        totals=Totals(counts[Kind.FILE], counts[Kind.FOLDER], counts[Kind.LINK], vetting.total),
        blocks=BlockTable(0, ()),
        entries=inline,
        entries_file=sidecar,
    )


def _content_digest(top: bytes, entries: Iterable[Entry]) -> str:
    """In the order in which we would have packed them; memory is bounded."""
    digest = ContentDigest()

    def lines() -> Iterator[tuple[bytes, bytes]]:
        for entry in entries:
            yield msgspec.json.encode(entry), tar.member_name(top, entry.raw_path, entry.type)

    for line in sorted_tokens(lines()):
        digest.add([msgspec.json.decode(line, type=Entry)])
    return digest.hexdigest()
