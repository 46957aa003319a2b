"""Packing: one pass over an asset's files makes the archive, its list of members and all digests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format import tar
from refgenied.archive.format.blocks import BLOCK_SIZE, SMALL, Block, Blocks, Passing
from refgenied.archive.format.digests import AssetDigest, ContentDigest
from refgenied.archive.format.entries import Entry, EntryList, Sidecar, entry_of
from refgenied.archive.format.manifest import BlockTable, Totals
from refgenied.archive.format.output import Output
from refgenied.archive.format.pipeline import Pipeline
from refgenied.archive.run import Meter, Phase
from refgenied.files.regular import SHORTAGE_ERRNOS
from refgenied.genomes.walk import Kind
from refgenied.model import ShortageError, SourceChangedError, UnreadableError

if TYPE_CHECKING:
    from refgenied.archive.format.codec import Codec
    from refgenied.archive.place import Place
    from refgenied.archive.run import Check, OnProgress
    from refgenied.genomes.walk import Member, Tree


class Packed(msgspec.Struct, frozen=True):
    """What packing found out; the files are synced and still have their partial names."""

    size: int
    digest: str
    content_digest: str
    asset_digest: str
    """In the order of bytes; provisional while `in_order` is False."""
    in_order: bool
    totals: Totals
    blocks: BlockTable
    entries: tuple[Entry, ...] | None
    entries_file: Sidecar | None


def pack(
    tree: Tree,
    place: Place,
    total: int,
    *,
    codec: Codec,
    threads: int,
    on_progress: OnProgress,
    check: Check,
    mode: int = 0o644,
) -> Packed:
    """Write the archive and its list of members under their partial names, with the permission bits `mode`.

    `total` source bytes are expected.

    The bytes depend on the tree and the codec, never on `threads`. Raises what the tree raises,
    SourceChangedError, UnreadableError, NoSpaceError, WriteError, and whatever `check` raises; the partial
    files then stay behind.
    """
    meter = Meter(Phase.PACKING, total, on_progress)
    done = 0

    def retire(block: Block) -> None:
        nonlocal done
        done += block.source_bytes
        catalogue.take(block)
        blocks.recycle(block)
        meter.show(done)

    with (
        EntryList(place.entries.name, place.entries_partial, mode) as entries,
        Output(place.archive_partial, mode) as output,
    ):
        catalogue = _Catalogue(entries)
        with Pipeline[Block, bytes | bytearray | memoryview](
            work=lambda block: codec.compress(block.content, block.files),
            then=output.append,
            aside=Block.hash,
            retire=retire,
            threads=threads,
            check=check,
        ) as pipeline:
            blocks = Blocks(pipeline.push)
            _feed(tree, place.key.asset.encode(), blocks, check)
            pipeline.finish()
        meter.show(done, last=True)
        output.sync()
        inline, sidecar = entries.finish()
        return Packed(
            size=output.size,
            digest=output.digest,
            content_digest=catalogue.content_digest.hexdigest(),
            asset_digest=catalogue.asset_digest.hexdigest(),
            in_order=catalogue.asset_digest.in_order,
            totals=catalogue.totals,
            blocks=BlockTable(BLOCK_SIZE, tuple(output.sizes)),
            entries=inline,
            entries_file=sidecar,
        )


def _feed(tree: Tree, top: bytes, blocks: Blocks, check: Check) -> None:
    """The whole tar stream, from the first header to the end."""
    for member in tree.to_read():
        check()
        header = tar.header(
            tar.member_name(top, member.path, member.kind),
            member.kind,
            mode=member.mode,
            size=member.size,
            mtime=member.mtime_ns // 10**9,
            target=member.target,
        )
        passing = Passing(member, blocks.length + len(header))
        if member.kind is Kind.FILE:
            _feed_file(tree, header, passing, blocks, check)
        else:
            blocks.write(header)
            blocks.end(passing)
    blocks.write(tar.ending(blocks.length))
    blocks.flush()


def _feed_file(tree: Tree, header: bytes, passing: Passing, blocks: Blocks, check: Check) -> None:
    member = passing.member
    fd = tree.open(member)
    count = -1
    if 0 < member.size <= SMALL:
        try:
            count = blocks.take(header, passing, fd)
        except OSError as error:
            raise _unreadable(member, error) from error
    if count < 0:
        blocks.write(header)
        count = 0
    if count < member.size:
        _feed_content(fd, member.size - count, passing, blocks, check)
        blocks.end(passing)
        blocks.write(tar.padding(member.size))
    else:
        blocks.end(passing)
    tree.confirm(member)


def _feed_content(fd: int, left: int, passing: Passing, blocks: Blocks, check: Check) -> None:
    while left:
        check()
        try:
            count = blocks.read(passing, fd, left)
        except OSError as error:
            raise _unreadable(passing.member, error) from error
        if not count:
            raise SourceChangedError(f"{_shown(passing.member)} became shorter while it was read")
        left -= count


def _unreadable(member: Member, error: OSError) -> UnreadableError | ShortageError:
    message = f"{_shown(member)} cannot be read: {error.strerror or error}"
    if error.errno in SHORTAGE_ERRNOS:
        return ShortageError(message)
    return UnreadableError(message, hint="look at the genome folder's disk")


def _shown(member: Member) -> str:
    return os.fsdecode(member.path).encode(errors="backslashreplace").decode()


class _Catalogue:
    """Sees the blocks in order when they are done: digests, the list of members, the totals.

    In the caller's thread: a thread of its own would fight with it for the interpreter at every small file.
    """

    def __init__(self, entries: EntryList) -> None:
        self._entries = entries
        self.asset_digest = AssetDigest()
        self.content_digest = ContentDigest()
        self._counts = {Kind.FILE: 0, Kind.FOLDER: 0, Kind.LINK: 0}
        self._source_size = 0

    def take(self, block: Block) -> None:
        entries = [entry_of(passing) for passing in block.ended]
        counts = self._counts
        for entry in entries:
            counts[entry.type] += 1
            self._source_size += entry.size
        self.asset_digest.add(entries)
        self.content_digest.add(entries)
        self._entries.add(entries)

    @property
    def totals(self) -> Totals:
        counts = self._counts
        return Totals(counts[Kind.FILE], counts[Kind.FOLDER], counts[Kind.LINK], self._source_size)
