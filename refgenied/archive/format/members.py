"""The members of an archive at any path: as its manifest lists them, and as the file itself has them."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from refgenied.archive.format.codec import Buffer
from refgenied.archive.format.digests import ContentDigest
from refgenied.archive.format.entries import Entry, lost_list, new_entry
from refgenied.archive.format.manifest import Manifest, entries_of, is_seekable, list_at, read_manifest
from refgenied.archive.format.stream import Observe, open_archive, open_source
from refgenied.archive.format.tar_reader import TarMember, TarReader
from refgenied.archive.run import Check
from refgenied.files.regular import unreadable
from refgenied.genomes.enclosure import shown
from refgenied.genomes.member import Kind
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError, UnsafeTreeError


def manifest_beside(archive: Path) -> Manifest | None:
    """The manifest beside an archive (`X.json` of `X.tgz`); None when there is none.

    ArchiveNotFoundError: there is no archive. DamagedArchiveError: the manifest is not one of refgenied's, or the
    archive does not have the size in it.
    """
    try:
        manifest = read_manifest(archive.with_suffix(".json"))
    except ArchiveNotFoundError:
        os.close(open_archive(archive))
        return None
    check_size(archive, manifest)
    return manifest


def check_size(archive: Path, manifest: Manifest, *, listing: str | None = None, fd: int | None = None) -> None:
    """Check that the archive and the list of its members exist and have the sizes in the manifest.

    `listing`: the name of the file with the list, when it does not have its final name yet. `fd`: a descriptor of the
    archive, if it is open. ArchiveNotFoundError, DamagedArchiveError, UnreadableError.
    """
    in_blocks = sum(manifest.blocks.compressed)
    if in_blocks and in_blocks != manifest.size:
        raise DamagedArchiveError(f"the block table in the manifest of {archive} adds up to {in_blocks} bytes")
    require_size(archive, manifest.size, fd)
    if manifest.entries_file is not None:
        path = list_at(manifest.entries_file, archive.parent, listing)
        try:
            require_size(path, manifest.entries_file.size)
        except ArchiveNotFoundError as error:
            raise lost_list(path) from error


def require_size(path: Path, size: int, fd: int | None = None) -> None:
    """Check that there is a regular file of this size. `fd`: its descriptor, if it is open. Errors as `check_size`."""
    try:
        info = os.stat(path if fd is None else fd)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(f"{path} is missing ({error.strerror})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(info.st_mode) or info.st_size != size:
        raise DamagedArchiveError(f"{path} has {info.st_size} bytes, and its manifest says {size}")


def as_packed(archive: Path, manifest: Manifest, listing: str | None = None) -> Iterator[Entry]:
    """The members that the manifest of an archive of ours lists, streaming.

    After the last member: DamagedArchiveError when the list is not the one that was packed. `listing` as `check_size`.
    """
    digest = ContentDigest()
    for entry in entries_of(manifest, archive.parent, listing):
        digest.add([entry])
        yield entry
    if is_seekable(manifest) and digest.hexdigest() != manifest.content_digest:
        raise DamagedArchiveError(f"the manifest of {archive} does not list what was packed")


class ArchiveMembers:
    """The members of an archive in its own order, read from the file itself: entries, and their content.

    `threads` decompress where there is a block table. A context manager; iterate once. Errors as `TarReader` and
    `open_source`, and UnsafeTreeError when the members do not all lie in one top folder.
    """

    def __init__(
        self, archive: Path, manifest: Manifest | None = None, *, threads: int = 1, observe: Observe | None = None
    ) -> None:
        self._archive = archive
        self._source = open_source(archive, manifest, threads=threads, observe=observe)
        self._pieces = self._source.pieces()
        self._tar = TarReader(self._pieces, archive)
        self.top = b""
        """The name of the top folder; known from the first member on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pieces.close()  # ends the threads that read ahead
        self._source.__exit__()

    def __iter__(self) -> Iterator[Entry]:
        """Entries without md5."""
        for member in self._tar:
            yield new_entry(
                self._below_top(member),
                member.kind,
                mode=member.mode,
                mtime=member.mtime,
                size=member.size,
                target=member.target,
                offset=member.offset if member.kind is Kind.FILE else 0,
            )

    def content(self) -> Iterator[memoryview]:
        """The content of the last member that was given, in pieces of 1 MiB at most; no pieces if it is not a file."""
        return self._tar.content()

    def md5(self, entry: Entry, check: Check) -> str:
        """The md5 of the last member that was given; "" if it is not a file. An error from `check` ends the reading."""
        return md5_of(self.content(), check)[0] if entry.type is Kind.FILE else ""

    def _below_top(self, member: TarMember) -> bytes:
        name = member.name
        if not self.top:
            self.top = name.partition(b"/")[0]
            if self.top in (b"", b".", b"..") or (name == self.top and member.kind is not Kind.FOLDER):
                raise self._no_top(name)
        if name == self.top:
            return b""
        if not name.startswith(self.top + b"/"):
            raise self._no_top(name)
        return name[len(self.top) + 1 :]

    def _no_top(self, name: bytes) -> UnsafeTreeError:
        return UnsafeTreeError(
            f"{self._archive} is refused: {shown(name) or 'a member without a name'} does not lie in one top folder "
            "with the rest, as an asset's files do",
            hint="nothing was extracted; look at it with `tar tvf`",
        )


def compare_members(
    archive: Path, members: ArchiveMembers, expected: Iterable[Entry], take: Callable[[Entry], None], check: Check
) -> None:
    """Compare the members of an archive with the expected members, in order. `take` reads the content of each.

    DamagedArchiveError names the first member that differs, is damaged or is missing.
    """
    to_come = iter(expected)
    entry: Entry | None = None
    try:
        for found in members:
            check()
            entry = next(to_come, None)
            if entry is None or not same(entry, found):
                raise damaged_at(archive, entry, "its header is not what was packed")
            take(entry)
    except DamagedMemberError:
        raise
    except DamagedArchiveError as error:
        what = error.message.removeprefix(str(archive)).lstrip(": ")
        raise damaged_at(archive, entry or next(to_come, None), what) from error
    if next(to_come, None) is not None:
        raise damaged_at(archive, None, "it ends too early")


def same(entry: Entry, found: Entry) -> bool:
    """Whether a member of the file is the one that the manifest lists, except for its content."""
    return (
        entry.raw_path == found.raw_path
        and entry.type is found.type
        and entry.size == found.size
        and entry.raw_target == found.raw_target
        and (entry.permissions, entry.mtime, entry.offset) == (found.permissions, found.mtime, found.offset)
    )


class DamagedMemberError(DamagedArchiveError):
    """An error that names the member where the archive is damaged."""


def damaged_at(archive: Path, entry: Entry | None, what: str) -> DamagedMemberError:
    """The error for an archive that differs from its manifest at this entry; None: at its end."""
    where = f"at the member {entry.path or '.'!r}" if entry else "at its end"
    return DamagedMemberError(f"{archive} is damaged {where}: {what}")


def md5_of(pieces: Iterable[Buffer], check: Check) -> tuple[str, int]:
    """The md5 of these pieces, and the number of their bytes. An error from `check` ends the reading."""
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    for piece in pieces:
        check()
        md5.update(piece)
        size += len(piece)
    return md5.hexdigest(), size
