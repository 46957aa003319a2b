"""Stamps: two equal stamps mean that nothing was built, written or touched in between."""

import os
import stat
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from refgenied.files.regular import is_shortage
from refgenied.genomes.build_folder import BUILD_FOLDER, Flag
from refgenied.genomes.enclosure import MAX_NAMES, translated
from refgenied.genomes.member import access_to
from refgenied.genomes.small_files import some_names
from refgenied.genomes.walk import Tree
from refgenied.model import Access, UnsafeTreeError


class FilesStamp(NamedTuple):
    stamp: str
    """A hash over an asset's files: path, type, mode, size, mtime, ctime, inode, link target."""
    access: Access
    """Who may read them all."""
    size: int
    """Bytes of all files together; 0 for a tree that the walk refuses."""


def stamp_files(folder: str, within: str) -> FilesStamp:
    """What an asset's files are now.

    If the walk refuses the tree, the hash covers everything that is visible without following links: the refusal holds
    as long as the tree stays as it is. UnreadableError, SourceChangedError, ShortageError.
    """
    digest = blake2b(digest_size=16)
    access = access_above(folder, within)
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


def access_above(folder: str, within: str) -> Access:
    """Who may enter the folders between the genome folder and an asset's folder, without these two. OSError."""
    access = Access.EVERYONE
    above = os.path.dirname(folder)
    while len(above) > len(within) and above.startswith(within):
        access = access.narrowed(Access.of(os.stat(above).st_mode, folder=True))
        above = os.path.dirname(above)
    return access


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
