"""Compares an asset's files with an archive. The files are read and hashed, but not compressed."""

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import Manifest, entries_of, is_seekable
from refgenied.archive.format.members import md5_of
from refgenied.archive.packer import in_packing_order
from refgenied.archive.run import Check, Phase, Run
from refgenied.genomes.enclosure import shown
from refgenied.genomes.member import Kind, Member
from refgenied.genomes.walk import Tree
from refgenied.model import SourceChangedError

_READ_BYTES = 1 << 20


def same_content(tree: Tree, archive: Path, manifest: Manifest, run: Run, *, listing: str | None = None) -> bool:
    """Whether the tree (entered by the caller) has the content that a manifest describes; times do not count.

    Names, kinds, modes and sizes are compared first. If they differ, no file is read. `listing` as for `prove`. Errors
    of the tree, and DamagedArchiveError for the list of members.
    """

    def pairs() -> Iterator[tuple[Member | None, Entry | None]]:
        """Members and entries in the tree's order; None where one side has no more."""
        entries = entries_of(manifest, archive.parent, listing)
        if not is_seekable(manifest):
            entries = in_packing_order(manifest.asset.encode(), entries)
        for pair in zip_longest(tree.to_read(), entries):
            run.check()
            yield pair

    if not all(_alike(member, entry) for member, entry in pairs()):
        return False
    reporter = run.reporter(Phase.PROVING, manifest.totals.source_size)
    done = 0
    for member, entry in pairs():
        if member is None or entry is None or not _alike(member, entry):
            return False
        if member.kind is Kind.FILE and _md5(tree, member, run.check) != entry.md5:
            return False
        done += member.size
        reporter.show(done)
    return True


def _alike(member: Member | None, entry: Entry | None) -> bool:
    return (
        member is not None
        and entry is not None
        and member.path == entry.raw_path
        and member.kind is entry.type
        and member.mode == entry.permissions
        and member.size == entry.size
        and member.target == entry.raw_target
    )


def _md5(tree: Tree, member: Member, check: Check) -> str:
    fd = tree.open(member)
    md5, size = md5_of(_content(fd, member.size), check)
    if size < member.size:
        raise SourceChangedError(f"{shown(member.path)} became shorter while it was read")
    tree.confirm(member)
    return md5


def _content(fd: int, left: int) -> Iterator[bytes]:
    while left and (data := os.read(fd, min(left, _READ_BYTES))):
        left -= len(data)
        yield data
