"""The members that the walk over an asset yields."""

import os
import stat
from enum import StrEnum
from typing import NamedTuple

from refgenied.model import Access


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


class Member(NamedTuple):
    """One file, folder or link of an asset."""

    path: bytes
    """Relative to the asset's folder, '/'-separated; b"" is that folder itself."""
    kind: Kind
    mode: int
    """Permission bits."""
    size: int
    """Bytes of a FILE; 0 for other kinds."""
    mtime_ns: int
    ctime_ns: int
    inode: int
    target: bytes
    """The target of a LINK, always relative and inside the asset; else b""."""
    foreign: bool
    """In the asset this is a link to another part of the genome folder. (refgenie's own asset_digest ignores links.)"""


def member_of(path: bytes, kind: Kind, info: os.stat_result, *, foreign: bool, target: bytes = b"") -> Member:
    size = info.st_size if kind is Kind.FILE else 0
    mode = stat.S_IMODE(info.st_mode)
    return Member(path, kind, mode, size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, target, foreign)


def access_to(member: Member) -> Access:
    """Who may read the member. A link has no rights of its own."""
    return Access.EVERYONE if member.kind is Kind.LINK else Access.of(member.mode, folder=member.kind is Kind.FOLDER)


def kind_of_special(mode: int) -> str:
    """The word for a thing that is not a file, folder or link."""
    words = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return words.get(stat.S_IFMT(mode), "special file")
