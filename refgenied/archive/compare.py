"""Whether an asset's files are what an archive holds: read and hashed, but not compressed."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive.format import tar
from refgenied.archive.format.entries import Entry
from refgenied.archive.format.members import is_seekable
from refgenied.archive.format.sorting import sorted_tokens
from refgenied.archive.run import Check, Meter, OnProgress, Phase, no_check, no_progress
from refgenied.genomes.walk import Kind
from refgenied.model import SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from refgenied.archive.format.manifest import Manifest
    from refgenied.genomes.walk import Member, Tree

_CHUNK = 1 << 20


def same_content(
    tree: Tree,
    manifest: Manifest,
    entries: Callable[[], Iterable[Entry]],
    *,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> bool:
    """Whether the tree (entered by the caller) has the content that the manifest describes; times do not count.

    `entries` gives the manifest's members; it is called twice.
    Names, kinds, modes and sizes are compared first, so that a difference there costs no reading. Raises what the tree
    raises, and DamagedArchiveError for the list of members.
    """
    if not all(_alike(member, entry) for member, entry in _pairs(tree, manifest, entries(), check)):
        return False
    meter = Meter(Phase.PROVING, manifest.totals.source_size, on_progress)
    done = 0
    for member, entry in _pairs(tree, manifest, entries(), check):
        if member is None or entry is None or not _alike(member, entry):
            return False
        if member.kind is Kind.FILE and _md5(tree, member, check) != entry.md5:
            return False
        done += member.size
        meter.show(done)
    return True


def _pairs(
    tree: Tree, manifest: Manifest, listed: Iterable[Entry], check: Check
) -> Iterator[tuple[Member | None, Entry | None]]:
    """Members and entries in the tree's order; None where one side has no more."""
    entries = _in_order(manifest, listed)
    for member in tree.to_read():
        check()
        yield member, next(entries, None)
    entry = next(entries, None)
    if entry is not None:
        yield None, entry


def _in_order(manifest: Manifest, entries: Iterable[Entry]) -> Iterator[Entry]:
    """As we would have packed them: other programs have other orders."""
    if is_seekable(manifest):
        yield from entries
        return
    top = manifest.asset.encode()
    lines = ((msgspec.json.encode(entry), tar.member_name(top, entry.raw_path, entry.type)) for entry in entries)
    for line in sorted_tokens(lines):
        yield msgspec.json.decode(line, type=Entry)


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
    md5 = hashlib.md5(usedforsecurity=False)
    fd = tree.open(member)
    left = member.size
    while left:
        check()
        data = os.read(fd, min(left, _CHUNK))
        if not data:
            raise SourceChangedError(f"{member.path!r} became shorter while it was read")
        md5.update(data)
        left -= len(data)
    tree.confirm(member)
    return md5.hexdigest()
