"""The proof: an archive is read from the disk, taken apart again, and every byte is compared with its manifest.

The tar stream of an archive of ours is not parsed. Every byte of its headers follows from the list of members, and so
does the md5 of each content. So the archive can hold nothing that is not in the list, and no tolerant reader can hide a
difference. An archive that another program made has headers of other forms, so each of its members is parsed.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from refgenied.archive.format import tar
from refgenied.archive.format.codec import Buffer, decompress
from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import Manifest, is_seekable
from refgenied.archive.format.members import ArchiveMembers, as_packed, check_size, compare_members, damaged_at
from refgenied.archive.format.pipeline import Pipeline
from refgenied.archive.format.stream import open_archive, read_block
from refgenied.archive.run import Phase, Run
from refgenied.files.regular import descriptor
from refgenied.genomes.member import Kind
from refgenied.model import DamagedArchiveError


def prove(archive: Path, manifest: Manifest, run: Run, *, members: bool = True, listing: str | None = None) -> None:
    """Read an archive and compare its size, md5, blocks, headers and contents with its manifest.

    Without `members` the md5 of each file is not taken, which is much faster. This is enough for an archive that was
    proved before: an archive with the same md5 holds the same bytes, and its blocks have checksums too. When this
    comparison fails, the archive is read again to name the first bad member.
    `listing`: the name of the file with the list of members, when it does not have its final name yet.
    DamagedArchiveError names the first bad member. ArchiveNotFoundError, UnreadableError, and errors of `run.check`.
    """
    if not is_seekable(manifest):
        _prove_stream(archive, manifest, run, listing)
        return
    try:
        _prove_blocks(archive, manifest, run, listing, members=members)
    except DamagedArchiveError:
        if not members:
            _prove_blocks(archive, manifest, run, listing, members=True)
        raise


def _prove_blocks(archive: Path, manifest: Manifest, run: Run, listing: str | None, *, members: bool) -> None:
    """Prove an archive with a block table. The kernel's cache drops it first, so the disk itself is read."""
    with descriptor(open_archive(archive)) as fd:
        check_size(archive, manifest, listing=listing, fd=fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        md5 = hashlib.md5(usedforsecurity=False)
        comparison = _Comparison(archive, manifest, as_packed(archive, manifest, listing), members=members)
        reporter = run.reporter(Phase.PROVING, manifest.totals.source_size)
        with Pipeline[bytes, Buffer | None](
            work=lambda block: decompress(block, manifest.blocks.size),
            then=comparison.compare,
            aside=md5.update,
            retire=lambda _: reporter.show(comparison.source_bytes),
            run=run,
        ) as pipeline:
            begin = 0
            for size in manifest.blocks.compressed:
                pipeline.push(read_block(fd, archive, begin, size))
                begin += size
            pipeline.finish()
        comparison.finish()
        _require_digest(archive, manifest, md5.hexdigest())
        reporter.show(comparison.source_bytes, last=True)


def _require_digest(archive: Path, manifest: Manifest, digest: str) -> None:
    if digest != manifest.digest:
        raise DamagedArchiveError(f"{archive} has the md5 {digest}, not {manifest.digest}")


def _prove_stream(archive: Path, manifest: Manifest, run: Run, listing: str | None) -> None:
    check_size(archive, manifest, listing=listing)
    md5 = hashlib.md5(usedforsecurity=False)
    reporter = run.reporter(Phase.PROVING, manifest.totals.source_size)
    done = 0

    def take(entry: Entry) -> None:
        nonlocal done
        done += entry.size
        if members.md5(entry, run.check) != entry.md5:
            raise damaged_at(archive, entry, "its content has another md5")
        reporter.show(done)

    with ArchiveMembers(archive, observe=md5.update) as members:
        compare_members(archive, members, as_packed(archive, manifest, listing), take, run.check)
    _require_digest(archive, manifest, md5.hexdigest())
    reporter.show(done, last=True)


class _Comparison:
    """Takes the tar stream in pieces and compares it with the expected stream."""

    def __init__(self, archive: Path, manifest: Manifest, entries: Iterable[Entry], *, members: bool) -> None:
        self._archive = archive
        self._members = members
        self._block_size = manifest.blocks.size
        self._blocks = len(manifest.blocks.compressed)
        self._block = 0
        self._member: Entry | None = None
        self._expected = self._stream(manifest.asset.encode(), entries)
        self._content: Entry | None = None
        self._literal = b""
        self._left = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.source_bytes = 0

    def compare(self, block: Buffer | None) -> None:
        """Compare the next block of the stream; None: that block is damaged."""
        self._block += 1
        if block is None or (len(block) != self._block_size and self._block < self._blocks):
            if not self._left:
                self._next()  # the member that begins in this block is the first bad one
            raise self._damaged(f"block {self._block} of {self._blocks} is damaged")
        view = memoryview(block)
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
        """Go on to the next bytes or the next file that is expected; False after the last."""
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
        """The whole tar stream that is expected: its bytes, and a file's entry in place of the file's content."""
        length = 0
        for entry in entries:
            self._member = entry
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
        self._member = None
        yield tar.ending(length)

    def _damaged(self, what: str) -> DamagedArchiveError:
        return damaged_at(self._archive, self._member, what)


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
