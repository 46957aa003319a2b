"""An archive by its plain path, and what is known of it: its manifest, if there is one beside it, and its members."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Self

from refgenied.archive.format.entries import Entry, new_entry
from refgenied.archive.format.manifest import Manifest, entries_of, read_manifest
from refgenied.archive.format.stream import Observe, open_source
from refgenied.archive.format.tar_reader import Members, TarMember
from refgenied.files.regular import unreadable
from refgenied.genomes.enclosure import shown
from refgenied.genomes.walk import Kind
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError, UnsafeTreeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from refgenied.archive.run import Check


def manifest_beside(archive: Path) -> Manifest | None:
    """The manifest beside an archive (`X.json` of `X.tgz`); None when there is none.

    ArchiveNotFoundError without the archive; DamagedArchiveError for a manifest that is none of ours, or that
    describes an archive of another size.
    """
    try:
        size = os.stat(archive).st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(f"there is no archive {archive} ({error.strerror})") from error
    except OSError as error:
        raise unreadable(archive, error) from error
    try:
        manifest = read_manifest(archive.with_suffix(".json"))
    except ArchiveNotFoundError:
        return None
    if manifest.size != size:
        raise DamagedArchiveError(f"{archive} has {size} bytes, and its manifest says {manifest.size}")
    return manifest


def listed(archive: Path, manifest: Manifest) -> Iterator[Entry]:
    """The members as the manifest lists them, streaming; errors as `manifest.iter_files`."""
    return entries_of(manifest, archive.parent)


def is_seekable(manifest: Manifest | None) -> bool:
    """Whether any part can be read without what is before it."""
    return manifest is not None and bool(manifest.blocks.compressed)


class Contents:
    """The members of an archive in its own order, read from the file itself: entries, and their content.

    `threads` decompress where there is a block table. A context manager; iterate once. Errors as `Members` and
    `open_source`, and UnsafeTreeError when not all lies in one top folder.
    """

    def __init__(
        self, archive: Path, manifest: Manifest | None = None, *, threads: int = 1, observe: Observe | None = None
    ) -> None:
        self._archive = archive
        self._source = open_source(archive, manifest.blocks if manifest else None, threads=threads, observe=observe)
        self._pieces = self._source.pieces()
        self._members = Members(self._pieces, archive)
        self.top = b""
        """The name of the top folder; known from the first member on."""
        self._member: TarMember | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close = getattr(self._pieces, "close", None)  # ends the threads that read ahead
        if close is not None:
            close()
        self._source.__exit__()

    def __iter__(self) -> Iterator[Entry]:
        """Entries without md5."""
        for member in self._members:
            yield new_entry(
                self._below_top(member),
                member.kind,
                mode=member.mode,
                mtime=member.mtime,
                size=member.size,
                md5="",
                target=member.target,
                offset=member.offset if member.kind is Kind.FILE else 0,
            )

    def content(self) -> Iterator[memoryview]:
        """The content of the file given last, in pieces of 1 MiB at most."""
        return self._members.content()

    def md5(self, entry: Entry, check: Check) -> str:
        """Read the content of the file given last; "" for what is no file. Whatever `check` raises ends it."""
        if entry.type is not Kind.FILE:
            return ""
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in self.content():
            check()
            md5.update(piece)
        return md5.hexdigest()

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


def same(entry: Entry, found: Entry) -> bool:
    """Whether a member of the file is what the manifest lists; contents apart."""
    return (
        entry.raw_path == found.raw_path
        and entry.type is found.type
        and entry.size == found.size
        and entry.raw_target == found.raw_target
        and (entry.permissions, entry.mtime, entry.offset) == (found.permissions, found.mtime, found.offset)
    )


def damaged_at(archive: Path, entry: Entry | None, what: str) -> DamagedArchiveError:
    """The error for an archive that is not what its manifest says."""
    where = f"at the member {entry.path or '.'!r}" if entry else "at its end"
    return DamagedArchiveError(f"{archive} is damaged {where}: {what}")
