"""Stamps: two equal stamps mean that nothing was built, written or touched in between."""

import os
import stat
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from refgenied.files.regular import is_shortage
from refgenied.genomes.build_folder import BUILD_FOLDER, Flag
from refgenied.genomes.enclosure import MAX_NAMES, Enclosure, translated
from refgenied.genomes.member import Kind, access_to
from refgenied.genomes.plain_tree import NotPlainError, plain_members
from refgenied.genomes.small_files import some_names
from refgenied.genomes.walk import Tree
from refgenied.model import Access, UnsafeTreeError

_EXCLUDED = frozenset({BUILD_FOLDER})


class FilesStamp(NamedTuple):
    stamp: str
    """A hash over an asset's files: path, type, mode, size, mtime, ctime, inode, link target."""
    access: Access
    """Who may read them all."""
    size: int
    """Bytes of all files together; 0 for a tree that the walk refuses."""


def stamp_files(folder: str, within: Enclosure, above: dict[str, Access] | None = None) -> FilesStamp:
    """What an asset's files are now. `above` keeps who may enter the folders above it, for the assets beside it.

    If the walk refuses the tree, the hash covers everything that is visible without following links: the refusal holds
    as long as the tree stays as it is. UnreadableError, SourceChangedError, ShortageError.
    """
    access = access_above(folder, within.path, {} if above is None else above)
    return _stamp_plain(folder, within, access) or _stamp_walked(folder, within, access)


def _stamp_plain(folder: str, within: Enclosure, access: Access) -> FilesStamp | None:
    """The stamp of a tree without links, which nearly all are; None when it takes the walk."""
    said: list[bytes] = []
    size = 0
    try:
        for path, kind, mode, info in plain_members(within, folder, _EXCLUDED):
            own = info.st_size if kind is Kind.FILE else 0
            numbers = f"{kind}({mode}, {own}, {info.st_mtime_ns}, {info.st_ctime_ns}, {info.st_ino})0"
            said.append(b"%b\0%b\0\0" % (path, numbers.encode()))
            size += own
            if mode & 0o055 != 0o055:
                access = access.narrowed(Access.of(mode, folder=kind is Kind.FOLDER))
    except (NotPlainError, OSError):
        return None
    return FilesStamp(blake2b(b"".join(said), digest_size=16).hexdigest(), access, size)


def _stamp_walked(folder: str, within: Enclosure, access: Access) -> FilesStamp:
    digest = blake2b(digest_size=16)
    size = 0
    try:
        with Tree(folder, within=within) as tree:
            for member in tree:
                access = access.narrowed(access_to(member)) if member.mode & 0o055 != 0o055 else access
                numbers = f"{member.kind}{member[2:7]}{member.foreign:d}"
                digest.update(b"%b\0%b\0%b\0" % (member.path, numbers.encode(), member.target))
                size += member.size
    except UnsafeTreeError:
        return FilesStamp(_stamp_as_seen(os.fsencode(folder)), access, 0)
    return FilesStamp(digest.hexdigest(), access, size)


def access_above(folder: str, within: str, known: dict[str, Access]) -> Access:
    """Who may enter the folders between the genome folder and an asset's folder, without these two. OSError."""
    above = os.path.dirname(folder)
    if len(above) <= len(within) or not above.startswith(within):
        return Access.EVERYONE
    if above not in known:
        own = Access.of(os.stat(above).st_mode, folder=True)
        higher = access_above(above, within, known)
        known[above] = own if higher is own else own.narrowed(higher)
    return known[above]


def stamp_of(files_stamp: str, flags: tuple[Flag, ...], digest: str | None, seek_keys: Mapping[str, str]) -> str:
    """A hash over the files' stamp, the completed flags and refgenie's entry."""
    said = repr((files_stamp, flags, digest, sorted(seek_keys.items())))
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _stamp_as_seen(folder: bytes) -> str:
    digest = blake2b(b"unsafe", digest_size=16)
    pending = [folder]
    while pending:
        path = pending.pop()
        try:
            info = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else b""
            names = some_names(os.fsdecode(path), MAX_NAMES) if stat.S_ISDIR(info.st_mode) else []
        except OSError as error:
            if is_shortage(error):
                raise translated(error, path) from error
            digest.update(b"%b\0%d\0" % (path, error.errno or 0))
            continue
        numbers = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        digest.update(b"%b\0%b\0%b\0" % (path, repr(numbers).encode(), target))
        below = (name for name in names if path != folder or name != BUILD_FOLDER)
        pending += [path + b"/" + os.fsencode(name) for name in below]
    return digest.hexdigest()
