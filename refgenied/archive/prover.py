"""The proof: an archive is read from the disk, taken apart again, and every byte compared with its manifest.

The tar stream is not parsed but expected: from the list of members follows each header, byte for byte, and
each content's md5. So nothing can be in it that is not in the list, and no reader's leniency hides anything.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from refgenied.archive.format import tar
from refgenied.archive.format.codec import decompress
from refgenied.archive.format.pipeline import Pipeline
from refgenied.archive.format.stream import damage
from refgenied.archive.run import Check, Meter, OnProgress, Phase, no_check, no_progress
from refgenied.files.regular import open_regular, unreadable
from refgenied.genomes.walk import Kind
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from refgenied.archive.format.codec import Buffer
    from refgenied.archive.format.entries import Entry
    from refgenied.archive.format.manifest import Manifest


def prove(
    path: Path,
    manifest: Manifest,
    entries: Iterable[Entry],
    *,
    members: bool = True,
    threads: int = 1,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> None:
    """Read the archive at `path` and compare size, md5, blocks, headers and contents with manifest and
    entries.

    Without `members` the contents' own md5s are not taken: an archive with the md5 of one that was proved
    holds what that one held, and its blocks have checksums too.
    The pages are dropped from the cache first (those that are on the disk), so that the disk is what is read.
    DamagedArchiveError names the first bad member; ArchiveNotFoundError, UnreadableError.
    """
    fd = _open(path, manifest)
    try:
        md5 = hashlib.md5(usedforsecurity=False)
        comparison = _Comparison(path, manifest, entries, members=members)
        meter = Meter(Phase.PROVING, manifest.totals.source_size, on_progress)
        with Pipeline[bytes, "Buffer | None"](
            work=lambda member: decompress(member, manifest.blocks.size),
            then=comparison.compare,
            aside=md5.update,
            retire=lambda _: meter.show(comparison.source_bytes),
            threads=threads,
            check=check,
        ) as pipeline:
            for block in _blocks(fd, path, manifest):
                pipeline.push(block)
            pipeline.finish()
        comparison.finish()
        if md5.hexdigest() != manifest.digest:
            raise DamagedArchiveError(f"{path} has the md5 {md5.hexdigest()}, not {manifest.digest}")
        meter.show(comparison.source_bytes, last=True)
    finally:
        os.close(fd)


def _open(path: Path, manifest: Manifest) -> int:
    try:
        fd = open_regular(path)
    except FileNotFoundError as error:
        raise ArchiveNotFoundError(f"there is no archive {path}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    size = os.fstat(fd).st_size
    if size != manifest.size or size != sum(manifest.blocks.compressed):
        os.close(fd)
        raise DamagedArchiveError(f"{path} has {size} bytes, not {manifest.size}")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return fd


def _blocks(fd: int, path: Path, manifest: Manifest) -> Iterator[bytes]:
    offset = 0
    for size in manifest.blocks.compressed:
        try:
            block = os.pread(fd, size, offset)
        except OSError as error:
            raise damage(path, offset, error) from error
        offset += len(block)
        yield block


class _Comparison:
    """Takes the tar stream in pieces and compares it with what is expected."""

    def __init__(self, path: Path, manifest: Manifest, entries: Iterable[Entry], *, members: bool) -> None:
        self._path = path
        self._members = members
        self._block_size = manifest.blocks.size
        self._blocks = len(manifest.blocks.compressed)
        self._block = 0
        self._member = ""
        self._expected = self._stream(manifest.asset.encode(), entries)
        self._content: Entry | None = None
        self._literal = b""
        self._left = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.source_bytes = 0

    def compare(self, data: Buffer | None) -> None:
        """The next block of the stream; None for one that is damaged."""
        self._block += 1
        if data is None or (len(data) != self._block_size and self._block < self._blocks):
            if not self._left:
                self._next()  # the member that begins in this block is the first bad one
            raise self._damaged(f"block {self._block} of {self._blocks} is damaged")
        view = memoryview(data)
        while view:
            if not self._left and not self._next():
                raise self._damaged("there is more in it than its manifest lists")
            piece = view[: self._left]
            self._take(piece)
            view = view[len(piece) :]

    def finish(self) -> None:
        if self._left or self._next():
            raise self._damaged("it ends too early")

    def _take(self, piece: memoryview) -> None:
        self._left -= len(piece)
        if self._content is None:
            begin = len(self._literal) - self._left - len(piece)
            if bytes(piece) != self._literal[begin : begin + len(piece)]:
                raise self._damaged("its header or padding is not what was packed")
            return
        self.source_bytes += len(piece)
        if not self._members:
            return
        self._md5.update(piece)
        if not self._left and self._md5.hexdigest() != self._content.md5:
            raise self._damaged("its content has another md5")

    def _next(self) -> bool:
        """Begin with the next thing expected; False after the last."""
        for expected in self._expected:
            if isinstance(expected, bytes):
                self._content, self._literal, self._left = None, expected, len(expected)
            else:
                self._content, self._left = expected, expected.size
                self._md5 = hashlib.md5(usedforsecurity=False)
            if self._left:
                return True
        return False

    def _stream(self, top: bytes, entries: Iterable[Entry]) -> Iterator[bytes | Entry]:
        """The whole tar: literal bytes, and files in place of their content."""
        length = 0
        for entry in entries:
            self._member = entry.path or "."
            head = header_of(top, entry)
            length += len(head) + entry.size
            yield head
            if entry.type is Kind.FILE:
                if entry.offset != length - entry.size:
                    raise self._damaged("it begins at another place than its manifest says")
                yield entry
                pad = tar.padding(entry.size)
                length += len(pad)
                yield pad
        self._member = ""
        yield tar.ending(length)

    def _damaged(self, what: str) -> DamagedArchiveError:
        where = f"at the member {self._member!r}" if self._member else "at its end"
        return DamagedArchiveError(f"{self._path} is damaged {where}: {what}")


def header_of(top: bytes, entry: Entry) -> bytes:
    """The header blocks of a member of the archive whose top folder is `top`."""
    return tar.header(
        tar.member_name(top, entry.raw_path, entry.type),
        entry.type,
        mode=entry.permissions,
        size=entry.size,
        mtime=entry.mtime,
        target=entry.raw_target,
    )
