"""Reads one member of an archive, or a part of it. With a block table nothing in front of that part is read."""

import os
import posixpath
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from refgenied.archive.format.arguments import archive_of, count_of, member_path_of
from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import Manifest, entries_of
from refgenied.archive.format.members import ArchiveMembers, manifest_beside
from refgenied.archive.format.stream import open_source
from refgenied.genomes.enclosure import MAX_LINKS, shown
from refgenied.genomes.member import Kind
from refgenied.model import DamagedArchiveError, MemberNotFoundError


class MemberReader:
    """Reads one file of an archive, any part of it, from any thread (one at a time). A context manager.

    `member` is the file's path in the asset, or the path of a link that leads to the file. BadArgumentError,
    ArchiveNotFoundError, MemberNotFoundError, DamagedArchiveError, UnreadableError.
    """

    def __init__(self, archive: str | os.PathLike[str], member: str) -> None:
        path, wanted = archive_of(archive), member_path_of(member)
        manifest = manifest_beside(path)
        self.entry = _find(path, manifest, wanted)
        self._path = path
        self._source = open_source(path, manifest)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._source.__exit__()

    @property
    def size(self) -> int:
        return self.entry.size

    @property
    def md5(self) -> str:
        """The md5 of the whole file, as the manifest has it; "" when there is no manifest."""
        return self.entry.md5

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[memoryview]:
        """The bytes from `start` on, at most `length` (None: to the end), in pieces of 1 MiB at most.

        After the file's end there are no pieces. BadArgumentError: a number is below 0. DamagedArchiveError: it may
        come after some pieces.
        """
        left = max(0, self.size - count_of(start, "start"))
        left = left if length is None else min(left, count_of(length, "length"))
        return self._pieces(start, left) if left else iter(())

    def _pieces(self, start: int, left: int) -> Iterator[memoryview]:
        for piece in self._source.pieces(self.entry.offset + start, left):
            left -= len(piece)
            yield piece
        if left:
            raise DamagedArchiveError(f"{self._path} ends within its member {self.entry.path!r}")

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """The same bytes, all at once."""
        with self._lock:
            return b"".join(self.pieces(start, length))


def read(archive: str | os.PathLike[str], member: str, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of one file of an archive: `length` of them from `start` on (None: all that follow).

    With a manifest beside the archive only the blocks with these bytes are read. Without one everything before them is
    decompressed, in bounded memory. After the file's end the result is `b""`. BadArgumentError, ArchiveNotFoundError,
    MemberNotFoundError, DamagedArchiveError, UnreadableError.
    """
    with MemberReader(archive, member) as reader:
        return reader.read(start, length)


def _find(path: Path, manifest: Manifest | None, wanted: bytes) -> Entry:
    asked = wanted
    for _ in range(MAX_LINKS):
        entry = _look_up(path, manifest, wanted)
        if entry is None:
            break
        if entry.type is Kind.FILE:
            return entry
        if entry.type is Kind.FOLDER:
            raise MemberNotFoundError(f"{shown(asked) or '.'} in {path} is a folder", hint="name a file in it")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(wanted), entry.raw_target))
    raise MemberNotFoundError(
        f"{path} has no file {shown(asked) or '.'}",
        hint="`refgeniectl archive show` lists them; names are relative to the asset's folder",
    )


def _look_up(path: Path, manifest: Manifest | None, wanted: bytes) -> Entry | None:
    if manifest is not None:
        return next((entry for entry in entries_of(manifest, path.parent) if entry.raw_path == wanted), None)
    with ArchiveMembers(path) as members:
        return next((entry for entry in members if entry.raw_path == wanted), None)
