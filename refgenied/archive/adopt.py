"""Takes over archives that exist already. Nothing is compressed again.

An archive of ours comes with its manifest. An archive of another program is read once to make its manifest: members,
md5s, digests. Its file is not changed: our name is a hard link to it, or on another disk a copy of it.
"""

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

import msgspec

from refgenied.archive.creator import write_manifest
from refgenied.archive.format.codec import CodecRecord
from refgenied.archive.format.digests import ContentDigest
from refgenied.archive.format.entries import EntryList, sidecar_entries
from refgenied.archive.format.manifest import About, BlockTable, Packed
from refgenied.archive.format.members import ArchiveMembers
from refgenied.archive.packer import in_packing_order
from refgenied.archive.place import Place, manifest_at
from refgenied.archive.prover import prove
from refgenied.archive.publisher import Draft, drafting, write_manifest_partial
from refgenied.archive.run import Check, Run
from refgenied.archive.vetting import Vetting, vetted
from refgenied.files.durable import keep_beside, write_all, writing
from refgenied.files.regular import opener, reading
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError, UnreadableError

UNKNOWN_CODEC = CodecRecord(name="gzip", level=0, library="another program", version="", machine="")
"""The codec of an archive that we did not make."""
_READ_BYTES = 1 << 20
REPLACED = "replaced"
"""When our archive gets the name of another program's archive, that archive is kept as `….tgz.replaced`."""


def take_foreign(archive: Path, place: Place, about: About, run: Run, *, digest: str | None = None) -> Draft:
    """Read an archive that another program made, and make a draft for `place` from it, with a manifest.

    Its bytes do not change. `archive` may be `place.archive` itself. `digest`: the md5 that it must have. Every gzip
    checksum is compared, and the asset digest when `about` has one. On any error nothing is left: DamagedArchiveError,
    UnsafeTreeError (a member is of a kind that no asset has), DigestMismatchError, ArchiveNotFoundError,
    UnreadableError, NoSpaceError, WriteError.
    """
    with drafting(place):
        _bring(archive, place.archive_partial, run.check)
        found = _survey(place, run)
        if digest not in (None, found.digest):
            raise DamagedArchiveError(f"{archive} has the md5 {found.digest}, and genome_config.yaml says {digest}")
        manifest = write_manifest(place, about, found, UNKNOWN_CODEC, run.check)
    return Draft(place, manifest)


def take_ours(source: Place, place: Place, run: Run) -> Draft:
    """Bring an archive of ours from another archive folder, and prove it. Errors as for `take_foreign`.

    An archive that a user has removed there is brought too.
    """
    manifest = msgspec.structs.replace(manifest_at(source), removed=None)
    if manifest.entries_file is not None and manifest.entries_file.name != source.entries.name:
        raise DamagedArchiveError(f"{source.manifest} names another list of files than {source.entries.name}")
    with drafting(place):
        _bring(source.archive, place.archive_partial, run.check)
        if manifest.entries_file is not None:
            _bring(source.entries, place.entries_partial, run.check)
        manifest = write_manifest_partial(place, manifest)
        prove(place.archive_partial, manifest, run, listing=place.entries_partial.name)
    return Draft(place, manifest)


def make_way(place: Place) -> Path | None:
    """Before a publish: rename another program's archive to `….tgz.replaced`, and return that path.

    None when there is no such archive. WriteError.
    """
    if not os.path.lexists(place.archive) or os.path.lexists(place.manifest):
        return None
    with writing(place.archive):
        aside = keep_beside(place.archive, REPLACED)
        place.archive.unlink()
    return aside


def _bring(file: Path, partial: Path, check: Check) -> None:
    """Make a hard link, or on another disk (or where links are refused) a copy, durably.

    A file of another owner is copied too: through a hard link, that owner could write into the published archive.
    """
    if not file.is_file():
        raise ArchiveNotFoundError(f"there is no archive {file}")
    if file.is_symlink():  # it may lead to a file that the daemon may read and others may not
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
    with reading(file):
        source = open(file, "rb", buffering=0, opener=opener)  # noqa: SIM115 (closed below)
    with source, writing(partial), partial.open("xb", buffering=0) as copy:
        while chunk := source.read(_READ_BYTES):
            check()
            write_all(copy.fileno(), chunk)
        os.fsync(copy.fileno())
        shutil.copystat(file, partial)


def _survey(place: Place, run: Run) -> Packed:
    """Read the archive, and make the same facts that packing makes."""
    path = place.archive_partial
    md5 = hashlib.md5(usedforsecurity=False)
    vetting = Vetting(str(place.archive), leave_out_stray=True)
    mode = stat.S_IMODE(path.stat().st_mode) & 0o666
    with EntryList(place.entries.name, place.entries_partial, mode) as entries:
        with ArchiveMembers(path, observe=md5.update) as members:
            for entry in vetted(members, vetting, run, hashed=True):
                entries.add([entry])
        vetting.finish(run.check)
        if members.top != place.key.asset.encode():
            raise DamagedArchiveError(
                f"{place.archive} holds the folder {members.top.decode(errors='backslashreplace')!r}, "
                f"not {place.key.asset!r}"
            )
        inline, sidecar = entries.finish()
    listing = sidecar_entries(place.entries_partial, sidecar) if sidecar else iter(inline or ())
    digest = ContentDigest()
    for entry in in_packing_order(place.key.asset.encode(), listing):
        digest.add([entry])
    return Packed(
        size=path.stat().st_size,
        digest=md5.hexdigest(),
        content_digest=digest.hexdigest(),
        asset_digest="",
        totals=entries.totals,
        blocks=BlockTable(0, ()),
        entries=inline,
        entries_file=sidecar,
    )
