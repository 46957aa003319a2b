"""Packing: one pass over an asset's files makes the archive, its list of members and all digests."""

from collections.abc import Iterable, Iterator

import msgspec

from refgenied.archive.format import tar
from refgenied.archive.format.blocks import BLOCK_SIZE, SMALL_FILE_BYTES, Block, BlockWriter, Passing
from refgenied.archive.format.codec import Buffer, Codec
from refgenied.archive.format.digests import AssetDigest, ContentDigest
from refgenied.archive.format.entries import Entry, EntryList, entry_of
from refgenied.archive.format.manifest import BlockTable, Packed
from refgenied.archive.format.output import Output
from refgenied.archive.format.pipeline import Pipeline
from refgenied.archive.format.sorting import sorted_tokens
from refgenied.archive.place import Place
from refgenied.archive.run import Check, Phase, Run
from refgenied.files.regular import unreadable
from refgenied.genomes.enclosure import shown
from refgenied.genomes.member import Kind, Member
from refgenied.genomes.walk import Tree
from refgenied.model import RefgeniedError, SourceChangedError


def pack_tree(tree: Tree, place: Place, total: int, *, codec: Codec, run: Run, mode: int = 0o644) -> Packed:
    """Write the archive and its list of members under their partial names, with the permission bits `mode`.

    `total` bytes of source files are expected. The bytes of the archive depend on the tree and the codec, never on the
    number of threads. Errors of the tree and of `run.check`, SourceChangedError, UnreadableError, NoSpaceError,
    WriteError. After an error the partial files stay.
    """
    reporter = run.reporter(Phase.PACKING, total)
    asset_digest, content_digest = AssetDigest(), ContentDigest()
    done = 0

    def retire(block: Block) -> None:
        # This runs in the caller's thread. A separate thread would compete for the interpreter at every small file.
        nonlocal done
        ended = [entry_of(passing) for passing in block.ended]
        asset_digest.add(ended)
        content_digest.add(ended)
        entries.add(ended)
        done += block.source_bytes
        blocks.recycle(block)
        reporter.show(done)

    with (
        EntryList(place.entries.name, place.entries_partial, mode) as entries,
        Output(place.archive_partial, mode) as output,
    ):
        with Pipeline[Block, Buffer](
            work=lambda block: codec.compress(block.content, block.files),
            then=output.append,
            aside=Block.hash,
            retire=retire,
            run=run,
        ) as pipeline:
            blocks = BlockWriter(pipeline.push)
            _feed(tree, place.key.asset.encode(), blocks, run.check)
            pipeline.finish()
        reporter.show(done, last=True)
        output.sync()
        inline, sidecar = entries.finish()
        return Packed(
            size=output.size,
            digest=output.digest,
            content_digest=content_digest.hexdigest(),
            asset_digest=asset_digest.hexdigest() if asset_digest.in_order else "",
            totals=entries.totals,
            blocks=BlockTable(BLOCK_SIZE, tuple(output.sizes)),
            entries=inline,
            entries_file=sidecar,
        )


def _feed(tree: Tree, top: bytes, blocks: BlockWriter, check: Check) -> None:
    """Write the whole tar stream, from the first header to the end."""
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


def _feed_file(tree: Tree, header: bytes, passing: Passing, blocks: BlockWriter, check: Check) -> None:
    member = passing.member
    fd = tree.open(member)
    try:
        count = blocks.take(header, passing, fd) if 0 < member.size <= SMALL_FILE_BYTES else -1
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


def _feed_content(fd: int, left: int, passing: Passing, blocks: BlockWriter, check: Check) -> None:
    while left:
        check()
        try:
            count = blocks.read(passing, fd, left)
        except OSError as error:
            raise _unreadable(passing.member, error) from error
        if not count:
            raise SourceChangedError(f"{shown(passing.member.path)} became shorter while it was read")
        left -= count


def _unreadable(member: Member, error: OSError) -> RefgeniedError:
    return unreadable(shown(member.path), error, hint="look at the genome folder's disk")


def in_packing_order(top: bytes, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The members in the order in which we would have packed them (other programs have other orders).

    `top` is the archive's top folder. Memory is bounded.
    """
    lines = ((msgspec.json.encode(entry), tar.member_name(top, entry.raw_path, entry.type)) for entry in entries)
    for line in sorted_tokens(lines):
        yield msgspec.json.decode(line, type=Entry)
