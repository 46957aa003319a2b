"""Reading an archive back: against its manifest, or as far as an archive without one can be judged."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format.arguments import archive_of, require_callable, require_switch, threads_of
from refgenied.archive.format.digests import ContentDigest
from refgenied.archive.format.members import Contents, damaged_at, is_seekable, listed, manifest_beside, same
from refgenied.archive.prover import prove
from refgenied.archive.run import Check, Meter, OnProgress, Phase, no_check, no_progress
from refgenied.archive.vetting import Vetting
from refgenied.files.regular import unreadable
from refgenied.genomes.walk import Kind
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from refgenied.archive.format.entries import Entry
    from refgenied.archive.format.manifest import Manifest


class Verified(msgspec.Struct, frozen=True):
    """An archive that was found to be sound."""

    proved: bool
    """Every byte agrees with the manifest. False: `quick`, or there is no manifest and the archive is a sound tar whose
    gzip checksums hold, with members that can be extracted."""
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
    all headers are compared, but not the md5 of each file: enough, and much faster, for one that was proved before
    (an archive with the same md5 holds the same bytes). `threads` decompress; 0: all cores. What is wrong is raised:
    DamagedArchiveError (with the first bad member), UnsafeTreeError (no manifest, and a member that must not be
    extracted), ArchiveNotFoundError, UnreadableError; BadArgumentError for an argument that cannot be meant.
    """
    path = archive_of(archive)
    require_switch(quick, "quick")
    require_switch(members, "members")
    cores = threads_of(threads)
    require_callable(on_progress, "on_progress")
    require_callable(check, "check")
    manifest = manifest_beside(path)
    if manifest is None:
        return _judge_foreign(path, on_progress, check, quick=quick)
    if quick:
        check_sizes(path, manifest)
    else:
        prove_all(
            path,
            manifest,
            lambda: listed(path, manifest),
            members=members,
            threads=cores,
            on_progress=on_progress,
            check=check,
        )
    return Verified(not quick, manifest.totals.files, manifest.totals.source_size)


def check_sizes(path: Path, manifest: Manifest) -> None:
    """The file is there, has its size, and the block table adds up to it."""
    blocks = sum(manifest.blocks.compressed)
    if blocks and blocks != manifest.size:
        raise DamagedArchiveError(f"the block table in the manifest of {path} adds up to {blocks} bytes")
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(f"{path} is missing ({error.strerror})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if size != manifest.size:
        raise DamagedArchiveError(f"{path} has {size} bytes, and its manifest says {manifest.size}")


def prove_all(
    path: Path,
    manifest: Manifest,
    entries: Callable[[], Iterable[Entry]],
    *,
    members: bool = True,
    threads: int = 1,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> None:
    """Compare every byte of an archive with its manifest, whoever made it. Errors as `prove`.

    `entries` gives the manifest's members. Without `members` (for one that was proved before) the file's md5, every
    block's checksum, every header and the digest of the list are compared, on all threads; the md5 of a large member,
    which only one core can take, is then needed only to name the first bad one.
    """
    if not is_seekable(manifest):
        _prove_stream(path, manifest, entries(), on_progress, check)
        return
    try:
        listing = iter(_Listing(path, manifest, entries()))
        prove(path, manifest, listing, members=members, threads=threads, on_progress=on_progress, check=check)
    except DamagedArchiveError:
        if not members:
            prove(path, manifest, entries(), threads=threads, on_progress=on_progress, check=check)
        raise


class _Listing:
    """The members of a manifest; at their end DamagedArchiveError when they are not those that were packed."""

    def __init__(self, path: Path, manifest: Manifest, entries: Iterable[Entry]) -> None:
        self._path = path
        self._manifest = manifest
        self._entries = entries

    def __iter__(self) -> Iterator[Entry]:
        digest = ContentDigest()
        for entry in self._entries:
            digest.add([entry])
            yield entry
        if digest.hexdigest() != self._manifest.content_digest:
            raise DamagedArchiveError(f"the manifest of {self._path} does not list what was packed")


def _prove_stream(
    path: Path, manifest: Manifest, entries: Iterable[Entry], on_progress: OnProgress, check: Check
) -> None:
    check_sizes(path, manifest)
    md5 = hashlib.md5(usedforsecurity=False)
    meter = Meter(Phase.PROVING, manifest.totals.source_size, on_progress)
    expected = iter(entries)
    done = 0
    entry: Entry | None = None
    try:
        with Contents(path, observe=md5.update) as contents:
            for found in contents:
                check()
                entry = next(expected, None)
                if entry is None or not same(entry, found):
                    raise damaged_at(path, entry, "its header is not what it was")
                done += entry.size
                if contents.md5(entry, check) != entry.md5:
                    raise damaged_at(path, entry, "its content has another md5")
                meter.show(done)
    except DamagedArchiveError as error:
        if " is damaged at " in error.message:
            raise
        what = error.message.removeprefix(f"{path} ")
        raise damaged_at(path, entry or next(expected, None), what) from error
    if next(expected, None) is not None:
        raise damaged_at(path, None, "it ends too early")
    if md5.hexdigest() != manifest.digest:
        raise DamagedArchiveError(f"{path} has the md5 {md5.hexdigest()}, not {manifest.digest}")
    meter.show(done, last=True)


def _judge_foreign(path: Path, on_progress: OnProgress, check: Check, *, quick: bool) -> Verified:
    if quick:
        return Verified(proved=False, files=0, size=0)
    vetting = Vetting(str(path), leave_out_stray=True)
    meter = Meter(Phase.READING, 0, on_progress)
    files = 0
    with Contents(path) as contents:
        for entry in contents:
            vetting.add(entry.raw_path, entry.type, entry.size, entry.raw_target)
            files += entry.type is Kind.FILE
            for _ in contents.content():
                check()
            meter.show(vetting.total)
    vetting.finish(check)
    return Verified(proved=False, files=files, size=vetting.total)
