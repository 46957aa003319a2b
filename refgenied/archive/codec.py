"""How one block becomes one gzip member, and back.

A codec's choice may depend on the block's content alone, so that the same asset gives the same bytes for any
number of threads, today and tomorrow.
"""

from __future__ import annotations

import platform
from typing import Protocol

import deflate  # its stubs want Python 3.12: hence the ignores
import msgspec

Buffer = bytes | bytearray | memoryview


class CodecRecord(msgspec.Struct, frozen=True):
    """Which codec made an archive's bytes, as its manifest keeps it."""

    name: str
    level: int
    library: str
    version: str
    machine: str


class Codec(Protocol):
    """Makes whole gzip members; called from several threads at once."""

    @property
    def record(self) -> CodecRecord: ...

    def compress(self, block: Buffer) -> Buffer:
        """One gzip member with no time and no name in its header."""
        ...


class Libdeflate:
    """libdeflate at one level, 1 (fast) to 12 (small). The same bytes on every machine and from 0.7 to
    0.9.
    """

    def __init__(self, level: int = 6) -> None:
        self._level = level
        self.record = CodecRecord(
            name="libdeflate",
            level=level,
            library="deflate",
            version=deflate.__version__,
            machine=platform.machine(),
        )

    def compress(self, block: Buffer) -> Buffer:
        return deflate.gzip_compress(block, self._level)  # pyright: ignore[reportUnknownMemberType]


def decompress(member: Buffer, limit: int) -> Buffer | None:
    """The content of one gzip member, whose checksum was compared; None when it is damaged.

    `limit` is the most bytes it may hold. A size that says more is damage too: nothing is allocated for it.
    """
    view = memoryview(member)
    if len(view) < 18 or int.from_bytes(view[-4:], "little") > limit:
        return None
    try:
        return deflate.gzip_decompress(member, limit)  # pyright: ignore[reportUnknownMemberType]
    except deflate.DeflateError:
        return None
